"""``--reload``: an instance restarts when the code changes, and waits while it is broken."""

import re
import signal
import time
from pathlib import Path

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.process import Instance, Process, app_command, app_environment


def test_reload_restarts_an_instance_when_a_module_changes(tmp_path: Path) -> None:
    module, changed = tmp_path / "shop.py", tmp_path / "changed"
    source = (
        "from tornado.web import Application, RequestHandler\n"
        "class Version(RequestHandler):\n"
        "    def get(self): self.finish('one')\n"
        "app = Application([(r'/version', Version)])\n"
    )
    module.write_text(source)
    with Instance(Pool.FAST, "--reload", path=tmp_path, APP="shop:app") as instance:
        assert instance.get("/version").text == "one"

        def is_changed() -> bool:
            # Again and again: autoreload notices no change before its first look at the file. In one
            # step: the instance may be reading it.
            changed.write_text(source.replace("one", "second"))
            changed.replace(module)
            try:
                return instance.get("/version").text == "second"
            except OSError:
                return False

        wait_until(is_changed)
        instance.terminate()
        assert instance.wait() == 0


def test_reload_waits_for_the_next_change_while_the_code_is_broken(tmp_path: Path) -> None:
    module, changed = tmp_path / "shop.py", tmp_path / "changed"
    good = "from tornado.web import Application\napp = Application()\n"
    broken = {
        "app = [": "SyntaxError: ",
        "1 / 0": "ZeroDivisionError: ",
        "import missing_part": "No module named 'missing_part'",
        "x = 1": "shop has no attribute 'app'",
    }

    def write(text: str) -> None:
        changed.write_text(text)
        changed.replace(module)

    write("app = [")
    command = app_command(Pool.ALL, free_ports(), "--reload")
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop:app"})) as process:
        for times, (text, reason) in enumerate(broken.items(), 1):
            if times > 1:
                write(text)
            process.wait_for_output(re.escape(reason))
            wait_until(lambda: process.output.count("waits for a change of the code") == times)  # noqa: B023
        write(good)
        process.wait_for_output("is ready")

        def waits_again() -> bool:  # autoreload notices no change before its first look at the file
            write(f"x = 1\n# {time.monotonic()}\n")
            return process.output.count("waits for a change") > len(broken)

        wait_until(waits_again)
        write(good)
        wait_until(lambda: process.output.count("is ready") > 1)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_reload_that_waits_can_be_stopped(tmp_path: Path) -> None:
    command = app_command(Pool.FAST, free_ports(), "--reload")
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "missing:app"})) as process:
        process.wait_for_output("slowpool: waits for a change of the code")
        process.signal(signal.SIGINT)
        assert process.wait() == 130
        assert "Traceback" not in process.output


def test_reload_finds_a_module_that_appears(tmp_path: Path) -> None:
    command = app_command(Pool.FAST, free_ports(), "--reload")
    with Process(command, tmp_path, app_environment(tmp_path, {"APP": "shop.main:app"})) as process:
        process.wait_for_output("slowpool: waits for a change of the code")
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "main.py").write_text("import tornado.web\n\napp = tornado.web.Application()\n")
        process.wait_for_output("is ready")
