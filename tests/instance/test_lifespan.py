"""``Application(..., lifespan=...)``: what an application opens before it serves, and closes after it."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.client import refuses
from tests.support.gate import Gate
from tests.support.process import Instance, Process, app_command, app_environment, check_app, run_app

START = """
import asyncio, contextlib, os
from pathlib import Path
from tornado.web import Application, RequestHandler
from tests.apps.controlled import WaitHandler

async def waited_for(path):
    while not os.path.exists(path):
        await asyncio.sleep(0.01)

class Database(RequestHandler):
    def get(self):
        self.finish(self.application.database)

@contextlib.asynccontextmanager
async def resources(app):
    {enter}
    app.database = "open"
    print("resources are open", flush=True)
    try:
        yield
    finally:
        {leave}
        app.database = "closed"
        print("resources are closed", flush=True)

def make_app():
    return Application([("/database", Database), ("/wait", WaitHandler)], lifespan=resources)
"""


def write(folder: Path, enter: str = "pass", leave: str = "pass") -> None:
    """An application ``shop`` that does this when its lifespan begins and ends."""
    (folder / "shop.py").write_text(START.format(enter=enter, leave=leave))


@pytest.mark.parametrize("pool", list(Pool))
def test_it_is_entered_before_the_instance_is_ready_and_left_after_its_drain(
    tmp_path: Path, gate: Gate, background: ThreadPoolExecutor, pool: Pool
) -> None:
    write(tmp_path)
    with Instance(pool, path=tmp_path, APP="shop:make_app") as instance:
        assert instance.get("/database").text == "open"
        answer = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        instance.terminate()
        wait_until(lambda: refuses(instance.port))
        assert "resources are closed" not in instance.output
        gate.open()
        assert answer.result().text == "released"
        assert instance.wait() == 0
        lines = instance.output.splitlines()
        places = [
            next(index for index, line in enumerate(lines) if text in line)
            for text in (
                "resources are open",
                " is ready",
                " drains ",
                "resources are closed",
                " has stopped",
            )
        ]
        assert places == sorted(places)


def test_the_port_is_closed_until_it_has_been_entered(tmp_path: Path) -> None:
    write(tmp_path, enter=f"print('enters', flush=True); await waited_for({str(tmp_path / 'migrated')!r})")
    port = free_ports()
    command = app_command(Pool.ALL, port)
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop:make_app"})) as instance:
        instance.wait_for_output("^enters$")
        assert refuses(port)
        (tmp_path / "migrated").touch()
        instance.wait_for_output(" is ready$")
        assert not refuses(port)


@pytest.mark.parametrize("pool", list(Pool))
def test_an_exception_in_it_is_an_error_at_start_that_says_so(tmp_path: Path, pool: Pool) -> None:
    write(tmp_path, enter="raise OSError('no database at db.example')")
    done = run_app(tmp_path, pool, APP="shop:make_app")
    assert (done.returncode, done.stdout) == (2, "")
    *_, raised, last = done.stderr.splitlines()
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert 'shop.py", line' in done.stderr
    assert "contextlib" not in done.stderr
    assert raised == "OSError: no database at db.example"
    assert last == f"slowpool: APP=shop:make_app has a lifespan that fails: {raised}"


@pytest.mark.parametrize("lifespan", ["7", "lambda app: 7", "lambda: None"])
def test_what_is_no_lifespan_is_an_error_at_start(tmp_path: Path, lifespan: str) -> None:
    (tmp_path / "shop.py").write_text(
        f"from tornado.web import Application\n\napp = Application(lifespan={lifespan})\n"
    )
    done = run_app(tmp_path, APP="shop:app")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("slowpool: APP=shop:app has a lifespan that fails: TypeError: ")


def test_a_signal_while_it_is_entered_ends_the_instance(tmp_path: Path) -> None:
    write(tmp_path, enter="print('enters', flush=True); await asyncio.sleep(1000)")
    command = app_command(Pool.ALL, free_ports())
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop:make_app"})) as instance:
        instance.wait_for_output("^enters$")
        instance.signal(signal.SIGTERM)
        assert instance.wait() == 0
        assert "Traceback" not in instance.output
        assert "resources are open" not in instance.output


def test_a_signal_while_the_application_is_made_ends_the_instance(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import asyncio\n\nasync def make_app():\n"
        "    print('makes', flush=True)\n    await asyncio.Event().wait()\n"
    )
    command = app_command(Pool.ALL, free_ports())
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop:make_app"})) as instance:
        instance.wait_for_output("^makes$")
        instance.signal(signal.SIGTERM)
        assert instance.wait() == 0
        assert "Traceback" not in instance.output


def test_a_signal_that_only_ends_streams_does_not_end_an_instance_that_starts(tmp_path: Path) -> None:
    write(tmp_path, enter=f"print('enters', flush=True); await waited_for({str(tmp_path / 'migrated')!r})")
    command = app_command(Pool.FAST, free_ports())
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop:make_app"})) as instance:
        instance.wait_for_output("^enters$")
        instance.signal(signal.SIGUSR1)
        (tmp_path / "migrated").touch()
        instance.wait_for_output(" is ready$")
        instance.signal(signal.SIGTERM)
        assert instance.wait() == 0


def test_a_second_signal_ends_an_instance_that_waits_to_leave_it(tmp_path: Path) -> None:
    write(tmp_path, leave="print('leaves', flush=True); await asyncio.Event().wait()")
    with Instance(path=tmp_path, APP="shop:make_app") as instance:
        instance.terminate()
        instance.wait_for_output("^leaves$")
        instance.terminate()
        assert instance.wait() == 0
        assert "resources are closed" not in instance.output


@pytest.mark.parametrize("pool", [Pool.SLOW, Pool.ALL])
def test_it_may_run_jobs_where_there_are_workers(tmp_path: Path, pool: Pool) -> None:
    write(tmp_path, enter="import slowpool; print('ran in', await slowpool.run(os.getpid), flush=True)")
    with Instance(pool, path=tmp_path, APP="shop:make_app") as instance:
        line = instance.wait_for_output("^ran in ")
        assert int(line.removeprefix("ran in ")) != instance.pid


def test_an_exception_when_it_is_left_is_in_the_log(tmp_path: Path) -> None:
    write(tmp_path, leave="raise OSError('the database has gone')")
    with Instance(path=tmp_path, APP="shop:make_app", expected="") as instance:
        instance.terminate()
        assert instance.wait() == 0
        assert "the lifespan of APP=shop:make_app failed at its end" in instance.output
        assert "OSError: the database has gone" in instance.output


def test_it_is_left_though_the_drain_timeout_has_cut_a_request(
    tmp_path: Path, gate: Gate, background: ThreadPoolExecutor
) -> None:
    write(tmp_path)
    with Instance(path=tmp_path, APP="shop:make_app", expected="cuts 1 connections") as instance:
        answer = background.submit(instance.get, gate("/wait"))
        gate.wait_for(1)
        instance.terminate()
        instance.wait_for_output("drains 1 connections")
        instance.terminate()
        assert instance.wait() == 0
        assert answer.exception()
        assert "resources are closed" in instance.output


def test_an_application_with_a_lifespan_is_checked_without_entering_it(tmp_path: Path) -> None:
    write(tmp_path, enter="raise OSError('no database')")
    done = check_app(tmp_path, APP="shop:make_app")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
