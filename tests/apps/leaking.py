"""An instance whose memory grows on request."""

from tornado.web import Application, RequestHandler

leaked: list[bytes] = []


class LeakHandler(RequestHandler):
    """Keeps so much memory."""

    def get(self) -> None:
        leaked.append(b"x" * (int(self.get_argument("megabytes")) << 20))
        self.finish("leaked")


class OkHandler(RequestHandler):
    """Answers."""

    def get(self) -> None:
        self.finish(self.get_argument("id", "ok"))


def make_app() -> Application:
    return Application([(r"/leak", LeakHandler), (r"/ok", OkHandler)])
