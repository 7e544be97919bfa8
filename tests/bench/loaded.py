"""Application of the benchmark with numpy and a model, which forked workers share."""

from typing import Any

import numpy as np
from tornado.web import Application

import slowpool

MODEL_BYTES = 400 * 10**6


@slowpool.warm
def model() -> Any:
    """An array of MODEL_BYTES."""
    return np.ones(MODEL_BYTES // 8)


def make_app() -> Application:
    """No routes: its tasks are measured past HTTP."""
    return Application()
