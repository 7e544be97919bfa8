"""The figures of the slow pool, measured without nginx."""

import asyncio
import contextlib
import logging
import math
import os
import select
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from statistics import median

from slowpool.config import Config
from slowpool.errors import DeadlinePassed
from tests.bench import systems
from tests.support.pool import Pool


def figures() -> dict[str, float]:
    """Medians, in seconds."""
    logging.disable()
    result = asyncio.run(_pool())
    with systems.slowpool(SLOW_QUEUE=0, APP="tests.bench.routes:make_app") as running:
        result["refusal_at_the_instance_seconds"] = _refusal()
        result["client_gone_to_dead_worker_seconds"] = _disconnect(running.url)
    return result


async def _pool() -> dict[str, float]:
    pool = Pool(Config(slow_workers=1))
    await pool.start()
    dispatch = []
    for _ in range(3000):
        start = time.perf_counter()
        await pool.run(math.sqrt, 4.0)
        dispatch.append(time.perf_counter() - start)
    fresh = []
    for _ in range(30):
        with contextlib.suppress(DeadlinePassed):
            await pool.run(time.sleep, 60, timeout=0.01)
        start = time.perf_counter()
        await pool.run(math.sqrt, 4.0)
        fresh.append(time.perf_counter() - start)
    await pool.close()
    return {"dispatch_seconds": median(dispatch), "kill_to_fresh_worker_seconds": median(fresh)}


def _refusal() -> float:
    """Fill the one place of a slow instance; how long its refusals take."""
    url = f"http://127.0.0.1:{systems.SLOW_PORT}/slow_threaded?id=1&n="

    def fill() -> None:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{url}8000") as answer:
            answer.read()

    filler = threading.Thread(target=fill)
    filler.start()
    time.sleep(0.2)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        try:
            urllib.request.urlopen(f"{url}1").close()
        except urllib.error.HTTPError as error:
            assert error.code == 503
            times.append(time.perf_counter() - start)
    filler.join()
    return median(times)


def _disconnect(url: str) -> float:
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(20):
            path = Path(folder, str(number))
            curl = subprocess.Popen(["curl", "-s", f"{url}/slow/spin?file={path}"])
            while not path.exists():
                time.sleep(0.005)
            worker = os.pidfd_open(int(path.read_text()))
            start = time.perf_counter()
            curl.kill()
            select.select([worker], [], [], 10)
            times.append(time.perf_counter() - start)
            os.close(worker)
            curl.wait()
            time.sleep(0.2)
    return median(times)
