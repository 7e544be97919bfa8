"""Which job or instance an operator means."""

from typing import Any

import pytest

from slowpool.errors import CannotAct, NotFound, RequestError
from slowpool.status.which import loss, may_be_accepted, named, the_instance, the_job

Json = dict[str, Any]


def instance(port: int, *jobs: Json, **values: Any) -> Json:
    row = {"name": f"slow:{port}", "address": "10.0.0.2", "pool": "slow", "state": "ready", "error": ""}
    return {**row, "running": [*jobs], "waiting_jobs": [], **values}


def job(number: int, request_id: str = "") -> Json:
    return {"job": f"{number:016x}", "request_id": request_id, "task": "draw"}


def found(called: str, *jobs: Json) -> str:
    """The id of the job that is called so."""
    _, job = the_job([instance(8101), instance(8102, *jobs)], called, "running")
    return str(job["job"])


def test_an_id_goes_before_the_beginning_of_one_and_that_before_a_request_id() -> None:
    first, second = job(0xA << 60, "b"), job(0xB << 60, "a" + "0" * 15)
    assert found("a" + "0" * 15, first, second) == first["job"]
    assert found("a", first, second) == first["job"]
    assert found("b", first, second) == second["job"]
    assert found("b", first) == first["job"]


def test_several_of_the_same_rank_are_named() -> None:
    with pytest.raises(CannotAct, match=r"say which: a0+1 \(draw, slow:8102 at 10\.0\.0\.2\), a0+2 \("):
        found("a", job((0xA << 60) + 1), job((0xA << 60) + 2), job(7, "a"))


def test_where_a_job_may_be_that_is_not_found_is_said() -> None:
    away = instance(8102, error="Connection refused", state="no answer")
    fast = {**away, "pool": "fast"}
    with pytest.raises(NotFound, match=r"no answer from slow:8102 at 10\.0\.0\.2: if it drains, its jobs"):
        the_job([instance(8101), away, fast], "a", "running")
    with pytest.raises(NotFound, match=r"or request id$"):
        the_job([instance(8101), fast], "a", "running")


@pytest.mark.parametrize(
    ("job_id", "may_be"),
    [
        (f"{7:016x}", False),
        (f"{8:016x}", True),
        (f"{7:032x}", True),
        (f"{7:015x}", False),
        (f"{7:024x}", False),
        ("\ud800" * 16, False),
        ("/" * 16, False),
    ],
)
def test_only_a_whole_id_that_is_in_no_report_may_be_that_of_an_accepted_job(
    job_id: str, may_be: bool
) -> None:
    assert may_be_accepted([instance(8101, job(7))], job_id) is may_be


def test_five_are_named_and_the_others_counted() -> None:
    assert named("abcde") == "a, b, c, d, e"
    assert named("abcdefg") == "a, b, c, d, e, 2 more"
    assert named([]) == "none"


def test_an_instance_is_called_by_its_name_and_where_several_have_it_by_its_address() -> None:
    here, there = instance(8101), instance(8101, address="10.0.0.3")
    both = "slow:8101 at 10.0.0.2, slow:8101 at 10.0.0.3"
    assert the_instance([here, there], "slow:8101", "10.0.0.3") is there
    for instances, address, error in (
        ([here, there], "", f"several have this name, say which: {both}"),
        ([here], "10.0.0.3", "there is no such instance; known are slow:8101 at 10.0.0.2"),
        ([], "", "there is no such instance; known are none"),
    ):
        with pytest.raises(RequestError) as raised:
            the_instance(instances, "slow:8101", address)
        assert str(raised.value) == error


def test_a_restart_costs_requests_unless_another_instance_of_its_pool_is_ready() -> None:
    one, fast = instance(8101), instance(8001, pool="fast")
    text = "; no other instance of the slow pool is ready: requests get 503 until it is back"
    for others, expected in (
        ([], text),
        ([fast], text),
        ([instance(8102, state="draining")], text),
        ([instance(8102, state="draining"), instance(8103)], ""),
    ):
        assert loss([one, *others], one) == expected
