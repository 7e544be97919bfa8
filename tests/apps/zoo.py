"""Tasks that misbehave, each in one way."""

import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor


def add(a: int, b: int) -> int:
    """The one that behaves."""
    return a + b


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def waits_for(path: str) -> int:
    """The worker's pid, once the file is there."""
    while not os.path.exists(path):
        time.sleep(0.002)
    return os.getpid()


def sleeps_for_ever() -> None:
    while True:
        time.sleep(1000)


def spins_for_ever() -> None:
    while True:
        pass


def holds_the_interpreter_lock_for_ever() -> None:
    sum(iter(int, 1))


def ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)
    sleeps_for_ever()


def changes_signal_handlers() -> str:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    return "changed"


def closes_its_output() -> str:
    sys.stdout.close()
    return "closed"


def exits() -> None:
    os._exit(3)


def asks_the_system_to_exit() -> None:
    sys.exit(4)


def segfaults() -> None:
    ctypes.string_at(0)


def recurses() -> None:
    recurses()


def allocates(size: int = 10 * 2**30) -> int:
    return len(b"x" * size)


def prints_garbage(size: int = 100 * 2**20) -> str:
    block = bytes(range(256)) * 256
    for _ in range(size // len(block) // 2):
        os.write(1, block)
        os.write(2, block)
    return "printed"


def spawns_a_child_in_a_user_namespace(path: str) -> None:
    """Leave a child in a session and a user namespace of its own, its pid in the file, and hang."""

    def leave() -> None:
        os.setsid()
        ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER; not allowed everywhere

    child = subprocess.Popen(["sleep", "1000"], preexec_fn=leave)
    with open(path + ".part", "w") as file:
        file.write(str(child.pid))
    os.rename(path + ".part", path)
    sleeps_for_ever()


def spawns_children_and_threads(path: str) -> None:
    """Leave a child in the group and one in a session of its own, their pids in the file, and hang."""
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]
    children = [subprocess.Popen(command), subprocess.Popen(command, start_new_session=True)]
    for _ in range(3):
        threading.Thread(target=sleeps_for_ever).start()
    with open(path + ".part", "w") as file:
        file.write(" ".join(str(child.pid) for child in children))
    os.rename(path + ".part", path)
    sleeps_for_ever()


def returns_what_cannot_be_pickled() -> object:
    return threading.Lock()


class AwkwardError(Exception):
    """Its ``__init__`` takes other arguments than its ``args``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class ErrorWithALock(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())


def raises_an_awkward_error() -> None:
    raise AwkwardError(7, "awkward")


def raises_what_cannot_be_pickled() -> None:
    raise ErrorWithALock


def raises(text: str = "on purpose") -> None:
    raise ValueError(text)


def counts(first: int, count: int, size: int, fails: bool) -> Iterator[tuple[int, bytes]]:
    """Numbers, each with so many bytes; then it raises, if it ``fails``."""
    for number in range(first, first + count):
        yield number, bytes(size)
    if fails:
        raise ValueError(str(first))


def leaves_a_child() -> int:
    """The pid of a child in a session of its own and with an empty environment, which stays."""
    return subprocess.Popen(["/bin/sleep", "1234.5"], start_new_session=True, env={}).pid


def echoes(data: bytes) -> bytes:
    return data


def says(text: str) -> None:
    print(text)


def own_pid() -> int:
    return os.getpid()


def open_files() -> list[str]:
    """The targets of the worker's file descriptors."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the one of listdir itself
            continue
    return names


def priority() -> tuple[int, int, str, set[int], bool]:
    """The scheduling policy, niceness, the autogroup's line, the CPUs, and whether it leads its session."""
    try:
        with open("/proc/self/autogroup") as file:
            autogroup = file.read()
    except OSError:
        autogroup = ""
    return (
        os.sched_getscheduler(0),
        os.nice(0),
        autogroup,
        os.sched_getaffinity(0),
        os.getsid(0) == os.getpid(),
    )


def opens_a_unix_socket(path: str = "") -> None:
    """Reach the listener there: supervisor's, unless told."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path or os.environ["SUPERVISOR_SERVER_URL"].removeprefix("unix://"))


def calls_supervisor() -> str:
    """The result."""
    try:
        opens_a_unix_socket()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "connected"


class CallsSupervisorWhenUnpickled:
    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return calls_supervisor, ()


def has_its_instance_call_supervisor() -> CallsSupervisorWhenUnpickled:
    return CallsSupervisorWhenUnpickled()


def opens_a_unix_socket_by_its_other_number() -> None:
    """As x32 programs do."""
    calls(0x40000000 + 41, socket.AF_UNIX, socket.SOCK_STREAM, 0)


def calls(number: int, *arguments: int) -> None:
    """A system call as it is; its failure is an OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def signals(pid: int) -> None:
    os.kill(pid, 0)


def reads_the_memory_of(pid: int) -> None:
    with open(f"/proc/{pid}/mem", "rb"):
        pass


def own_capabilities() -> dict[str, int]:
    """The sets of this process, and of a program that it starts."""
    sets = {}
    command = ["cat", "/proc/self/status"]
    started = subprocess.check_output(command, text=True)
    with open("/proc/self/status") as file:
        for who, status in (("own", file.read()), ("its program's", started)):
            lines = [line.split() for line in status.splitlines() if line.startswith("Cap")]
            sets.update({f"{who} {name}": int(value, 16) for name, value in lines})
    return sets


def sees(pid: int) -> list[str]:
    """The files in /proc that reveal the content of the process and that this worker can read."""
    seen = []
    for name in ("environ", "maps", "mem", "auxv", "smaps", "pagemap", "stack", "syscall", "io"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                file.read(0 if name == "mem" else 1)
        except OSError:
            continue
        seen.append(name)
    for name in ("exe", "root", "cwd"):
        try:
            os.readlink(f"/proc/{pid}/{name}")
        except OSError:
            continue
        seen.append(name)
    return seen


def sees_what_the_request_names(pid: bytes) -> dict[str, object]:
    """The same of the process of that number, and of itself."""
    return {"seen": sees(int(pid)), "own": sees(os.getpid())}


NUMBERS = {
    "perf_event_open": (298, 241),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "get_robust_list": (274, 100),
    "move_pages": (279, 239),
}
"""Of system calls, on x86_64 and aarch64."""


def looks_into(pid: int, by: str) -> None:
    """See something of the process, by the system call of that name as it is meant."""
    space = ctypes.create_string_buffer(256)  # of zeros, for what comes back
    address = ctypes.addressof(space)
    software, task_clock, exclude_kernel, cold = 1, 1, 1 << 5, 20
    if by == "perf_event_open":
        space.value = struct.pack("IIQQQQQ", software, 72, task_clock, 0, 0, 0, exclude_kernel)
    arguments = {
        "perf_event_open": (address, pid, -1, -1, 0),
        "process_madvise": (os.pidfd_open(pid or os.getpid()), address, 0, cold, 0),
        "kcmp": (os.getpid(), pid, 0, 0, 0),
        "get_robust_list": (pid, address, address + 8),
        "move_pages": (pid, 1, address, 0, address + 8, 0),
    }[by]
    calls(NUMBERS[by][os.uname().machine == "aarch64"], *arguments)


def uses_processes() -> list[int]:
    with ProcessPoolExecutor(2) as processes:
        return list(processes.map(abs, [-1, -2]))


def opens_what_is_not_a_unix_socket() -> str:
    with socket.socketpair()[0], socket.create_server(("127.0.0.1", 0)) as listener:
        socket.create_connection(listener.getsockname()).close()
    return "connected"


def ends_its_child() -> int:
    with subprocess.Popen(["sleep", "1000"]) as child:
        child.terminate()
        return child.wait()


def writable_places() -> list[str]:
    """The folders and files that this process could write, outside the kernel's own file systems."""
    found = []
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [name for name in folders if name not in ("proc", "sys")]
        if os.access(folder, os.W_OK):
            found.append(folder)
            folders.clear()
            continue
        paths = [os.path.join(folder, name) for name in files]
        found += [path for path in paths if os.path.isfile(path) and os.access(path, os.W_OK)]
    return sorted(found)


_model_loads = 0


def uses_a_model() -> int:
    """How often this worker has loaded its model: module state stays from job to job."""
    global _model_loads
    if not _model_loads:
        _model_loads += 1
    return _model_loads


def limits_cpu_of(pid: int) -> None:
    """A limit that is far away."""
    resource.prlimit(pid, resource.RLIMIT_CPU, (1000, resource.RLIM_INFINITY))


def opens_a_pair(kind: int, path: str = "") -> str | None:
    """Two sockets that are connected to each other; one is then connected to the path and sends, if told."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    with near, far:
        if not path:
            return None
        near.connect(path)
        near.send(b"from the pair")
    return "sent"
