"""Handlers that take bodies: parsed by Tornado, or as they come."""

from typing import Any

from tornado.web import Application, RequestHandler, stream_request_body


class FormHandler(RequestHandler):
    """Says how many fields and files it was sent."""

    def post(self) -> None:
        self.finish(f"{len(self.request.body_arguments)} fields, {len(self.request.files)} files")


@stream_request_body
class StreamHandler(RequestHandler):
    """Says how many bytes it was sent, and keeps none."""

    def prepare(self) -> None:
        self.bytes = 0
        connection: Any = self.request.connection
        connection.set_max_body_size(1 << 30)

    def data_received(self, chunk: bytes) -> None:
        self.bytes += len(chunk)

    def post(self) -> None:
        self.finish(f"{self.bytes} bytes")


class EarlyHandler(StreamHandler):
    """Answers before it is sent anything."""

    def prepare(self) -> None:
        self.finish("early")


class EchoHeadersHandler(RequestHandler):
    """The names of the headers that it was sent."""

    def get(self) -> None:
        self.finish(" ".join(self.request.headers))


def make_app() -> Application:
    return Application(
        [
            (r"/form", FormHandler),
            (r"/stream", StreamHandler),
            (r"/early", EarlyHandler),
            (r"/headers", EchoHeadersHandler),
        ]
    )
