"""Tasks that start processes which do not want to end with them."""

import os
import signal
import subprocess
import sys
import threading
import time

from tests.apps import zoo

NOTE = 'echo $$ >> "$0"; exec sleep 1000'
CHAIN = 'setsid --fork sh -c "$1" "$0" & eval "$1"'

FAMILY = [
    ["sh", "-c", NOTE],
    ["env", "-i", "setsid", "sh", "-c", NOTE],
    ["env", "-i", "setsid", "--fork", "sh", "-c", NOTE],  # its parent has ended
    ["env", "-i", "setsid", "--fork", "sh", "-c", CHAIN],
]
MEMBERS = len(FAMILY) + 1


def start_family(path: str) -> list[int]:
    """Start processes with an empty environment and sessions of their own; their pids are in the file."""
    for command in FAMILY:
        subprocess.Popen([*command, path, NOTE])
    while len(pids := noted(path)) < MEMBERS:
        time.sleep(0.001)
    return pids


def noted(path: str) -> list[int]:
    """The pids in the file."""
    try:
        with open(path) as file:
            return [int(line) for line in file.read().split("\n")[:-1]]
    except FileNotFoundError:
        return []


def leaves_a_family(path: str, then: str) -> list[int]:
    """Start it, make the file ``path.done``, and end in some way, or not."""
    pids = start_family(path)
    with open(f"{path}.done", "w"):
        pass
    if then == "hang":
        zoo.sleeps_for_ever()
    elif then == "raise":
        zoo.raises()
    elif then == "exit":
        zoo.exits()
    elif then == "segfault":
        zoo.segfaults()
    elif then == "kill itself":
        os.kill(os.getpid(), signal.SIGKILL)
    return pids


def exits_while_a_thread_lives() -> None:
    """The interpreter waits for its other threads, and the process does not end."""
    threading.Thread(target=zoo.sleeps_for_ever).start()
    sys.exit(0)


def closes_all_files() -> None:
    os.closerange(0, 1000)
    zoo.sleeps_for_ever()


def descriptors() -> dict[int, tuple[str, int, int]]:
    """What each file descriptor of the worker is: its name, device and inode."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(name))
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}"), status.st_dev, status.st_ino
        except OSError:  # the one of listdir itself
            continue
    return found
