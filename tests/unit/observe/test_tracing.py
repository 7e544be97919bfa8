"""Tracing is optional."""

import subprocess
import sys

from tests.support.basics import ROOT, environment


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    script = (
        "import sys; from slowpool import __main__; from slowpool.observe import tracing; "
        "from slowpool.config import Config, Instance, Pool; "
        "tracing.set_up(Config(), Instance(Pool.FAST, 8001)); "
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, cwd=ROOT, env=environment({}), text=True) == "[]\n"
