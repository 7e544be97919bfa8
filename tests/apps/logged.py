"""Tasks that log, each in one way; ``/slow/log/TASK`` runs the task of that name."""

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable

from tornado.web import Application, RequestHandler

import slowpool
from slowpool.workers import records

logging.basicConfig(level=logging.DEBUG, format="the application's own %(message)s")
log = logging.getLogger("shop.report")


def logs_in_every_way() -> None:
    log.debug("a detail")
    log.info("a report of %d pages", 3, extra={"pages": 3, "names": ["a", "b"], "when": time.gmtime(0)})
    log.warning("paper is low", stack_info=True)
    fails_and_logs()


def fails_and_logs() -> None:
    try:
        raise ValueError("no paper\x1b[2J")
    except ValueError:
        log.exception("the report failed")


def logs_beside_what_it_prints() -> None:
    print("1")
    log.info("2")
    print("3")
    print("4", end="")
    log.info("5")
    print("6", file=sys.stderr)
    os.write(1, b"7\n")
    log.info("8")


def warns() -> None:
    warnings.simplefilter("always")
    warnings.warn("the paper is old", stacklevel=1)


def logs_what_cannot_be_formatted() -> str:
    class Hostile:
        def __str__(self) -> str:
            raise KeyError("hostile")

    log.error("%d pages", "many")
    log.error(Hostile())
    log.error("a field is hostile", extra={"field": Hostile(), "pages": 3})
    return "done"


def logs_without_its_output() -> str:
    sys.stdout.close()
    sys.stderr.close()
    log.info("still there")
    os.close(2)
    log.info("lost")
    return "done"


def logs_much_at_once() -> None:
    log.error("x" * 10_000_000, extra={"pages": 3})
    log.info("the next")


def logs_until_nothing_more_is_taken() -> None:
    for _ in range(100):
        log.error("x" * 5_000)


def logs_in_threads(threads: int, times: int) -> None:
    def many(thread: int) -> None:
        for number in range(times):
            log.info("%d.%d", thread, number)

    started = [threading.Thread(target=many, args=[thread]) for thread in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def logs_in_a_child() -> None:
    if child := os.fork():
        os.waitpid(child, 0)
        log.info("the parent's")
    else:
        log.error("the child's", extra={"child": os.getpid()})
        os._exit(0)


def prints(data: bytes) -> None:
    os.write(1, data)


def logs_under_other_names() -> None:
    for number in range(100):
        logging.getLogger(f"shop.order{number}").error("lost")


TASKS: dict[str, Callable[[], object]] = {
    task.__name__: task for task in (logs_in_every_way, logs_beside_what_it_prints, warns, logs_in_a_child)
}
FORGED = records.encode(logging.makeLogRecord({"name": "forged", "levelno": 50, "msg": "\x1b[2J\n{}"}))


class LogHandler(RequestHandler):
    async def get(self, task: str) -> None:
        await slowpool.run(TASKS[task])
        self.finish("done")


class PrintHandler(RequestHandler):
    async def post(self) -> None:
        await slowpool.run(prints, self.request.body)
        self.finish("done")


def make_app() -> Application:
    return Application([(r"/slow/log/(\w+)", LogHandler), (r"/slow/print", PrintHandler)])
