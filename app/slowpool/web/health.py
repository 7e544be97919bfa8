"""Probes of one instance, on its own port; nginx does not publish them."""

from slowpool.web.handlers import Handler


class LivezHandler(Handler):
    """200 while the loop turns: an instance that does not answer this is restarted."""

    def get(self) -> None:
        self.text("ok")


class ReadyzHandler(Handler):
    """200 while new requests should come here, 503 with the state otherwise."""

    def get(self) -> None:
        if not self.application.ready:
            self.set_status(503)
        self.text(self.application.state.value)


routes = [
    (r"/livez", LivezHandler),
    (r"/readyz", ReadyzHandler),
]
