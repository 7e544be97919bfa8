"""flower, Celery's monitor: the Application that its own command makes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from celery import Celery
from flower.app import Flower
from flower.urls import settings
from tornado.options import options


@asynccontextmanager
async def started(app: Flower) -> AsyncIterator[None]:
    app.events.start()
    yield
    app.events.stop()


def make_app() -> Flower:
    return Flower(capp=Celery(broker="memory://"), options=options, lifespan=started, **settings)
