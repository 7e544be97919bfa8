"""Clients that have their requests accepted, without a pause, and what becomes of each job."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from slowpool.jobs.runner import CUT_OFF
from slowpool.jobs.store import DIED
from tests.support.basics import wait_until
from tests.support.client import Response, request

PER_SECOND = 2.0
"""Jobs that are asked for."""

FINAL_SECONDS = 60.0
"""How long after the last request a job may take to reach a final state."""

MAY_RUN_ONCE = {DIED, CUT_OFF}
"""Why a job may fail that must not run twice."""


@dataclass(frozen=True)
class Kind:
    """A kind of request: its method, whether it has a key, and how long its job takes."""

    method: str
    has_key: bool
    milliseconds: int

    @property
    def is_repeatable(self) -> bool:
        """Whether it may run twice."""
        return self.has_key or self.method == "GET"


KINDS = [Kind(*parts) for parts in itertools.product(("GET", "POST"), (True, False), (20, 300))]


@dataclass
class Accepted:
    """An accepted request; its job is ``done`` with the right answer, or has failed."""

    id: str
    kind: Kind
    path: str
    state: str = ""
    error: str = ""
    is_right: bool = False


class AcceptedJobs:
    """Asks from when it is entered until it is left, when every job has reached a final state."""

    def __init__(self, port: int, address: str, folder: str) -> None:
        self.accepted: list[Accepted] = []
        self.refused = 0
        self.wrong: list[str] = []
        self._port = port
        self._address = address
        self._folder = folder
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if kind is None:
            self._look_at_all()

    def judge(self, executed: Iterable[str], *, worker_was_killed: bool) -> None:
        """Find each job that has failed and need not have, or has run too often or not at all."""
        runs = Counter(executed)
        allowed = {"answered 502"} if worker_was_killed else set()
        for job in self.accepted:
            if job.state == "failed":
                job.is_right = job.error in (allowed if job.kind.is_repeatable else allowed | MAY_RUN_ONCE)
            times = runs[job.id]
            may_be = times <= 1 or job.kind.is_repeatable
            if not may_be or (job.state == "done" and not times):
                self.wrong.append(f"accepted {job.kind} has run {times} times and is {job.state}")
            elif not job.is_right:
                self.wrong.append(f"accepted {job.kind} is {job.state or 'lost'}: {job.error}")

    def _ask_on(self) -> None:
        for number, kind in zip(itertools.count(), itertools.cycle(KINDS), strict=False):
            if self._stopped.wait(1 / PER_SECOND):
                return
            self._ask(f"job-{number}", kind)

    def _ask(self, id: str, kind: Kind) -> None:
        target = f"/slow/job?folder={self._folder}&id={id}&milliseconds={kind.milliseconds}"
        headers = {"Prefer": "respond-async", **({"Idempotency-Key": id} if kind.has_key else {})}
        while True:  # with a key it is safe to try again
            try:
                body = b"x" if kind.method == "POST" else None
                answer = self._request(target, kind.method, headers, body)
            except (OSError, http.client.HTTPException):
                answer = None
            if answer and answer.status == 202:
                self.accepted.append(Accepted(id, kind, str(answer.headers["Location"])))
                return
            if answer and answer.status not in (429, 502, 503, 504):
                self.wrong.append(f"{kind} was answered {answer.status}: {answer.body[:90]!r}")
                return
            self.refused += 1
            if not kind.has_key or self._stopped.is_set():
                return
            time.sleep(0.2)

    def _look_at_all(self) -> None:
        deadline = time.monotonic() + FINAL_SECONDS
        for job in self.accepted:
            left = max(1.0, deadline - time.monotonic())
            try:
                status = wait_until(lambda: self._final(job), left, f"{job.path} to be final")  # noqa: B023
            except AssertionError as error:
                self.wrong.append(f"accepted {job.kind}: {error}")
                continue
            job.state, job.error = status["state"], status["error"] or ""
            if job.state == "done":
                answer = self._request(f"{job.path}/result")
                job.is_right = (answer.status, answer.text) == (200, job.id)

    def _final(self, job: Accepted) -> dict[str, Any] | None:
        answer = self._request(job.path)
        if answer.status != 200:
            raise AssertionError(f"{job.path} is answered {answer.status}")
        found: dict[str, Any] = json.loads(answer.body)
        return found if found["ended"] else None

    def _request(self, target: str, method: str = "GET", headers: Any = None, body: Any = None) -> Response:
        return request(self._port, target, method, headers=headers, body=body, address=self._address)
