"""The watchdog under a real supervisor, with less patience, and with stand-ins for most instances."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from deploy.supervise import watchdog
from tests.support.basics import wait_until
from tests.support.client import request
from tests.support.watched import Watched, WatchedInstances
from tests.support.watching import events, texts


def test_while_one_is_restarted_for_its_size_the_others_are_watched() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        large, other = watched.ports
        watched.tell_one(large, "large", "drain")
        watched.process.wait_for_output(
            rf"fast:fast-{large} has \d+ MiB of resident memory, .*: restarting it"
        )
        drains = watched.pid(f"fast:fast-{large}")
        seen = watched.answers(other)
        wait_until(lambda: watched.answers(other) > seen + 3)
        watched.tell_one(other, "hang")
        wait_until(lambda: watched.kills(other))
        assert watched.pid(f"fast:fast-{large}") == drains
        watched.tell()
        wait_until(lambda: watched.pid(f"fast:fast-{large}") not in (0, drains))


def test_two_that_are_too_large_are_restarted_one_at_a_time() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        before = {port: watched.pid(f"fast:fast-{port}") for port in watched.ports}
        watched.tell("large", "drain")
        line = watched.process.wait_for_output("of resident memory, .*: restarting it")
        first = next(port for port in watched.ports if f"fast-{port}" in line)
        (second,) = set(watched.ports) - {first}
        watched.tell_one(second, "large")  # it would go at once
        seen = watched.answers(second)
        wait_until(lambda: watched.answers(second) > seen + 3)
        assert watched.pid(f"fast:fast-{second}") == before[second]
        watched.tell_one(first)
        watched.process.wait_for_output(
            rf"fast:fast-{second} has \d+ MiB of resident memory, .*: restarting it"
        )
        wait_until(lambda: watched.pid(f"fast:fast-{second}") not in (0, before[second]))


def test_a_probe_reads_a_status_line_and_no_more() -> None:
    with Watched() as watched:
        wait_until(lambda: min(map(watched.answers, watched.ports)) > 3)
        before = watched.peak_bytes()
        watched.tell("flood")
        wait_until(lambda: min(map(watched.answers, watched.ports)) > 3)
        assert watched.peak_bytes() - before < 20 << 20


def test_an_answer_that_drips_is_no_answer() -> None:
    with Watched("drip") as watched:
        wait_until(lambda: all(watched.kills(port) for port in watched.ports))


def test_an_instance_that_is_busy_with_one_request_after_the_other_is_not_killed() -> None:
    with (
        WatchedInstances(APP="tests.apps.watched:make_app", SLOW_LEARN_SECONDS=0) as watched,
        ThreadPoolExecutor(20) as clients,
    ):
        port, _ = watched.ports
        blocks = [clients.submit(request, port, "/report/tea?seconds=0.5") for _ in range(20)]
        assert {block.result().status for block in blocks} == {200}
        assert not watched.kills(port)


def test_what_the_watchdog_does_is_known_to_the_instances() -> None:
    with WatchedInstances(APP="tests.apps.watched:make_app") as watched:
        port, other = watched.ports
        wait_until(lambda: all(len(events(one, "ready")) == 2 for one in watched.ports))
        with pytest.raises(ConnectionError):
            request(port, "/report/tea?seconds=1000")
        (hang,) = wait_until(lambda: texts(other, "hang"))
        assert hang == f"hang fast:{port}: has not answered for 1.5 s, and is killed"
        wait_until(lambda: len(events(other, "ready")) == 3)
        assert texts(other, "exit") == [], "the kill is one event"
        wait_until(lambda: events(port, "hang") == events(other, "hang"))


def test_an_instance_that_is_restarted_for_its_size_is_an_event() -> None:
    with WatchedInstances(INSTANCE_MAX_RSS_BYTES=1) as watched:

        def restarted() -> list[str]:
            with suppress(OSError):
                return texts(watched.ports[1], "memory")
            return []

        last = wait_until(restarted)[-1]
        assert re.match(r"memory fast:\d+: has \d+ MiB of resident memory, more than INSTANCE_MAX_RSS", last)


@pytest.mark.long  # test_life.py has one that is stopped
def test_an_instance_whose_handler_does_not_return_is_killed() -> None:
    with WatchedInstances(APP="tests.apps.watched:make_app") as watched:
        port, _ = watched.ports
        with pytest.raises(ConnectionError):
            request(port, "/report/tea?seconds=1000")
        assert watched.kills(port) == 1


def test_one_that_makes_progress_and_never_answers_is_killed_later() -> None:
    with Watched("hang", "beat", busy_seconds=1) as watched:
        watched.process.wait_for_output(r"works and has not answered for 2.5 s: killing it")
        assert not any(map(watched.kills, watched.ports))


def test_one_that_is_asked_to_restart_drains_and_is_replaced_and_the_other_stays() -> None:
    with Watched("beat") as watched:
        wanted, other = watched.ports
        before = {port: watched.pid(f"fast:fast-{port}") for port in watched.ports}
        watched.tell_one(wanted, "beat", "restart", "drain")
        watched.process.wait_for_output(f"fast:fast-{wanted} was asked to restart: restarting it")
        assert watched.pid(f"fast:fast-{wanted}") == before[wanted], "it drains"
        watched.tell_one(wanted, "beat")
        wait_until(lambda: watched.pid(f"fast:fast-{wanted}") not in (0, before[wanted]))
        seen = watched.answers(wanted)
        wait_until(lambda: watched.answers(wanted) > seen + 3)
        assert watched.process.output.count("was asked to restart") == 1
        assert watched.pid(f"fast:fast-{other}") == before[other]


def test_one_that_does_not_come_back_stays_stopped_and_ends_nothing_else() -> None:
    with Watched("beat") as watched:
        wanted, other = watched.ports
        before = watched.pid(f"fast:fast-{other}")
        watched.tell_one(wanted, "beat", "restart", "drain")
        watched.process.wait_for_output(f"fast:fast-{wanted} was asked to restart: restarting it")
        watched.tell_one(wanted, "die")
        watched.process.wait_for_output(rf"fast:fast-{wanted} did not come back, and stays stopped", 60)
        wait_until(lambda: not watched.pid(f"fast:fast-{wanted}"))
        seen = watched.answers(other)
        wait_until(lambda: watched.answers(other) > seen + 20)
        assert not watched.pid(f"fast:fast-{wanted}")
        assert watched.pid(f"fast:fast-{other}") == before
        assert "shutting everything down" not in watched.process.output


def test_one_that_was_too_large_and_does_not_come_back_is_started_again() -> None:
    with Watched(INSTANCE_MAX_RSS_BYTES=80 << 20) as watched:
        port, _ = watched.ports
        watched.tell_one(port, "large", "drain")
        watched.process.wait_for_output("of resident memory, .*: restarting it")
        watched.tell_one(port, "die")
        watched.process.wait_for_output(f"fast:fast-{port} did not come back")
        watched.tell_one(port)
        wait_until(lambda: watched.answers(port))
        assert "stays stopped" not in watched.process.output


def test_one_that_has_been_replaced_meanwhile_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Watched() as watched, watched.proxy() as proxy:
        port, _ = watched.ports
        name = f"fast:fast-{port}"
        pid = wait_until(lambda: watched.pid(name))
        monkeypatch.setattr(watchdog, "_supervisor", lambda: proxy.supervisor)
        patient, harsh = (watchdog.Program(name, 0, "", seconds) for seconds in (1000, 0))
        assert not watchdog._kill(patient, "does not answer")
        assert watched.pid(name) == pid
        assert watchdog._kill(harsh, "does not answer")
        watched.tell()
        wait_until(lambda: watched.answers(port))
        assert watched.pid(name) != pid
