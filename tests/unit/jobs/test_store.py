"""What every store of accepted jobs does: the same tests for a file and for a server."""

import asyncio
import dataclasses
import operator
import time

import pytest

from slowpool.jobs.record import Answer, Beat, Lease, Request, State, Status
from slowpool.jobs.store import DIED, MOST_EVENTS, MOST_RUNS, Expired, KeyTaken, Store, StoreFull
from tests.support.job_stores import Place, eventually, new_job

ANSWER = Answer(200, [("Content-Type", "text/plain")], b"result")


async def took(store: Store, instance: str = "slow:8101") -> Lease:
    """A lease of the next job."""
    lease = await store.take(instance)
    assert lease
    return lease


async def now(store: Store, id: str) -> Status:
    """The job as it is."""
    status = await store.status(id)
    assert status
    return status


# The queue.


def test_jobs_are_taken_in_the_order_of_their_arrival(place: Place) -> None:
    async def scenario(store: Store) -> None:
        ids = [(await store.add(new_job(number)))[0].id for number in range(12)]
        assert [(await took(store)).id for _ in ids] == ids
        assert await store.take("slow:8101") is None

    place.run(scenario)


def test_a_waiting_job_knows_how_many_wait_before_it(place: Place) -> None:
    async def scenario(store: Store) -> None:
        statuses = [(await store.add(new_job(number)))[0] for number in range(3)]
        assert [status.ahead for status in statuses] == [0, 1, 2]
        await took(store)
        assert [(await now(store, status.id)).ahead for status in statuses] == [0, 0, 1]
        await store.cancel(statuses[1].id)
        assert (await now(store, statuses[2].id)).ahead == 0

    place.run(scenario)


def test_many_instances_that_take_at_once_get_each_job_once(place: Place) -> None:
    async def scenario(store: Store) -> None:
        ids = [(await store.add(new_job(number)))[0].id for number in range(40)]

        async def take_all(other: Store) -> list[str]:
            taken = []
            while lease := await other.take("slow:8102"):
                taken.append(lease.id)
            return taken

        taken = await asyncio.gather(*(place.beside(take_all) for _ in range(4)))
        assert sorted(id for part in taken for id in part) == sorted(ids)

    place.run(scenario)


def test_many_jobs_that_are_added_at_once_are_all_kept(place: Place) -> None:
    async def scenario(store: Store) -> None:
        jobs = [new_job(number) for number in range(300)]
        await asyncio.gather(*(store.add(job) for job in jobs))
        totals = await store.totals()
        assert totals.by_state[State.WAITING] == 300
        assert {(await took(store)).id for _ in jobs} == {job.id for job in jobs}

    place.run(scenario)


def test_a_job_can_be_added_and_taken_in_one_call(place: Place) -> None:
    async def scenario(store: Store) -> None:
        job = new_job(1)
        status, lease = await store.add(job, taken_by="slow:8101")
        assert lease
        assert (lease.id, lease.fence, lease.request) == (job.id, 1, job.request)
        assert (status.state, status.ahead) == (State.RUNNING, 0)
        assert await store.take("slow:8102") is None
        assert await store.finish(job.id, lease.fence, ANSWER)

    place.run(scenario)


def test_a_released_job_waits_again_in_its_old_place(place: Place) -> None:
    async def scenario(store: Store) -> None:
        first, second = [(await store.add(new_job(number)))[0].id for number in range(2)]
        lease = await took(store)
        await store.beat([Beat(first, lease.fence, 0.5, "half")])
        assert await store.release(first, lease.fence)
        status = await now(store, first)
        assert (status.state, status.started, status.progress, status.message) == (
            State.WAITING,
            None,
            None,
            "",
        )
        assert not await store.finish(first, lease.fence, ANSWER), "it is the old lease"
        assert [(await took(store)).id for _ in range(2)] == [first, second]

    place.run(scenario)


# Leases.


def test_a_job_that_may_run_twice_is_taken_again_when_its_lease_has_run_out(place: Place) -> None:
    async def scenario(store: Store) -> None:
        job = new_job(1)
        _, old = await store.add(job, taken_by="slow:8101")
        await store.add(new_job(2))
        assert old
        await asyncio.sleep(old.until - time.time() + 0.001)  # the clock is that of this machine
        new = await place.beside(lambda other: other.take("slow:8102"))
        assert new
        assert (new.id, new.fence, new.request) == (job.id, old.fence + 1, job.request)
        assert new.repeatable

    place.run(scenario, lease_seconds=0.01)


def test_a_job_that_may_not_run_twice_fails_when_its_lease_has_run_out(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1, repeatable=False), taken_by="slow:8101")
        assert lease
        assert not lease.repeatable

        async def has_failed() -> bool:
            await store.sweep()
            return (await now(store, status.id)).state is State.FAILED

        await eventually(has_failed)
        status = await now(store, status.id)
        assert (status.error, status.has_result) == (DIED, False)
        assert status.ended
        assert await store.take("slow:8102") is None
        assert await store.beat([Beat(status.id, lease.fence)]) == [status.id]
        assert not await store.finish(status.id, lease.fence, ANSWER)

    place.run(scenario, lease_seconds=0.01)


def test_a_job_that_ends_its_instances_again_and_again_fails(place: Place) -> None:
    async def scenario(store: Store) -> None:
        job = new_job(1)
        await store.add(job, taken_by="slow:8101")
        for _ in range(MOST_RUNS - 1):
            lease = await eventually(lambda: store.take("slow:8101"))
        assert not lease.repeatable

        async def has_failed() -> bool:
            await store.sweep()
            return (await now(store, job.id)).state is State.FAILED

        await eventually(has_failed)
        assert await store.take("slow:8101") is None

    place.run(scenario, lease_seconds=0.01)


def test_a_beat_extends_the_lease(place: Place) -> None:
    async def scenario(store: Store) -> None:
        for repeatable in (True, False):
            status, lease = await store.add(new_job(1, repeatable=repeatable), taken_by="slow:8101")
            assert lease
            beats = operator.methodcaller("beat", [Beat(status.id, lease.fence)])
            assert await place.beside(beats, lease_seconds=3600) == []
        await store.sweep()
        assert await store.take("slow:8102") is None
        assert (await store.totals()).by_state[State.RUNNING] == 2

    place.run(scenario, lease_seconds=0.001)


def test_an_instance_that_lost_its_lease_cannot_change_the_job_any_more(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, old = await store.add(new_job(1), taken_by="slow:8101")
        assert old
        new = await eventually(
            lambda: place.beside(lambda other: other.take("slow:8102"), lease_seconds=3600)
        )
        before = await now(store, status.id)
        assert await store.beat([Beat(status.id, old.fence, 0.9, "old")]) == [status.id]
        assert not await store.release(status.id, old.fence)
        assert not await store.finish(status.id, old.fence, ANSWER)
        assert await now(store, status.id) == before
        assert await store.finish(status.id, new.fence, Answer(201, [], b"new"))
        assert not await store.finish(status.id, old.fence, ANSWER)
        assert await store.answer(status.id) == Answer(201, [], b"new")

    place.run(scenario, lease_seconds=0.01)


def test_a_lease_that_ran_out_holds_until_another_instance_takes_the_job(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        await store.sweep()
        assert await store.finish(status.id, lease.fence, ANSWER)
        assert (await now(store, status.id)).state is State.DONE

    place.run(scenario, lease_seconds=0)


# Answers.


@pytest.mark.parametrize(
    "body",
    [b"", bytes(range(256)), b"x" * 1_000_000, b"\r\n\0"],
    ids=["empty", "all bytes", "1 MB", "CRLF NUL"],
)
def test_bodies_and_headers_are_kept_byte_for_byte(place: Place, body: bytes) -> None:
    cookies = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    headers = [*cookies, ("X-Text", "\xe9 \u20ac \U0001f600"), ("X-Empty", "")]
    request = Request("PUT", "/caf\xe9?q=\u20ac", headers, body)

    async def scenario(store: Store) -> None:
        status, _ = await store.add(new_job(request=request, route="/caf\xe9", owner="\u20ac"))
        assert (status.route, status.owner) == ("/caf\xe9", "\u20ac")
        lease = await took(store)
        assert (lease.request, lease.route, lease.owner) == (request, "/caf\xe9", "\u20ac")
        answer = Answer(418, headers, body)
        assert await store.finish(lease.id, lease.fence, answer)
        assert await store.answer(lease.id) == answer

    place.run(scenario)


def test_a_job_can_fail_with_an_answer_and_without_one(place: Place) -> None:
    async def scenario(store: Store) -> None:
        for answer in (Answer(500, [], b"sorry"), None):
            status, lease = await store.add(new_job(1), taken_by="slow:8101")
            assert lease
            assert await store.finish(status.id, lease.fence, answer, "kaputt \u20ac")
            status = await now(store, status.id)
            assert (status.state, status.error) == (State.FAILED, "kaputt \u20ac")
            assert status.has_result is (answer is not None)
            assert await store.answer(status.id) == answer

    place.run(scenario)


def test_an_answer_is_there_only_at_the_end(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        assert await store.answer(status.id) is None
        assert not (await now(store, status.id)).has_result
        await store.finish(status.id, lease.fence, ANSWER)
        end = await now(store, status.id)
        assert end.has_result
        assert end.started
        assert end.ended
        assert end.created <= end.started <= end.ended

    place.run(scenario)


def test_nothing_is_found_of_an_unknown_job(place: Place) -> None:
    async def scenario(store: Store) -> None:
        for _ in range(2):
            assert await store.status("0" * 32) is None
            assert await store.answer("0" * 32) is None
            assert await store.events("0" * 32, 0) == []
            assert await store.cancel("0" * 32) is None
            assert await store.beat([Beat("0" * 32, 1)]) == ["0" * 32]
            assert not await store.finish("0" * 32, 1, ANSWER)
            assert not await store.release("0" * 32, 1)
            await store.add(new_job(1))  # there is a store now

    place.run(scenario)


# Keys.


def test_the_same_request_with_the_same_key_is_the_same_job_in_every_state(place: Place) -> None:
    async def scenario(store: Store) -> None:
        def again(taken_by: str = "") -> "asyncio.Future[tuple[Status, Lease | None]]":
            job = new_job(1, key='["me", "key \u20ac"]', digest="d1")
            return asyncio.ensure_future(store.add(job, taken_by=taken_by))

        first, _ = await again()
        statuses = [status for status, _ in await asyncio.gather(*(again() for _ in range(5)))]
        assert [status.id for status in statuses] == [first.id] * 5
        lease = await took(store)
        status, no_lease = await again(taken_by="slow:8102")
        assert (status.id, status.state, no_lease) == (first.id, State.RUNNING, None)
        await store.finish(first.id, lease.fence, ANSWER)
        status, no_lease = await again(taken_by="slow:8102")
        assert (status.id, status.state, no_lease) == (first.id, State.DONE, None)
        assert await store.take("slow:8101") is None

    place.run(scenario)


def test_another_request_with_the_same_key_is_refused_and_another_key_is_not(place: Place) -> None:
    async def scenario(store: Store) -> None:
        await store.add(new_job(1, key="key", digest="d1"))
        with pytest.raises(KeyTaken):
            await store.add(new_job(2, key="key", digest="d2"))
        await store.add(new_job(2, key="other key", digest="d2"))
        await store.add(new_job(2))
        await store.add(new_job(2))
        assert (await store.totals()).by_state[State.WAITING] == 4

    place.run(scenario)


def test_a_full_queue_still_knows_the_keys_of_its_jobs(place: Place) -> None:
    async def scenario(store: Store) -> None:
        first, _ = await store.add(new_job(1, key="key", digest="d1"))
        again, _ = await store.add(new_job(1, key="key", digest="d1"))
        assert again.id == first.id

    place.run(scenario, waiting=1)


# Cancelling.


def test_a_waiting_job_that_is_cancelled_is_never_taken(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, _ = await store.add(new_job(1))
        cancelled = await store.cancel(status.id)
        assert cancelled
        assert (cancelled.state, cancelled.started) == (State.CANCELLED, None)
        assert cancelled.ended
        assert await store.take("slow:8101") is None
        assert await now(store, status.id) == cancelled

    place.run(scenario)


def test_the_instance_that_runs_a_cancelled_job_is_told_at_its_next_beat(place: Place) -> None:
    async def scenario(store: Store) -> None:
        jobs = [await store.add(new_job(number), taken_by="slow:8101") for number in range(2)]
        beats = [Beat(lease.id, lease.fence) for _, lease in jobs if lease]
        assert await store.beat(beats) == []
        cancelled = await store.cancel(beats[0].id)
        assert cancelled
        assert cancelled.state is State.CANCELLED
        assert await store.beat(beats) == [beats[0].id]
        assert not await store.finish(beats[0].id, beats[0].fence, ANSWER)
        assert not await store.release(beats[0].id, beats[0].fence)
        assert await store.answer(beats[0].id) is None

    place.run(scenario)


def test_a_final_job_stays_as_it_is_when_it_is_cancelled(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        await store.finish(status.id, lease.fence, ANSWER)
        done = await now(store, status.id)
        assert await store.cancel(status.id) == done
        assert await store.answer(status.id) == ANSWER

    place.run(scenario)


# Events.


def test_each_change_is_an_event_with_the_next_number(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, _ = await store.add(new_job(1))
        lease = await took(store)
        await store.beat([Beat(status.id, lease.fence, 0.25, "page 1 \u20ac")])
        await store.beat([Beat(status.id, lease.fence, 0.25, "page 1 \u20ac")])  # nothing new
        await store.beat([Beat(status.id, lease.fence, 0.25, "page 2")])
        running = await now(store, status.id)
        assert (running.progress, running.message, running.change) == (0.25, "page 2", 4)
        await store.beat([Beat(status.id, lease.fence)])
        await store.finish(status.id, lease.fence, None, "no")
        events = await store.events(status.id, 0)
        assert [(e.change, e.state, e.progress, e.message, e.error) for e in events] == [
            (1, State.WAITING, None, "", ""),
            (2, State.RUNNING, None, "", ""),
            (3, State.RUNNING, 0.25, "page 1 \u20ac", ""),
            (4, State.RUNNING, 0.25, "page 2", ""),
            (5, State.RUNNING, None, "", ""),
            (6, State.FAILED, None, "", "no"),
        ]
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert await store.events(status.id, 4) == events[4:]
        assert await store.events(status.id, 6) == []
        assert await store.events(status.id, 600) == []
        assert (await now(store, status.id)).change == 6

    place.run(scenario)


def test_the_oldest_of_too_many_events_go(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        beats = [Beat(status.id, lease.fence, number / 1000) for number in range(MOST_EVENTS + 20)]
        for beat in beats:
            await store.beat([beat])
        await store.finish(status.id, lease.fence, ANSWER)
        last = len(beats) + 3
        events = await store.events(status.id, 0)
        assert [event.change for event in events] == list(range(last - MOST_EVENTS + 1, last + 1))
        assert (events[-1].state, events[-1].progress) == (State.DONE, beats[-1].progress)
        assert await store.events(status.id, last - 1) == events[-1:]

    place.run(scenario)


# Bounds.


def test_no_more_jobs_wait_than_may(place: Place) -> None:
    async def scenario(store: Store) -> None:
        first, _ = await store.add(new_job(1))
        await store.add(new_job(2))
        with pytest.raises(StoreFull, match="2 accepted jobs wait, and JOB_QUEUE"):
            await store.add(new_job(3))
        _, lease = await store.add(new_job(3), taken_by="slow:8101")
        assert lease, "it does not wait"
        await store.cancel(first.id)
        await store.add(new_job(4))
        with pytest.raises(StoreFull, match="JOB_QUEUE"):
            await store.add(new_job(5))
        await took(store)
        await store.add(new_job(6))

    place.run(scenario, waiting=2)


def test_no_more_bytes_are_kept_than_may(place: Place) -> None:
    body = b"x" * 400

    async def scenario(store: Store) -> None:
        first, _ = await store.add(new_job(1, body=body))
        second, lease = await store.add(new_job(2, body=body), taken_by="slow:8101")
        assert lease
        with pytest.raises(StoreFull, match=r"\d{3} bytes, and JOB_STORE_BYTES"):
            await store.add(new_job(3, body=body))
        await store.cancel(first.id)
        third, _ = await store.add(new_job(3, body=body))
        await store.finish(second.id, lease.fence, Answer(200, [], b"y" * 500))
        with pytest.raises(StoreFull, match="JOB_STORE_BYTES"):
            await store.add(new_job(4, body=b"z" * 100))
        await store.cancel(third.id)
        await store.add(new_job(4, body=body))

    place.run(scenario, total_bytes=1000)


def test_the_bytes_of_expired_jobs_do_not_count(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        await store.finish(status.id, lease.fence, Answer(200, [], b"x" * 1000))
        with pytest.raises(StoreFull):
            await store.add(new_job(2))

        async def has_room() -> bool:
            await store.sweep()
            try:
                return bool(await store.add(new_job(2)))
            except StoreFull:
                return False

        await eventually(has_room)
        assert (await store.totals()).by_state == {state: int(state is State.WAITING) for state in State}

    place.run(scenario, total_bytes=1000, result_seconds=0.2)


# The end.


def test_a_final_job_expires_and_is_then_forgotten(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        await store.finish(status.id, lease.fence, ANSWER)

        async def found() -> str:
            answers = set()
            for call in (store.status, store.answer, store.cancel, lambda id: store.events(id, 0)):
                try:
                    answers.add("there" if await call(status.id) else "unknown")
                except Expired:
                    answers.add("expired")
            return " or ".join(sorted(answers))

        async with asyncio.timeout(30):
            seen = [await found()]
            while seen[-1] != "unknown":
                seen.append(await found())
                if seen[-1] == "expired":
                    await store.sweep()
                await asyncio.sleep(0.01)
        steps = [step for step in dict.fromkeys(seen) if " or " not in step]
        assert steps == ["there", "expired", "unknown"]

    place.run(scenario, result_seconds=1.5)


def test_an_expired_job_that_nobody_has_removed_yet_is_expired_all_the_same(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1, key="key", digest="d1"), taken_by="slow:8101")
        assert lease
        await store.finish(status.id, lease.fence, ANSWER)

        async def is_expired() -> bool:
            try:
                return not await store.status(status.id)
            except Expired:
                return True

        await eventually(is_expired)
        new, _ = await store.add(new_job(2, key="key", digest="d2"))
        assert new.id != status.id, "its key is free"
        again, _ = await store.add(new_job(2, key="key", digest="d2"))
        assert again.id == new.id
        await store.sweep()
        assert (await store.totals()).by_state == {state: int(state is State.WAITING) for state in State}

    place.run(scenario, result_seconds=0.2)


def test_all_that_has_expired_is_removed_at_once(place: Place) -> None:
    async def scenario(store: Store) -> None:
        added = await asyncio.gather(*(store.add(new_job(number)) for number in range(700)))
        await asyncio.gather(*(store.cancel(status.id) for status, _ in added))
        waiting, _ = await store.add(new_job(1))
        assert (await store.totals()).by_state[State.CANCELLED] == 700

        async def are_removed() -> bool:
            await place.beside(lambda other: other.sweep(), result_seconds=0.001)
            return (await store.totals()).by_state[State.CANCELLED] == 0

        await eventually(are_removed)
        assert (await now(store, waiting.id)).state is State.WAITING

    place.run(scenario)


def test_the_totals_count_every_state_and_name_the_oldest_that_waits(place: Place) -> None:
    async def scenario(store: Store) -> None:
        assert (await store.totals()).by_state == dict.fromkeys(State, 0)
        assert (await store.totals()).oldest_waiting is None
        for number, error in enumerate(["", "", "no"]):
            status, lease = await store.add(new_job(number), taken_by="slow:8101")
            assert lease
            await store.finish(status.id, lease.fence, ANSWER, error)
        await store.add(new_job(4), taken_by="slow:8101")
        oldest, _ = await store.add(new_job(5))
        last, _ = await store.add(new_job(6))
        await store.cancel(last.id)
        totals = await store.totals()
        assert totals.by_state == {
            State.WAITING: 1,
            State.RUNNING: 1,
            State.DONE: 2,
            State.FAILED: 1,
            State.CANCELLED: 1,
        }
        assert totals.oldest_waiting == oldest.created

    place.run(scenario)


def test_the_last_failures_come_newest_first(place: Place) -> None:
    async def scenario(store: Store) -> None:
        failed = []
        for number in range(5):
            status, lease = await store.add(new_job(number), taken_by="slow:8101")
            assert lease
            await store.finish(status.id, lease.fence, None, f"error {number}" if number != 2 else "")
            failed.append(await now(store, status.id))
        assert await store.failures(3) == [failed[4], failed[3], failed[1]]
        assert len(await store.failures(100)) == 4

    place.run(scenario)


def test_jobs_are_there_for_the_next_instance(place: Place) -> None:
    job = new_job(1)

    async def first(store: Store) -> None:
        await store.add(job)

    async def second(store: Store) -> None:
        assert (await took(store)).request == job.request

    place.run(first, second)


def test_a_call_that_is_cancelled_leaves_the_answers_of_others_right(place: Place) -> None:
    async def scenario(store: Store) -> None:
        ids = [(await store.add(new_job(number)))[0].id for number in range(20)]
        for _ in range(20):
            calls = [asyncio.ensure_future(store.status(id)) for id in ids]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [status.id for status in found[1::2] if isinstance(status, Status)] == ids[1::2]
        assert [(await now(store, id)).id for id in ids] == ids

    place.run(scenario)


def test_a_status_is_the_same_for_every_instance(place: Place) -> None:
    async def scenario(store: Store) -> None:
        status, lease = await store.add(new_job(1), taken_by="slow:8101")
        assert lease
        await store.beat([Beat(status.id, lease.fence, 1 / 3, "third")])
        found = await place.beside(lambda other: now(other, status.id))
        assert found == dataclasses.replace(status, progress=1 / 3, message="third", change=3)

    place.run(scenario)
