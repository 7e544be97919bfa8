"""Which pool answers which path, and with what."""

import re

import pytest

from tests.support.system import System

POOLS = [
    ("/fast?id=7", "fast", 200),
    ("/", "fast", 200),
    ("/SLOW", "fast", 404),
    ("/Slow?id=7", "fast", 404),
    ("/x/slow", "fast", 404),
    ("/fast/../fast?id=7", "fast", 404),
    ("/slow/../fast?id=7", "fast", 404),
    ("/x%2Fslow", "fast", 404),
    ("/%2573low", "fast", 404),
    ("/?path=/slow", "fast", 200),
    ("/status", "fast", 404),
    ("/metrics", "fast", 404),
    ("/livez", "fast", 404),
    ("/-", "fast", 404),
    ("/slow?id=7&n=9", "slow", 200),
    ("/slow_x", "slow", 404),
    ("/slow/x", "slow", 404),
    ("/slowly", "slow", 404),
    ("//slow?id=7&n=9", "slow", 404),
    ("/./slow?id=7&n=9", "slow", 404),
    ("/%73low?id=7&n=9", "slow", 404),
    ("/%2Fslow?id=7&n=9", "slow", 404),
    ("/x/../slow?id=7&n=9", "slow", 404),
    ("/x/%2e%2e/slow?id=7&n=9", "slow", 404),
    ("/slow_threaded?id=7&n=9", "slow", 200),
]
"""The pool is that of the path as nginx understands it; the application has the path as it was sent."""


@pytest.mark.parametrize(("target", "pool", "status"), POOLS)
def test_a_path_is_answered_by_its_pool(system: System, target: str, pool: str, status: int) -> None:
    response = system.get(target)
    assert (response.pool, response.status) == (pool, status)
    port = int(response.headers["X-Served-By"].partition(":")[2])
    assert port in system.instances(pool)


@pytest.mark.parametrize("path", ["/slow", "/slow_threaded"])
def test_the_text_of_a_slow_answer_is_that_of_the_contract(system: System, path: str) -> None:
    response = system.get(f"{path}?id=7&n=50")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"slow result 7 <--- \d\.\d{3} s", response.text)


def test_the_text_of_a_fast_answer_is_that_of_the_contract(system: System) -> None:
    response = system.get("/fast?id=7")
    assert (response.status, response.text) == (200, "fast result 7")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_the_first_page_is_html_whose_links_all_answer(system: System) -> None:
    page = system.get("/")
    assert page.status == 200
    assert page.headers["Content-Type"].lower() == "text/html; charset=utf-8"
    assert "slowpool" in page.text
    links = re.findall(r'(?:href|src)="(/[^"]*)"', page.text)
    assert any(link.startswith("/slow") for link in links)
    for link in links:
        assert system.get(link.replace("&amp;", "&")).status == 200, link


def test_a_slow_answer_says_how_long_it_waited_and_ran(system: System) -> None:
    timing = system.get("/slow_threaded?id=7&n=50").headers["Server-Timing"]
    assert re.fullmatch(r"queue;dur=\d+\.\d+, run;dur=\d+\.\d+", timing)


def test_all_instances_of_both_pools_answer(system: System) -> None:
    for pool, target in (("fast", "/fast?id=7"), ("slow", "/slow_threaded?id=7&n=9")):
        seen = {system.get(target).headers["X-Served-By"] for _ in range(40)}
        assert seen == {f"{pool}:{port}" for port in system.instances(pool)}


@pytest.mark.parametrize(
    "target",
    ["/echo", "/echo/a%20b", "/echo/%3Fid=7", "/echo/%25", "/echo/%23x", "/echo/%0D%0AX-Evil:%201",
     "/echo/%C3%BC", "/echo/x?a=%2F..%2Fslow&b=%0A&c=?&d=a+b", "/echo///x", "/echo/?", "/echo/a%2Fb",
     "/echo/./x/../y",
     "/slow/echo/%3F", "/slow/echo//x%2F?", "/slow/echo/../echo/x?y"],
)  # fmt: skip
@pytest.mark.parametrize("body", [None, b"x"], ids=["GET", "POST"])
def test_an_instance_sees_the_path_as_it_was_sent(sturdy: System, target: str, body: bytes | None) -> None:
    response = sturdy.get(target, "POST" if body else "GET", body=body)
    assert (response.status, response.text) == (200, target)
    assert response.pool == ("slow" if target.startswith("/slow") else "fast")
    assert "X-Evil" not in response.headers


@pytest.mark.parametrize(
    "target", ["/slow?id=7&n=0", "/slow_threaded?id=7&n=x", "/slow", "/fast", "/fast?id=%00"]
)
def test_bad_input_is_400_as_a_problem(system: System, target: str) -> None:
    response = system.get(target)
    assert response.status == 400
    assert response.problem()["detail"]


@pytest.mark.parametrize("target", ["/", "/fast?id=7", "/slow?id=7", "/slow_threaded?id=7"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405_with_what_is_allowed(system: System, target: str, method: str) -> None:
    response = system.get(target, method, body=b"" if method == "POST" else None)
    assert response.status == 405
    assert response.headers["Allow"] == "GET"
    assert response.problem()["detail"] == "this path answers GET only"
