"""wrk: a closed loop that keeps its connections busy."""

import os
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

CONNECTIONS = 32


class Load(NamedTuple):
    """What was answered, and the CPU seconds that the generator itself took."""

    per_second: float
    requests: int
    seconds: float
    generator_seconds: float


def wrk(*urls: str, seconds: float, headers: Mapping[str, str] | None = None) -> Load:
    """Keep CONNECTIONS busy for whole seconds, by one wrk for each URL. All answers must be 2xx."""
    loads = wrk_each(*urls, seconds=seconds, headers=headers)
    return Load(
        sum(load.per_second for load in loads),
        sum(load.requests for load in loads),
        loads[0].seconds,
        sum(load.generator_seconds for load in loads),
    )


def wrk_each(*urls: str, seconds: float, headers: Mapping[str, str] | None = None) -> list[Load]:
    """The same at once, what was answered by each URL."""
    seconds = max(1, round(seconds))
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS // len(urls)}", f"--duration={seconds}s"]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    running = [subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) for url in urls]
    return [_ended(process, seconds) for process in running]


def _ended(process: subprocess.Popen[str], seconds: float) -> Load:
    assert process.stdout
    with process.stdout as output:
        printed = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or "Non-2xx" in printed:
        raise RuntimeError(f"wrk ended with {process.returncode}, or not all answers were 2xx:\n{printed}")
    return Load(
        float(_number(r"Requests/sec: +([\d.]+)", printed)),
        int(_number(r"(\d+) requests in", printed)),
        seconds,
        usage.ru_utime + usage.ru_stime,
    )


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]
