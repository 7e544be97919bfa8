"""Tornado's own tests of its HTTP server are the specification of slowpool's."""

import subprocess
import sys

import pytest

from tests.support.basics import ROOT

OF_SERVERS = ["httpserver_test", "security_corpus_test", "web_test", "websocket_test", "routing_test"]
OF_CLIENTS = ["httpclient_test", "simple_httpclient_test"]
SHORT = {("httpserver_test", "asyncio"), *((module, "uvloop") for module in OF_SERVERS)}


@pytest.mark.parametrize("module", OF_SERVERS + OF_CLIENTS)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_it_passes_tornado_s_tests_but_for_what_is_meant_to_differ(
    module: str, loop: str, pytestconfig: pytest.Config
) -> None:
    if (module, loop) not in SHORT and pytestconfig.getoption("--short"):
        pytest.skip("long, and this is the short form")
    command = [sys.executable, "-m", "tests.support.tornado_suite", module, loop]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
