"""The application that an instance serves is the user's own object, as it is."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.client import request
from tests.support.metrics import value
from tests.support.process import APPS, Instance, run_app


@pytest.fixture(scope="module", params=list(Pool))
def shop(request: pytest.FixtureRequest) -> Iterator[Instance]:
    """An instance of each pool."""
    with Instance(request.param, APP="tests.apps.untouched:app", expected="") as instance:
        yield instance


def test_it_is_the_users_object_with_its_class_attributes_and_settings(shop: Instance) -> None:
    assert shop.get("/same").text == "True a database, a setting"


def test_each_form_of_a_rule_that_tornado_knows_is_served_by_each_pool(shop: Instance) -> None:
    assert shop.get("/tuple/a").text == "/tuple/a ('a',)"
    assert shop.get("/url").text == "/url ()"
    assert shop.get("/from").headers["Location"] == "/tuple/x"
    assert shop.get("/nested/x").text == "/nested/x ('x',)"
    assert shop.get("/slow").text == "/slow ()"
    assert shop.get("/slowly").text == "/slowly ()"
    assert shop.get("/router/a/x").text == "/router/a/x ('a/x',)"
    assert shop.get("/gone").status == 410


def test_rules_for_a_host_are_those_of_that_host(shop: Instance) -> None:
    answer = request(shop.port, "/same", headers={"Host": "admin.example"})
    assert answer.headers["Location"] == "/admin"


def test_the_path_of_a_named_route_is_known_in_every_pool(shop: Instance) -> None:
    assert shop.get("/where").text == "/item/7 /slow/report/a%20b/2 /talk"
    assert shop.get("/unknown").status == 500
    shop.wait_for_output("KeyError: .*unknown")


def test_its_own_handler_of_unknown_paths_and_its_own_transforms_are_used(shop: Instance) -> None:
    answer = shop.get("/no/such")
    assert (answer.status, answer.text) == (404, "nothing at /no/such")
    assert answer.headers["X-Stamp"] == "yes"


def test_an_answer_is_compressed_when_the_application_says_so(shop: Instance) -> None:
    answer = request(shop.port, "/bulk", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.body) == b"x" * 5000
    assert shop.get("/bulk").text == "x" * 5000


def test_its_own_log_function_is_called(shop: Instance) -> None:
    shop.get("/url")
    shop.wait_for_output("^its own log: 200$")


def test_templates_ui_modules_and_signed_cookies_work(shop: Instance) -> None:
    assert shop.get("/page").text == "<p><b>7.50</b></p>"
    cookie = shop.get("/login", "POST").headers["Set-Cookie"].partition(";")[0]
    assert request(shop.port, "/login", headers={"Cookie": cookie}).text == "kim"
    assert shop.get("/login").text == "nobody"


def test_static_files_have_ranges_and_etags(shop: Instance) -> None:
    source = (APPS / "untouched.py").read_bytes()
    target = "/files/untouched.py"
    whole = shop.get(target)
    assert whole.body == source
    part = request(shop.port, target, headers={"Range": "bytes=2-4"})
    assert (part.status, part.body) == (206, source[2:5])
    assert part.headers["Content-Range"] == f"bytes 2-4/{len(source)}"
    known = request(shop.port, target, headers={"If-None-Match": whole.headers["Etag"]})
    assert (known.status, known.body) == (304, b"")
    assert shop.get(target, "HEAD").headers["Content-Length"] == str(len(source))


def test_prepare_and_on_finish_are_called_once_for_each_request(shop: Instance) -> None:
    assert shop.get("/hooks").text == "prepare"
    assert shop.get("/hooks").text == "prepare on_finish prepare"


def test_paths_that_other_servers_keep_for_themselves_are_the_applications(shop: Instance) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/status"):
        assert shop.get(path).text == f"{path} ()"


def test_a_request_is_counted_by_the_template_of_the_rule_that_it_came_by(shop: Instance) -> None:
    pool = shop.get("/url").pool

    def counted(path: str, route: str) -> float:
        def count() -> float:
            return value(
                shop,
                "http_server_request_duration_seconds_count",
                http_request_method="GET",
                http_route=route,
                http_response_status_code=status,
                pool=pool,
            )

        status = str(shop.get(path).status)
        before = count()
        assert str(shop.get(path).status) == status
        return count() - before

    for path, route in (
        ("/tuple/a", "/tuple/{}"),
        ("/url", "/url"),
        ("/nested/a", "/nested/{}"),
        ("/item/7", "/item/{}"),
        ("/files/edge.py", "/files/{}"),
        ("/gone", "/gone"),
        ("/no/such", ""),
    ):
        assert counted(path, route) == 1, path


def test_the_systems_routes_cannot_be_taken_by_the_application(tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text(
        "from tornado.web import Application, RequestHandler\n\n\n"
        "class All(RequestHandler):\n    def get(self): self.finish('mine')\n\n\n"
        "app = Application([(r'.*', All)])\n"
    )
    with Instance(path=tmp_path, APP="all:app") as instance:
        assert instance.get("/-/livez").text == "ok"
        assert instance.get("/-/readyz").text == "ready"
        assert instance.get("/-/nothing").status == 404
        for path in ("/", "/anything", "/-", "/x/-/livez", "//-/livez", "/%2D/livez"):
            assert instance.get(path).text == "mine"


def test_a_request_of_the_public_server_finds_no_system_route(demo: Instance) -> None:
    for path in ("/-/livez", "/-/readyz", "/-/metrics", "/-/status", "/-/status/live", "/-/x"):
        answer = request(demo.port, path, headers={"X-Slowpool-Public": "1"})
        assert answer.status == 404
        assert answer.problem()["request_id"]
    assert request(demo.port, "/fast?id=7", headers={"X-Slowpool-Public": "1"}).status == 200


def test_a_handler_sees_none_of_the_headers_between_nginx_and_the_instance() -> None:
    sent = {"X-Slowpool-Public": "1", "X-Slowpool-Elapsed": "0.5", "X-Slowpool-Streamed": "1"}
    with Instance(Pool.FAST, APP="tests.apps.uploads:make_app") as instance:
        seen = request(instance.port, "/headers", headers=sent).text.lower()
        assert "slowpool" not in seen


@pytest.mark.parametrize(
    ("text", "lines", "last"),
    [
        ("x = 1", 1, "slowpool: APP=shop:app: shop has no attribute 'app'"),
        ("app = 1 / 0", 6, "slowpool: APP=shop:app cannot be loaded: ZeroDivisionError: division by zero"),
        ("def app(): pass", 1, "slowpool: APP=shop:app must be a tornado.web.Application or a function"),
    ],
)
def test_an_instance_whose_application_cannot_be_loaded_ends_with_status_2(
    tmp_path: Path, text: str, lines: int, last: str
) -> None:
    (tmp_path / "shop.py").write_text(text)
    done = run_app(tmp_path, APP="shop:app")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) <= lines
    assert done.stderr.splitlines()[-1].startswith(last)
