"""Application of the benchmark with numpy and a model, which only its workers load and share."""

from typing import Any

from tornado.web import Application

import slowpool

MODEL_BYTES = 400 * 10**6


@slowpool.warm
def model() -> Any:
    """An array of MODEL_BYTES."""
    import numpy as np

    return np.ones(MODEL_BYTES // 8)


def total() -> float:
    """Read all of the model."""
    return float(model().sum())


def make_app() -> Application:
    """No routes: its tasks are measured past HTTP."""
    return Application()
