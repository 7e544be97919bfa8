"""supervisor as ``deploy/supervise/supervisord.py`` starts it."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.process import Process

CONFIGURATION = """
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={folder}/pid

[program:sleep]
command=sleep 1000
process_name=%(process_num)d
numprocs=3
stopsignal={name}
stopwaitsecs=1000
"""


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT"])
def test_programs_that_are_stopped_while_they_start_end(tmp_path: Path, name: str) -> None:
    file = tmp_path / "supervisord.conf"
    file.write_text(CONFIGURATION.format(folder=tmp_path, name=name))
    command = [sys.executable, "-m", "deploy.supervise.supervisord", "-c", str(file)]
    with Process(command, ROOT, {**os.environ}) as supervisor:
        wait_until((tmp_path / "pid").exists)
        supervisor.signal(signal.SIGTERM)
        assert supervisor.wait() == 0
