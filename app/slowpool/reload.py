"""``--reload`` with an application that cannot be loaded: waits for the next change of the code."""

import contextlib
import os
import sys
import time
import traceback
from pathlib import Path

INTERVAL_SECONDS = 0.3


def wait_for_change(app: str, text: str, error: BaseException) -> int:
    """Print why the application cannot be loaded, and restart this process once a file has changed.

    Returns an exit status when it is told to stop instead.
    """
    files = _files(app.partition(":")[0], error)
    before = _changes(files)
    print(f"{text}\nslowpool: waits for a change of the code", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while _changes(files) == before:
            time.sleep(INTERVAL_SECONDS)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return 130


def _files(module_name: str, error: BaseException) -> set[Path]:
    """Where the mistake may be: what has been imported, where it was raised, and where modules may appear."""
    imported = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {Path(file) for file in imported if file}
    found: BaseException | None = error
    missing = {module_name}
    while found:
        files |= {Path(frame.filename) for frame in traceback.extract_tb(found.__traceback__)}
        if isinstance(found, SyntaxError) and found.filename:
            files.add(Path(found.filename))
        if isinstance(found, ImportError) and found.name:
            missing.add(found.name)
        found = found.__cause__ or found.__context__
    for name in missing:
        module = Path(*name.split("."))
        files |= {module.with_suffix(".py"), module / "__init__.py"}
    return files


def _changes(files: set[Path]) -> dict[Path, int]:
    """File -> when it was changed, of those that are there."""
    changes = {}
    for file in files:
        with contextlib.suppress(OSError):
            changes[file] = file.stat().st_mtime_ns
    return changes
