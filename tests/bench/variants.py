"""``python -m tests.bench.variants NAME …``: an instance without one of the things that watch it."""

import sys

from slowpool import __main__ as app
from slowpool.observe.loop_watch import LoopWatch
from slowpool.observe.metrics import Metrics
from slowpool.observe.requests import RequestTracker


def without_metrics() -> None:
    Metrics.request = lambda *_: None  # type: ignore[method-assign]


def without_loop_watch() -> None:
    LoopWatch.__init__ = LoopWatch.close = lambda *_: None  # type: ignore[method-assign,assignment]


def without_access_log() -> None:
    RequestTracker.begin = RequestTracker.end = lambda *_, **__: None  # type: ignore[method-assign,assignment]


VARIANTS = {
    "whole": lambda: None,
    "without_metrics": without_metrics,
    "without_loop_watch": without_loop_watch,
    "without_access_log_and_metrics": without_access_log,
}

if __name__ == "__main__":
    VARIANTS[sys.argv[1]]()
    sys.exit(app.main(sys.argv[2:]))
