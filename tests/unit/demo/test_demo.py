"""The demo's package as a worker and as plain Tornado have it."""

import os
import re
import subprocess
import sys
from typing import Any
from unittest import mock

import pytest
from tornado.testing import AsyncHTTPTestCase
from tornado.web import Application

from demo import make_app
from demo.routes import status_page
from tests.support.basics import ROOT


def test_a_worker_that_imports_the_tasks_does_not_import_tornado() -> None:
    script = "import sys, demo.tasks; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "app", text=True).split()
    assert "demo.tasks" in loaded
    assert "tornado" not in loaded


@pytest.mark.parametrize(
    ("host", "port"),
    [("127.0.0.1", 9081), ("fast", 9081), ("tasks.fast", None), ("fast.shop.svc.cluster.local", None)],
)
@pytest.mark.usefixtures("nothing_set")
def test_the_admin_port_is_published_by_a_local_run_and_by_compose(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int | None
) -> None:
    monkeypatch.setenv("FAST_HOST", host)
    monkeypatch.setenv("ADMIN_PORT", "9081")
    assert status_page() == {"has_nginx": False, "admin_port": port}
    monkeypatch.setenv("SLOWPOOL_RUN_DIR", "/run/slowpool")
    assert status_page() == {"has_nginx": True, "admin_port": port}


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

    def page(self, **status_page: Any) -> str:
        self._app.settings["status_page"] = status_page
        return self.fetch("/").body.decode()

    def test_its_page_tells_where_the_status_page_is(self) -> None:
        assert "port 9081 of the machine" in self.page(has_nginx=True, admin_port=9081)
        nowhere = self.page(has_nginx=True, admin_port=None)
        assert "publishes its port nowhere" in nowhere
        by_hand = self.page(has_nginx=False, admin_port=9081)
        assert '<a href="/-/status">' in by_hand
        assert not any('id="status"' in page for page in (nowhere, by_hand))

    def test_its_page_outlives_a_wrong_edit_of_the_settings(self) -> None:
        with mock.patch.dict(os.environ, ADMIN_PORT="x"):
            assert self.fetch("/").code == 200

    def test_its_errors_are_problems(self) -> None:
        for target, status in (("/fast", 400), ("/nowhere", 404), ("/slow?id=7&n=0", 400)):
            response = self.fetch(target)
            assert response.code == status
            assert response.headers["Content-Type"] == "application/problem+json"
        assert self.fetch("/fast", method="DELETE").headers["Allow"] == "GET"
