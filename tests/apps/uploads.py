"""Handlers that take bodies: parsed by Tornado, or as they come."""

from tornado.http1connection import HTTP1Connection
from tornado.web import RequestHandler, stream_request_body

from slowpool.web import Handler


class FormHandler(Handler):
    """Says how many fields and files it was sent."""

    def post(self) -> None:
        self.text(f"{len(self.request.body_arguments)} fields, {len(self.request.files)} files")


class PlainFormHandler(RequestHandler):
    """The same, and nothing of ours."""

    def post(self) -> None:
        self.finish(f"{len(self.request.body_arguments)} fields, {len(self.request.files)} files")


@stream_request_body
class StreamHandler(RequestHandler):
    """Says how many bytes it was sent, and keeps none."""

    def prepare(self) -> None:
        self.bytes = 0
        assert isinstance(self.request.connection, HTTP1Connection)
        self.request.connection.set_max_body_size(1 << 30)

    def data_received(self, chunk: bytes) -> None:
        self.bytes += len(chunk)

    def post(self) -> None:
        self.finish(f"{self.bytes} bytes")


class EchoHeadersHandler(Handler):
    """The names of the headers that it was sent."""

    def get(self) -> None:
        self.text(" ".join(self.request.headers))


routes = [
    (r"/form", FormHandler),
    (r"/plain", PlainFormHandler),
    (r"/stream", StreamHandler),
    (r"/headers", EchoHeadersHandler),
]
