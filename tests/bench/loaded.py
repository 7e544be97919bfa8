"""Application of the benchmark with numpy and a model, which only its workers load and share."""

from typing import Any

from tornado.web import Application, RequestHandler

import slowpool
from tests.bench.tasks import MODEL_BYTES


@slowpool.warm
def model() -> Any:
    """An array of MODEL_BYTES."""
    import numpy as np

    return np.ones(MODEL_BYTES // 8)


def total() -> float:
    """Read all of the model."""
    return float(model().sum())


class TotalHandler(RequestHandler):
    async def get(self) -> None:
        self.write(f"{await slowpool.run(total)}")


def make_app() -> Application:
    return Application([("/total", TotalHandler)])
