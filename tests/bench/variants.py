"""``python -m tests.bench.variants NAME …``: an instance without one of the things that watch it."""

import os
import sys

from slowpool import __main__ as app
from slowpool.observe import loop_watch
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

SHARE_OF_CORE = "BENCH_SHARE_OF_CORE"
"""In the environment: the part of a core that the instance has. The loop watch goes by the clock, and so more
slowly, to take the same part of the instance's CPU time as with a whole core."""

if __name__ == "__main__":
    loop_watch.BEAT_SECONDS /= float(os.environ.get(SHARE_OF_CORE, "1"))
    VARIANTS[sys.argv[1]]()
    sys.exit(app.main(sys.argv[2:]))
