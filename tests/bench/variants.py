"""``python -m tests.bench.variants NAME …``: an instance without one of the things that watch it."""

import sys

from slowpool import __main__ as app
from slowpool.observe.loop_watch import LoopWatch
from slowpool.observe.metrics import Metrics


def without_metrics() -> None:
    """Metrics of requests, and the history of the last ten minutes."""
    Metrics.request = Metrics.sample = lambda *_: None  # type: ignore[method-assign,assignment]


def without_loop_watch() -> None:
    """The loop watch's thread, and its beat in the loop."""
    LoopWatch.__init__ = LoopWatch.close = lambda *_: None  # type: ignore[method-assign,assignment]


def unwatched() -> None:
    """Without either."""
    without_metrics()
    without_loop_watch()


VARIANTS = {
    "whole": lambda: None,
    "without_metrics": without_metrics,
    "without_loop_watch": without_loop_watch,
    "unwatched": unwatched,
}

if __name__ == "__main__":
    VARIANTS[sys.argv[1]]()
    sys.exit(app.main(sys.argv[2:]))
