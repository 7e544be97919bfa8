"""Probes of one instance, on its own port; nginx does not publish them."""

from slowpool.instance import State
from slowpool.status.handlers import Handler
from slowpool.web.exchange import Exchange
from slowpool.web.nginx import ASKED
from slowpool.workers.asks import IDLE, PLACE


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


class AskHandler(Handler):
    """Tells nginx to send this instance the request for which it asks, or 404."""

    def get(self, ask: str) -> None:
        runtime = self.application.runtime
        takes = runtime.workers.has_idle_worker if ask == IDLE else runtime.workers.has_room
        exchange = self.request.connection
        if runtime.state is State.READY and takes and isinstance(exchange, Exchange):
            exchange.hand_over(ASKED)
        else:
            self.send_error(404)


routes = [
    (r"/-/livez", LivezHandler),
    (r"/-/readyz", ReadyzHandler),
    (rf"/-/ask/({IDLE}|{PLACE})", AskHandler),
]
