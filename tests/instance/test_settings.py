"""Wrong settings, and what an instance prints about them."""

from pathlib import Path

from tests.support.process import run_app


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
