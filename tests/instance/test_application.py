"""The routes of an instance: those that it serves, and those that it refuses at its start."""

from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.process import Instance, run_app

GOOD = """
from slowpool.web import Handler, SlowHandler
class Fast(Handler):
    def get(self, *path): self.text("fast")
class Slow(SlowHandler):
    def get(self, *path): self.text("slow")
"""


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ("routes = [(r'/report', Slow)]", "the pattern of a SlowHandler begins with /slow"),
        ("routes = None", "the module has no list named 'routes'"),
    ],
)
def test_routes_that_are_refused_are_one_line_and_exit_status_2(
    tmp_path: Path, routes: str, reason: str
) -> None:
    (tmp_path / "shop.py").write_text(f"{GOOD}{routes}")
    done = run_app(tmp_path, ROUTES="shop")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.startswith("slowpool: ROUTES=shop: ")
    assert reason in line


def test_an_error_inside_the_module_shows_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("routes = [\n1 / 0\n]")
    done = run_app(tmp_path, ROUTES="shop")
    assert done.returncode != 0
    assert 'shop.py", line 2' in done.stderr
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_each_form_of_a_route_that_tornado_knows_is_served(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        GOOD
        + """
from tornado.web import RedirectHandler, url
routes = [
    (r"/tuple/(.*)", Fast),
    url(r"^/url$", Fast, name="url"),
    (r"/from", RedirectHandler, {"url": "/tuple/x", "permanent": False}, "named"),
    (r"/slow", Slow),
    (r"/slow/(.*)", Slow),
    url(r"^/slowly", Slow),
]
"""
    )
    with Instance(path=tmp_path, ROUTES="shop") as instance:
        assert instance.get("/tuple/a").text == "fast"
        assert instance.get("/url").text == "fast"
        assert instance.get("/from").headers["Location"] == "/tuple/x"
        for path in ("/slow", "/slow/x", "/slowly"):
            assert instance.get(path).text == "slow"


@pytest.mark.parametrize("pool", list(Pool))
def test_the_path_of_a_named_route_is_known_in_every_pool(tmp_path: Path, pool: Pool) -> None:
    (tmp_path / "shop.py").write_text(
        GOOD
        + """
from tornado.web import url
class Where(Handler):
    def get(self): self.text(" ".join([
        self.reverse_url("item", 7), self.reverse_url("report", "a b", 2), self.reverse_url("talk")]))
class SlowWhere(SlowHandler):
    get = Where.get
class Talk(__import__("tornado.websocket").websocket.WebSocketHandler): pass
class Unknown(Handler):
    def get(self): self.reverse_url("unknown")
class SlowUnknown(SlowHandler):
    get = Unknown.get
routes = [
    url(r"/item/([0-9]+)", Fast, name="item"),
    (r"/slow/report/(.*)/([0-9]+)", Slow, {}, "report"),
    (r"/talk", Talk, {}, "talk"),
    (r"/where", Where),
    (r"/slow/where", SlowWhere),
    (r"/unknown", Unknown),
    (r"/slow/unknown", SlowUnknown),
]
"""
    )
    with Instance(pool, path=tmp_path, ROUTES="shop", expected="") as instance:
        start = "/slow" if pool is Pool.SLOW else ""
        assert instance.get(f"{start}/where").text == "/item/7 /slow/report/a%20b/2 /talk"
        assert instance.get(f"{start}/unknown").status == 500
        instance.wait_for_output("KeyError: .*unknown")


def test_the_probes_cannot_be_taken_by_a_route(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(f"{GOOD}routes = [(r'/(.*)', Fast)]")
    with Instance(path=tmp_path, ROUTES="shop") as instance:
        assert instance.get("/livez").text == "ok"
        assert instance.get("/readyz").text == "ready"
        assert instance.get("/anything").text == "fast"
