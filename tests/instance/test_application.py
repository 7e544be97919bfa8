"""The routes: what is accepted at start, and what is refused."""

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

REFUSED = [
    ("(r'/report', Slow)", "Slow is a SlowHandler, so its pattern must begin with /slow"),
    ("(r'/', Slow)", "Slow is a SlowHandler"),
    ("(r'/(slow)', Slow)", "Slow is a SlowHandler"),
    ("(r'/Slow', Slow)", "Slow is a SlowHandler"),
    ("(r'slow', Slow)", "Slow is a SlowHandler"),
    ("(r'/slow', Fast)", "make Fast a SlowHandler"),
    ("(r'/slowly', Fast)", "make Fast a SlowHandler"),
    ("(r'^/slow/x', Fast)", "make Fast a SlowHandler"),
    ("None", "None is not a route; write (pattern, handler class)"),
    ("'/fast'", "'/fast' is not a route"),
    ("()", "() is not a route"),
    ("(r'/fast',)", "is not a route"),
    ("(r'/fast', None)", "is not a route"),
    ("(r'/fast', int)", "is not a route"),
    ("(r'/fast', 7)", "is not a route"),
    ("(r'/fast', 'no.such.Handler')", "is not a route"),
    ("(r'/fast(', Fast)", "is not a route"),
    ("(7, Fast)", "is not a route"),
    ("(r'/fast', Fast, {}, 'name', 'more')", "is not a route"),
]


@pytest.mark.parametrize(("route", "reason"), REFUSED)
def test_a_wrong_route_is_one_line_and_exit_status_2(tmp_path: Path, route: str, reason: str) -> None:
    (tmp_path / "shop.py").write_text(f"{GOOD}routes = [(r'/good', Fast), {route}]")
    assert reason in refusal(tmp_path, "shop")


@pytest.mark.parametrize(
    ("routes", "module", "reason"),
    [
        ("", "shop", "the module has no list named 'routes'"),
        ("routes = None", "shop", "the module has no list named 'routes'"),
        ("routes = 'all of them'", "shop", "the module has no list named 'routes'"),
        ("", "no_such", "there is no module 'no_such'"),
        ("", "shop.no_such", "there is no module 'shop.no_such'"),
        ("import not_installed", "shop", "there is no module 'not_installed'"),
    ],
)
def test_a_module_without_routes_is_one_line_and_exit_status_2(
    tmp_path: Path, routes: str, module: str, reason: str
) -> None:
    (tmp_path / "shop.py").write_text(routes)
    assert reason in refusal(tmp_path, module)


def test_a_missing_module_says_where_to_put_it(tmp_path: Path) -> None:
    line = refusal(tmp_path, "shop.routes")
    assert line.endswith("put your package in the working directory or install it with pip")


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


def refusal(path: Path, module: str) -> str:
    """The one line that an instance with this module says before it ends with status 2."""
    done = run_app(path, ROUTES=module)
    lines = done.stderr.splitlines()
    assert done.returncode == 2, done
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"slowpool: ROUTES={module}: ")
    return lines[0]
