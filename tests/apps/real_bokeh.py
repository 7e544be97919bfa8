"""A plot of Bokeh: the Application of its server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.plotting import figure
from bokeh.server.tornado import BokehTornado
from tornado.ioloop import IOLoop


@asynccontextmanager
async def started(app: BokehTornado) -> AsyncIterator[None]:
    app.initialize(IOLoop.current())
    app.start()
    yield
    app.stop(wait=False)


def make_app() -> BokehTornado:
    plots = {"/plot": Application(FunctionHandler(plot))}
    return BokehTornado(plots, extra_websocket_origins=["*"], lifespan=started)


def plot(document: Document) -> None:
    document.add_root(figure(title="the plot"))
