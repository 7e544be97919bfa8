"""The tree of errors, and how each is answered."""

import re
from collections.abc import Iterator

import pytest

from slowpool.config import Pool
from tests.support.basics import wait_until
from tests.support.client import request, unanswered
from tests.support.metrics import value
from tests.support.process import Instance

CONTROLLED = "tests.apps.controlled:make_app"


@pytest.mark.parametrize(
    "query",
    ["", "?id=", "?id=a%20b", "?id=" + "a" * 65, "?n=5", "?id=7&n=0", "?id=7&n=20001", "?id=7&n=x"],
)
def test_a_bad_or_missing_argument_is_400_and_says_which(demo: Instance, query: str) -> None:
    response = demo.get(f"/slow{query}")
    assert response.status == 400
    name = "n" if "id=7" in query else "id"
    assert re.search(rf"\b{name}\b", response.problem()["detail"])


def test_the_text_of_an_error_is_no_format(controlled: Instance) -> None:
    response = controlled.get("/picky")
    assert response.status == 400
    assert response.problem()["detail"] == "100 %s is too much"
    controlled.wait_for_output(r"GET /picky: the log has 100 %d$")
    assert "%d" not in response.text


@pytest.mark.parametrize("path", ["/nothing", "/fast/", "/slow/nothing", "/FAST", "/livez"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_without_a_route_is_the_applications_404_whatever_the_method(
    demo: Instance, controlled: Instance, path: str, method: str
) -> None:
    of_the_demo = demo.get(path, method)
    assert of_the_demo.status == 404
    assert of_the_demo.problem()["title"] == "Not Found"
    of_tornado = controlled.get(path, method)
    assert of_tornado.status == 404
    assert "<title>404: Not Found</title>" in of_tornado.text


@pytest.mark.parametrize("path", ["/-/", "/-/nothing", "/-/livez/x", "/-/status/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_system_route_that_there_is_not_is_404_as_a_problem(demo: Instance, path: str, method: str) -> None:
    response = demo.get(path, method)
    assert response.status == 404
    assert response.problem()["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/", "/fast?id=7", "/slow?id=7", "/slow_threaded?id=7", "/report?id=7"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HELP"])
def test_a_method_other_than_get_is_405_with_what_is_allowed(demo: Instance, path: str, method: str) -> None:
    response = demo.get(path, method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET"
    assert response.problem()["detail"] == "this path answers GET only"


@pytest.mark.parametrize("method", ["POST", "DELETE", "HELP"])
def test_a_method_that_a_probe_does_not_know_is_405(demo: Instance, method: str) -> None:
    assert demo.get("/-/livez", method).status == 405


@pytest.mark.parametrize("pool", list(Pool))
def test_every_pool_serves_every_route(
    fast_demo: Instance, slow_demo: Instance, demo: Instance, pool: Pool
) -> None:
    instance = {Pool.FAST: fast_demo, Pool.SLOW: slow_demo, Pool.ALL: demo}[pool]
    assert instance.get("/fast?id=7").text == "fast result 7"
    assert instance.get("/slow?id=7&n=5").text.startswith("slow result 7 <---")


@pytest.mark.parametrize("path", ["/fail", "/slow/fail"])
def test_an_exception_is_tornados_500_and_its_traceback_stands_only_in_the_log(
    controlled: Instance, path: str
) -> None:
    response = controlled.get(path)
    assert response.status == 500
    assert "<title>500: Internal Server Error</title>" in response.text
    assert "ZeroDivisionError" not in response.text
    controlled.wait_for_output(rf"Uncaught exception GET {path} ")
    controlled.wait_for_output(r"^ZeroDivisionError: ")
    controlled.wait_for_output(rf"slowpool.access \[{response.headers['X-Request-ID']}\] 500 GET {path} ")


@pytest.mark.parametrize("path", ["/fail", "/slow/fail"])
def test_with_debug_the_traceback_stands_in_the_answer_too(path: str) -> None:
    with Instance(APP=CONTROLLED, DEBUG=1, expected="") as instance:
        response = instance.get(path)
        assert response.status == 500
        assert "ZeroDivisionError: " in response.text


PAGES = """
from tornado.web import Application, HTTPError, RequestHandler

import slowpool
from slowpool.errors import BadArgument, ContentTooLarge
from tests.apps.zoo import sleep


class Page(RequestHandler):
    def write_error(self, status_code, **kwargs):
        self.set_header("X-Page", type(kwargs["exc_info"][1]).__name__)
        self.finish(f"our own page: {status_code} {self._reason}")


class Plain(RequestHandler):
    def initialize(self, error):
        self.error = error

    def get(self):
        self.set_header("X-Before", "the error")
        raise self.error

    post = get


class Own(Page, Plain):
    pass


class Job(RequestHandler):
    async def get(self):
        await slowpool.run(sleep, float(self.get_argument("seconds")))
        self.finish("slept")


class OwnJob(Page, Job):
    pass


def make_app():
    bad, large = BadArgument("no such size", "the log only"), ContentTooLarge("send less")
    forbidden = HTTPError(403, "not for the client")
    return Application([
        ("/plain/400", Plain, {"error": bad}), ("/own/400", Own, {"error": bad}),
        ("/plain/413", Plain, {"error": large}), ("/own/413", Own, {"error": large}),
        ("/plain/403", Plain, {"error": forbidden}), ("/own/403", Own, {"error": forbidden}),
        ("/job", Job), ("/own/job", OwnJob),
    ], compress_response=True)
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A slow instance that refuses every job that has to wait."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "pages.py").write_text(PAGES)
    with Instance(
        Pool.SLOW, path=folder, APP="pages:make_app", SLOW_WORKERS=1, SLOW_QUEUE=0, expected=""
    ) as instance:
        yield instance


@pytest.mark.parametrize(("path", "detail"), [("/plain/400", "no such size"), ("/plain/413", "send less")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_error_of_slowpools_that_a_plain_handler_raises_is_a_problem(
    pages: Instance, path: str, detail: str, method: str
) -> None:
    response = pages.get(path, method)
    assert response.status == int(path[-3:])
    assert response.problem()["detail"] == detail
    assert response.headers["X-Before"] is None
    assert int(response.headers["Content-Length"]) == len(response.body)
    assert "the log only" not in response.text


def test_an_error_is_the_page_of_a_handler_that_has_its_own(pages: Instance) -> None:
    for path, name in (
        ("/own/400", "BadArgument"),
        ("/own/413", "ContentTooLarge"),
        ("/own/403", "HTTPError"),
    ):
        response = pages.get(path)
        assert response.status == int(path[-3:])
        assert response.text.startswith(f"our own page: {response.status} ")
        assert response.headers["X-Page"] == name
        assert response.headers["Content-Type"].startswith("text/html")


def test_an_error_that_is_not_slowpools_is_tornados_own_page(pages: Instance) -> None:
    response = pages.get("/plain/403")
    assert response.status == 403
    assert "<title>403: Forbidden</title>" in response.text


def test_a_page_of_its_own_has_the_retry_after_and_the_times_of_slowpools_errors(pages: Instance) -> None:
    with unanswered(pages.port, "/job?seconds=1000"):
        wait_until(lambda: value(pages, "slow_jobs_running") == 1)
        plain, own = pages.get("/job?seconds=1"), pages.get("/own/job?seconds=1")
    assert plain.status == own.status == 503
    assert "the slow pool is full" in plain.problem()["detail"]
    assert own.text == "our own page: 503 Service Unavailable"
    for response in (plain, own):
        assert int(response.headers["Retry-After"]) in range(1, 61)
    wait_until(lambda: pages.get("/job?seconds=0").status == 200)
    late = request(pages.port, "/own/job?seconds=1000", headers={"Prefer": "wait=1"})
    assert (late.status, late.text) == (504, "our own page: 504 Gateway Timeout")
    assert late.headers["Server-Timing"].startswith("queue;dur=")
    assert late.headers["Preference-Applied"] == "wait=1"


def test_every_answer_says_who_gave_it_and_to_which_request(demo: Instance) -> None:
    for target in ("/fast?id=7", "/fast", "/nothing", "/-/livez", "/slow?id=7&n=5"):
        response = demo.get(target)
        assert response.headers["X-Served-By"] == f"all:{demo.port}"
        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])


def test_an_instance_of_a_container_says_which_it_is() -> None:
    with Instance(Pool.FAST, "--replica=3f2a9c1b7d4e") as instance:
        name = f"fast:{instance.port}:3f2a9c1b7d4e"
        assert instance.get("/fast?id=7").headers["X-Served-By"] == name
        instance.wait_for_output(f" INFO {name} slowpool.access ")
