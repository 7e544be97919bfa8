"""Wrong settings, and what an instance prints about them."""

from pathlib import Path

from tests.support.process import Instance, run_app

SHOP = """
import os

import slowpool
from tornado.web import Application, RequestHandler


class Key(RequestHandler):
    async def get(self):
        self.write(os.environ["SHOP_KEY"] + " " + await slowpool.run(os.getenv, "SHOP_KEY"))


def make_app():
    return Application([("/key", Key)])
"""


def test_an_instance_with_a_bad_setting_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    done = run_app(tmp_path, SLOW_QUEUE="many")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("slowpool: SLOW_QUEUE=many: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_instance_names_a_mistyped_setting(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLOW_WORKER=3\n")
    done = run_app(tmp_path, APP="no.such.module:app")
    first, second = done.stderr.splitlines()
    assert first == "slowpool: SLOW_WORKER is no setting and changes nothing; is SLOW_WORKERS meant?"
    assert second.startswith("slowpool: APP=no.such.module:app: ")


def test_the_application_and_its_tasks_have_the_variables_of_the_file_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SHOP_KEY=of-the-file\n")
    (tmp_path / "shop.py").write_text(SHOP)
    with Instance(path=tmp_path, APP="shop:make_app") as instance:
        assert instance.get("/key").text == "of-the-file of-the-file"
