"""Tornado's own tests of its HTTP server are the specification of slowpool's."""

import itertools
import subprocess
import sys

import pytest

from tests.support.basics import ROOT

OF_SERVERS = ["httpserver_test", "security_corpus_test", "web_test", "websocket_test", "routing_test"]
OF_CLIENTS = ["httpclient_test", "simple_httpclient_test"]
SHORT = {("asyncio", "httpserver_test"), *(("uvloop", module) for module in OF_SERVERS)}


@pytest.mark.parametrize(
    ("loop", "module"),
    [
        pytest.param(*case, marks=() if case in SHORT else pytest.mark.long)
        for case in itertools.product(["uvloop", "asyncio"], OF_SERVERS + OF_CLIENTS)
    ],
)
def test_it_passes_tornado_s_tests_but_for_what_is_meant_to_differ(loop: str, module: str) -> None:
    command = [sys.executable, "-m", "tests.support.tornado_suite", module, loop]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
