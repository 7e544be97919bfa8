"""Host: gives each request that an HTTP server receives to a Receiver."""

from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.web import Application

from slowpool.instance import Runtime
from slowpool.web.receiver import Receiver
from slowpool.web.templates import RouteTemplates


class Host(HTTPServerConnectionDelegate):
    """Serves one application, as it is, and the system routes beside it."""

    def __init__(self, runtime: Runtime, app: Application) -> None:
        self._runtime = runtime
        self._app = app
        self._templates = RouteTemplates(app)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return Receiver(self._runtime, self._app, self._templates, server_conn, request_conn)
