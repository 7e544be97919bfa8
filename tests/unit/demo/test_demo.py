"""The demo's package as a worker and as plain Tornado have it."""

import os
import re
import subprocess
import sys
from unittest import mock

import pytest
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from demo import make_app
from demo.routes import published_admin_port
from slowpool.config import Config
from tests.support.basics import ROOT


def test_a_worker_that_imports_the_tasks_does_not_import_tornado() -> None:
    script = "import sys, demo.tasks; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "app", text=True).split()
    assert "demo.tasks" in loaded
    assert "tornado" not in loaded


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 9081), ("fast", 9081), ("tasks.fast", None), ("fast.shop.svc", None)]
)
def test_the_admin_port_is_published_by_a_local_run_and_by_compose(host: str, port: int | None) -> None:
    assert published_admin_port(Config(fast_host=host, admin_port=9081)) == port


class TestUnderPlainTornado(AsyncHTTPTestCase):
    """The demo is an application like any other: it needs no instance."""

    def get_app(self) -> Application:
        return make_app()

    def test_it_answers(self) -> None:
        assert self.fetch("/fast?id=7").body == b"fast result 7"
        for path in ("slow", "slow_threaded", "report", "stall"):
            assert self.fetch(f"/{path}?id=7&n=9").body.startswith(b"slow result 7 <--- 0.")

    def test_a_report_has_the_same_rows_in_one_answer_and_as_a_stream(self) -> None:
        rows = rb"row 1 of 2 <--- 0\.\d{3} s\nrow 2 of 2 <--- 0\.\d{3} s\n"
        for stream, is_chunked in ((0, False), (1, True)):
            response = self.fetch(f"/report/rows?rows=2&n=9&stream={stream}")
            assert re.fullmatch(rows, response.body)
            assert ("Content-Length" not in response.headers) == is_chunked

    def test_its_page_tells_where_the_status_page_is(self) -> None:
        with mock.patch.dict(os.environ, ADMIN_PORT="9081"):
            assert "port 9081 of the machine" in self.fetch("/").body.decode()
        with mock.patch.dict(os.environ, FAST_HOST="tasks.fast"):
            page = self.fetch("/").body.decode()
            assert "publishes its port nowhere" in page
            assert 'id="status"' not in page

    def test_its_errors_are_problems(self) -> None:
        for target, status in (("/fast", 400), ("/nowhere", 404), ("/slow?id=7&n=0", 400)):
            response = self.fetch(target)
            assert response.code == status
            assert response.headers["Content-Type"] == "application/problem+json"
        assert self.fetch("/fast", method="DELETE").headers["Allow"] == "GET"
