"""An application with a function that is called before workers are forked. WARMED says what else it does.

Only the template and its workers import it: in a test's own process it would be called for each pool.
"""

import os
import subprocess
import threading
import time
from pathlib import Path

import slowpool


@slowpool.warm
def model() -> list[int]:
    """Notes its process in the file WARMED_BY."""
    with open(os.environ["WARMED_BY"], "a") as file:
        file.write(f"{os.getpid()}\n")
    how, _, path = os.environ.get("WARMED", "").partition(":")
    if how == "thread":
        threading.Thread(target=time.sleep, args=[1000], name="loader", daemon=True).start()
    elif how == "library":
        _start_thread_that_ends_at_a_fork()
    elif how == "fails" and os.path.exists(path):
        raise ValueError("no model there")
    elif how == "child":
        child = subprocess.Popen(["env", "-i", "setsid", "sleep", "1000"])
        Path(path).write_text(f"{child.pid}\n")
    return list(range(100_000))


def _start_thread_that_ends_at_a_fork() -> None:
    """As OpenBLAS does."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    os.register_at_fork(before=end)
