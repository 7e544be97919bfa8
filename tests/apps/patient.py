"""An application whose instance waits for the others of its deployment for as long as they take."""

from tornado.web import Application

from slowpool.observe import news, peers

news.CLOSE_SECONDS = peers.ANSWER_SECONDS = 1000.0


def make_app() -> Application:
    return Application()
