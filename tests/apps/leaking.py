"""An instance whose memory grows on request."""

from slowpool.web import Handler

leaked: list[bytes] = []


class LeakHandler(Handler):
    """Keeps so much memory."""

    def get(self) -> None:
        leaked.append(b"x" * (self.integer("megabytes", default=1, minimum=1, maximum=1000) << 20))
        self.text("leaked")


class OkHandler(Handler):
    """Answers."""

    def get(self) -> None:
        self.text(self.get_argument("id", "ok"))


routes = [(r"/leak", LeakHandler), (r"/ok", OkHandler)]
