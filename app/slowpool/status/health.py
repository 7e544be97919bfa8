"""Probes of one instance, on its own port; nginx does not publish them."""

from slowpool.instance import State
from slowpool.status.handlers import Handler


class LivezHandler(Handler):
    """200 while the event loop runs; an instance that does not answer is restarted."""

    def get(self) -> None:
        self.text("ok")


class ReadyzHandler(Handler):
    """200 while the instance takes new requests, 503 otherwise; the body is the state."""

    def get(self) -> None:
        if self.application.runtime.state is not State.READY:
            self.set_status(503)
        self.text(self.application.runtime.state.value)


routes = [
    (r"/-/livez", LivezHandler),
    (r"/-/readyz", ReadyzHandler),
]
