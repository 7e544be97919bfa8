"""wrk: a closed loop that keeps its connections busy."""

import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from tests.bench import cpu

CONNECTIONS = 32


class Load(NamedTuple):
    """What was answered, and the CPU seconds that the generator itself took."""

    per_second: float
    requests: int
    seconds: float
    generator_seconds: float


def wrk(*urls: str, seconds: float, headers: Mapping[str, str] | None = None) -> Load:
    """Keep CONNECTIONS busy for whole seconds, by one wrk for each URL. All answers must be 2xx."""
    seconds = max(1, round(seconds))
    command = ["wrk", "--threads=1", f"--connections={CONNECTIONS // len(urls)}", f"--duration={seconds}s"]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    before = cpu.of_ended_children()
    loads = [subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) for url in urls]
    printed = [load.communicate()[0] for load in loads]
    rate, count = 0.0, 0
    for load, text in zip(loads, printed, strict=True):
        if load.returncode or "Non-2xx" in text:
            raise RuntimeError(f"wrk ended with {load.returncode}, or not all answers were 200:\n{text}")
        rate += float(_number(r"Requests/sec: +([\d.]+)", text))
        count += int(_number(r"(\d+) requests in", text))
    return Load(rate, count, seconds, cpu.of_ended_children() - before)


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]
