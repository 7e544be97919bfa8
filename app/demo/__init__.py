"""The example application: a package like your own, served with ``APP=demo:make_app``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the workers import this package for its tasks, which need no Tornado
    from tornado.web import Application


def make_app() -> "Application":
    """The application with all routes of the demo."""
    from tornado.web import Application

    from demo.handlers import NotFoundHandler
    from demo.routes import routes, status_page

    return Application(
        routes,
        default_handler_class=NotFoundHandler,
        default_handler_args={"status_code": 404},
        status_page=status_page(),
    )
