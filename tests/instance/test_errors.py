"""The tree of errors, and how each is answered."""

import re

import pytest

from slowpool.config import Pool
from tests.support.process import Instance

CONTROLLED = "tests.apps.controlled"


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


@pytest.mark.parametrize("path", ["/nothing", "/fast/", "/slow/nothing", "/FAST", "/livez/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_without_a_route_is_404_whatever_the_method(demo: Instance, path: str, method: str) -> None:
    response = demo.get(path, method)
    assert response.status == 404
    assert response.problem()["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/", "/fast?id=7", "/slow?id=7", "/slow_threaded?id=7", "/livez"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HELP"])
def test_a_method_other_than_get_is_405_with_what_is_allowed(demo: Instance, path: str, method: str) -> None:
    response = demo.get(path, method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET"
    assert response.problem()["detail"] == "this path answers GET only"


def test_the_methods_that_are_allowed_are_those_of_the_handler(controlled: Instance) -> None:
    response = controlled.get("/wait", "PUT")
    assert response.status == 405
    assert response.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("path", ["/slow?id=7", "/slow_threaded?id=7", "/slow"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_slow_route_of_a_fast_instance_is_421(fast_demo: Instance, path: str, method: str) -> None:
    response = fast_demo.get(path, method)
    assert response.status == 421
    assert response.problem()["title"] == "Misdirected Request"
    assert "belongs to the slow pool" in response.problem()["detail"]


def test_a_fast_route_of_a_slow_instance_is_404(slow_demo: Instance) -> None:
    assert slow_demo.get("/fast?id=7").status == 404
    assert slow_demo.get("/slow?id=7&n=5").status == 200


@pytest.mark.parametrize("path", ["/fail", "/slow/fail"])
def test_an_exception_is_500_and_its_traceback_stands_only_in_the_log(
    controlled: Instance, path: str
) -> None:
    response = controlled.get(path)
    assert response.status == 500
    problem = response.problem()
    assert "ZeroDivisionError" not in response.text
    controlled.wait_for_output(rf"\[{problem['request_id']}\] GET {path}: ")
    controlled.wait_for_output(r"^ZeroDivisionError: ")


@pytest.mark.parametrize("path", ["/fail", "/slow/fail"])
def test_with_debug_the_traceback_stands_in_the_answer_too(path: str) -> None:
    with Instance(ROUTES=CONTROLLED, DEBUG=1, expected="") as instance:
        response = instance.get(path)
        assert response.status == 500
        assert "ZeroDivisionError: " in response.problem()["traceback"][-1]


def test_every_answer_says_who_gave_it_and_to_which_request(demo: Instance) -> None:
    for target in ("/fast?id=7", "/fast", "/nothing", "/livez", "/slow?id=7&n=5"):
        response = demo.get(target)
        assert response.headers["X-Served-By"] == f"all:{demo.port}"
        assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-ID"])


def test_an_instance_of_a_container_says_which_it_is() -> None:
    with Instance(Pool.FAST, "--replica=3f2a9c1b7d4e") as instance:
        name = f"fast:{instance.port}:3f2a9c1b7d4e"
        assert instance.get("/fast?id=7").headers["X-Served-By"] == name
        instance.wait_for_output(f" INFO {name} slowpool.access ")
