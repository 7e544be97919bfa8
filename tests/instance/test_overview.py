"""The overview of all instances. They serve in this process, which counts their connections."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets

from slowpool.config import Config, Instance, Pool
from slowpool.instance import Runtime
from slowpool.observe.history import STEP_SECONDS, Step, step_number
from slowpool.observe.inherited import Inherited
from slowpool.status import overview
from slowpool.status.overview import Overview
from slowpool.workers.job import Job
from tests.support.basics import free_ports
from tests.support.hosted import hosted


class CountingServer(HTTPServer):
    """Counts connections: an overview keeps one to each instance."""

    connections = 0
    runtime: Runtime

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        self.connections += 1
        super().handle_stream(stream, address)


Scenario = Callable[[Overview, dict[Pool, CountingServer]], Awaitable[None]]


def with_instances(scenario: Scenario, *pools: Pool, **settings: Any) -> None:
    """One instance of each of these pools, of the two that there should be."""

    async def run() -> None:
        ports = {Pool.FAST: free_ports(), Pool.SLOW: free_ports()}
        config = Config(
            fast_processes=1,
            slow_processes=1,
            fast_port=ports[Pool.FAST],
            slow_port=ports[Pool.SLOW],
            **settings,
        )
        servers = {}
        for pool in pools:
            runtime = Runtime(config, Instance(pool, ports[pool]))
            servers[pool] = CountingServer(hosted(runtime))
            servers[pool].runtime = runtime
            servers[pool].add_sockets(bind_sockets(ports[pool], "127.0.0.1", family=socket.AF_INET))
        try:
            with contextlib.closing(Overview(config)) as seen:
                await scenario(seen, servers)
        finally:
            for server in servers.values():
                server.stop()
                await server.close_all_connections()

    asyncio.run(run())


def states(content: dict[str, Any]) -> dict[str, str]:
    return {one["pool"]: one["state"] for one in content["instances"]}


def test_every_instance_is_seen_with_what_it_says_of_itself() -> None:
    async def scenario(seen: Overview, servers: object) -> None:
        await seen.look()
        content = seen.content()
        assert states(content) == {"fast": "ready", "slow": "ready"}
        assert content["hints"] == []
        assert all(pool["answering"] == pool["instances"] == 1 for pool in content["pools"].values())
        assert all(one["resident_bytes"] > 1 << 20 for one in content["instances"])

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_one_that_refuses_is_said_not_to_answer_and_what_to_do_about_a_pool_without_any() -> None:
    async def scenario(seen: Overview, servers: object) -> None:
        await seen.look()
        content = seen.content()
        assert states(content) == {"fast": "ready", "slow": "no answer"}
        assert "No instance of the slow pool answers" in content["hints"][0]
        assert "refused" in content["hints"][1]

    with_instances(scenario, Pool.FAST)


def test_a_name_that_leads_nowhere_is_a_pool_without_instances() -> None:
    async def scenario(seen: Overview, servers: object) -> None:
        await seen.look()
        content = seen.content()
        assert states(content) == {"fast": "ready"}
        assert "docker compose" not in content["hints"][0], "the fast pool has an address"

    with_instances(scenario, Pool.FAST, slow_host="no-such-host.invalid")


def test_a_page_that_is_opened_twice_asks_the_instances_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        async def watch(count: int) -> list[dict[str, Any]]:
            texts = []
            async for text in seen.watch():
                texts.append(json.loads(text))
                if len(texts) == count:
                    break
            return texts

        pages = await asyncio.gather(*(watch(8) for _ in range(5)))
        for page in pages:
            assert all(states(content) == {"fast": "ready", "slow": "ready"} for content in page)
        assert [server.connections for server in servers.values()] == [1, 1]
        times = [content["time"] for content in pages[0]]
        assert len({content["time"] for page in pages for content in page}) <= len(times) + 1
        async with asyncio.timeout(30):
            while any(server._connections for server in servers.values()):  # nobody watches any more
                await asyncio.sleep(0.02)

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_routes_and_failures_are_sent_first_and_then_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        fast, slow = (servers[pool].runtime for pool in (Pool.FAST, Pool.SLOW))
        slow.workers.failures.add(Job(b"", 1, route="/slow"), "died", "worker 7 was killed by SIGKILL")
        fast.metrics.request("GET", "/quick", 200, 0.001, {})
        fast.metrics.handed_over("/report")
        slow.metrics.request("GET", "/report", 200, 0.5, {"queue_seconds": 0.1, "run_seconds": 0.4})
        messages = []
        async with contextlib.aclosing(seen.watch()) as texts, asyncio.timeout(30):
            async for text in texts:
                messages.append(json.loads(text))
                # A step may end between two of the calls above, and between two answers.
                steps = {int(message["time"]) // STEP_SECONDS for message in messages}
                if len(messages) > len(steps) + 1 and len(messages[-1].get("routes", [])) == 3:
                    break
        told = [content for content in messages if "routes" in content]
        assert messages[0] in told
        assert len(told) <= len(steps) + 1
        assert len(told) < len(messages)
        assert all(("failures" in content) == ("routes" in content) for content in messages)
        for content in (told[0], told[-1]):
            (failure,) = content["failures"]
            assert (failure["outcome"], failure["error"]) == ("died", "worker 7 was killed by SIGKILL")
        rows = [
            (row["pool"], row["route"], row["requests"], row["handed_over"]) for row in told[-1]["routes"]
        ]
        assert rows == [("slow", "/report", 1, 0), ("fast", "/quick", 1, 0), ("fast", "/report", 0, 1)]
        assert told[-1]["routes"][0]["run_seconds"] == 0.4
        again = seen.watch()
        assert json.loads(await anext(again))["failures"] == [failure]
        await again.aclose()

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_who_comes_later_gets_the_history_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        history = servers[Pool.FAST].runtime.metrics.history
        for number in range(step_number() - 30, step_number()):
            history._steps[number] = Step(requests=1)
        first, second = seen.watch(), seen.watch()
        async with asyncio.timeout(30):
            while len(json.loads(await anext(first))["steps"]["fast"]) < 30:  # it has not answered yet
                pass
        assert len(json.loads(await anext(second))["steps"]["fast"]) >= 30
        assert len(json.loads(await anext(first))["steps"]["fast"]) <= 3
        await first.aclose()
        await second.aclose()

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_events_come_with_the_first_message_and_when_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: object) -> None:
        seen._events.add("act", "first")
        early = seen.watch()
        assert [event["text"] for event in json.loads(await anext(early))["events"]] == ["first"]
        assert "events" not in json.loads(await anext(early))
        late = seen.watch()
        assert [event["text"] for event in json.loads(await anext(late))["events"]] == ["first"]
        seen._events.add("act", "second")
        async with asyncio.timeout(30):
            while "events" not in (content := json.loads(await anext(early))):
                pass
        assert [event["text"] for event in content["events"]] == ["second", "first"]
        await early.aclose()
        await late.aclose()

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_a_page_that_has_missed_an_update_gets_all_of_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        quick, slow = seen.watch(), seen.watch()
        for watcher in (quick, slow):
            await anext(watcher)
        for _ in range(2):  # the queue of the slow one has room for one
            await anext(quick)
        seen._events.add("act", "missed")
        async with asyncio.timeout(30):
            while "events" not in json.loads(await anext(quick)):
                pass
        texts = []
        async with asyncio.timeout(30):
            while "missed" not in texts:
                texts += [event["text"] for event in json.loads(await anext(slow)).get("events", [])]
        await quick.aclose()
        await slow.aclose()

    with_instances(scenario, Pool.FAST, Pool.SLOW)


def test_a_message_names_the_instance_that_sends_it() -> None:
    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        own = servers[Pool.FAST].runtime.instance
        with contextlib.closing(Overview(servers[Pool.FAST].runtime.config, None, own)) as shown:
            await shown.look()
            assert shown.content()["served_by"] == f"fast:{own.port} at 127.0.0.1"
        assert "served_by" not in seen.content()

    with_instances(scenario, Pool.FAST)


def test_the_page_of_another_instance_has_the_history_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LOOK_SECONDS", 0.2)

    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        runtime = servers[Pool.FAST].runtime
        at = step_number() - 30
        page = seen.watch()
        await anext(page)
        left = Inherited(processes={"0" * 16: at}, steps={at: Step(requests=7)})
        runtime.inherited = runtime.inherited.plus(left)
        async with asyncio.timeout(30):
            while str(at) not in (steps := json.loads(await anext(page))["steps"]["fast"]):
                pass
        assert steps[str(at)]["requests"] == 7
        assert str(at) not in json.loads(await anext(page))["steps"]["fast"]
        await page.aclose()

    with_instances(scenario, Pool.FAST)


def test_who_asks_for_no_history_gets_the_instances_and_their_jobs_only() -> None:
    async def scenario(seen: Overview, servers: dict[Pool, CountingServer]) -> None:
        for server in servers.values():
            history = server.runtime.metrics.history
            history._steps |= {step_number() - 1: Step(requests=1), step_number(): Step(requests=1)}
            left = {step_number() - 1: Step(requests=7)}
            server.runtime.inherited = Inherited(processes={"0" * 16: step_number() - 1}, steps=left)
        config = servers[Pool.FAST].runtime.config
        with contextlib.closing(Overview(config, since=step_number() + 100)) as short:
            await short.look()
            assert [(one["pool"], one["state"], one["running"]) for one in short.instances()] == [
                ("fast", "ready", []),
                ("slow", "ready", []),
            ]
            content = short.content()
            assert content["steps"] == {"fast": {}, "slow": {}}
            assert content["routes"] == content["failures"] == []
        await seen.look()
        assert sum(step["requests"] for step in seen.content()["steps"]["fast"].values()) == 9

    with_instances(scenario, Pool.FAST, Pool.SLOW)
