"""Functions marked with @slowpool.warm, in an instance."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.client import refuses, unanswered
from tests.support.gate import Gate
from tests.support.pool import is_dead
from tests.support.process import APPS, Instance, Process, app_command, app_environment, run_app

WARM = "tests.apps.warm:make_app"


@pytest.fixture
def loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Where the model is loaded; it is, once the gate is open."""
    gate = Gate(tmp_path / "loading")
    monkeypatch.setenv("WARM_FOLDER", str(gate.folder))
    return gate


@pytest.fixture
def slow(loading: Gate) -> Iterator[Instance]:
    loading.open()
    with Instance(Pool.SLOW, APP=WARM, SLOW_WORKERS=1) as instance:
        yield instance


def predict(instance: Instance) -> dict[str, int]:
    answer: dict[str, int] = json.loads(instance.get("/slow/predict").text)
    return answer


def test_what_is_loaded_once_in_the_template_is_there_in_each_worker(
    slow: Instance, loading: Gate, gate: Gate
) -> None:
    first = predict(slow)
    assert first["loaded by"] == first["parent"] == slow.template.pid
    with unanswered(slow.port, gate("/slow/wait")):
        gate.wait_for(1)
    wait_until(lambda: is_dead(first["worker"]))
    second = predict(slow)
    assert second["worker"] != first["worker"] == gate.entered[0]
    assert second["loaded by"] == first["loaded by"]
    assert loading.entered == [slow.template.pid]


def test_workers_that_are_started_afresh_load_it_themselves(loading: Gate) -> None:
    loading.open()
    with Instance(Pool.SLOW, APP=WARM, SLOW_WORKERS=1, SLOW_FORK=0, expected="started afresh") as instance:
        answer = predict(instance)
        assert answer["loaded by"] == answer["worker"]
        assert loading.entered == [answer["worker"]]


def test_an_instance_is_ready_once_it_has_loaded_it(loading: Gate) -> None:
    port = free_ports()
    env = app_environment(APPS, {"APP": WARM})
    with Process(app_command(Pool.SLOW, port), APPS, env) as process:
        loading.wait_for(1)
        assert refuses(port)
        assert "is ready" not in process.output
        loading.open()
        process.wait_for_output(" is ready")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_an_instance_that_is_stopped_while_it_loads_ends_with_its_template(loading: Gate) -> None:
    env = app_environment(APPS, {"APP": WARM})
    with Process(app_command(Pool.SLOW, free_ports()), APPS, env) as process:
        loading.wait_for(1)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    wait_until(lambda: is_dead(loading.entered[0]))


def test_a_fast_instance_does_not_load_it(loading: Gate) -> None:
    with Instance(Pool.FAST, APP=WARM):
        pass
    assert loading.entered == []


def test_a_template_that_is_killed_is_replaced_and_its_worker_goes_on(slow: Instance, loading: Gate) -> None:
    first = predict(slow)
    slow._expected = "template .* was killed by SIGKILL; another one is started"
    slow.template.kill()
    wait_until(lambda: len(loading.entered) == 2)
    slow.wait_for_output("another one is started, and its workers go on")
    assert predict(slow)["worker"] == first["worker"]


SHOP = """
import os
from tornado.web import Application, RequestHandler
import slowpool

@slowpool.warm
def model():
    VALUE

def predict():
    return f"{model()} {os.getppid()}"

class Predict(RequestHandler):
    async def get(self):
        self.finish(await slowpool.run(predict))

app = Application([(r"/slow/predict", Predict)])
"""


def test_a_function_that_fails_ends_the_start_with_its_error_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP.replace("VALUE", 'open("/no/such/model")'))
    done = run_app(tmp_path, Pool.SLOW, APP="shop:app")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert 'shop.py", line 8, in model' in done.stderr
    assert (
        "slowpool: APP=shop:app has a function marked with @slowpool.warm that fails: "
        "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/model'"
    ) in done.stderr.splitlines()


def test_reloaded_code_has_a_template_of_its_own(tmp_path: Path) -> None:
    module, changed = tmp_path / "shop.py", tmp_path / "changed"
    module.write_text(SHOP.replace("VALUE", 'return "one"'))
    with Instance(Pool.SLOW, "--reload", path=tmp_path, APP="shop:app", SLOW_WORKERS=1) as instance:
        value, template = instance.get("/slow/predict").text.split()
        assert (value, int(template)) == ("one", instance.template.pid)

        def is_changed() -> bool:
            # Again and again: autoreload notices no change before its first look at the file.
            changed.write_text(SHOP.replace("VALUE", 'return "second"'))
            changed.replace(module)
            try:
                return instance.get("/slow/predict").text.startswith("second ")
            except OSError:
                return False

        wait_until(is_changed)
        wait_until(lambda: is_dead(int(template)))
        assert instance.template.pid != int(template)
