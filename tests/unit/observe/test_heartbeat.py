"""Heartbeat: what the watchdog reads of an instance."""

import os
import struct
import time
from pathlib import Path

import pytest

from slowpool.observe.heartbeat import Beat, Heartbeat, forget_beats, last_beat

PORT = 8001


def test_a_beat_is_read_as_the_instant_of_it(tmp_path: Path) -> None:
    heartbeat, other = Heartbeat(tmp_path, PORT), Heartbeat(tmp_path, PORT + 1)
    for _ in range(2):
        before = time.monotonic()
        heartbeat.beat()
        assert before <= last_beat(tmp_path, PORT).at <= time.monotonic()
    assert last_beat(tmp_path, PORT).pid == os.getpid()
    assert last_beat(tmp_path, PORT + 1) == Beat(0, 0)
    other.beat()
    assert last_beat(tmp_path, PORT + 1).at > last_beat(tmp_path, PORT).at


def test_an_instance_that_starts_again_has_no_beat_of_the_one_before(tmp_path: Path) -> None:
    Heartbeat(tmp_path, PORT).beat()
    assert last_beat(tmp_path, PORT).at
    last = last_beat(tmp_path, PORT)
    assert Heartbeat(tmp_path, PORT).before == last
    assert last_beat(tmp_path, PORT) == Beat(0, 0)


def test_an_instance_asks_for_a_restart_until_it_has_been_started_again(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, PORT)
    heartbeat.beat()
    assert not last_beat(tmp_path, PORT).wants_restart
    assert heartbeat.ask_for_restart()
    heartbeat.beat()
    assert last_beat(tmp_path, PORT).wants_restart
    Heartbeat(tmp_path, PORT).beat()
    assert not last_beat(tmp_path, PORT).wants_restart


def test_a_watchdog_that_is_older_than_the_instance_reads_the_instant_of_its_beat(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, PORT)
    for wish in (heartbeat.beat, heartbeat.ask_for_restart):
        wish()
        at, pid = struct.unpack("=dq", (tmp_path / f"heartbeat-{PORT}").read_bytes())
        assert (at, abs(pid)) == last_beat(tmp_path, PORT)[:2]
        assert at


def test_beats_that_are_forgotten_are_not_those_before_the_next(tmp_path: Path) -> None:
    for port in (PORT, PORT + 1):
        Heartbeat(tmp_path, port).beat()
    forget_beats(tmp_path)
    assert Heartbeat(tmp_path, PORT).before == last_beat(tmp_path, PORT + 1) == Beat(0, 0)


@pytest.mark.parametrize("folder", ["missing", "removed", ""])
def test_an_instance_whose_watchdog_cannot_read_its_wish_does_not_have_it(
    tmp_path: Path, folder: str
) -> None:
    if folder == "removed":
        (tmp_path / folder).mkdir()
    heartbeat = Heartbeat(tmp_path / folder if folder else None, PORT)
    (tmp_path / "removed" / f"heartbeat-{PORT}").unlink(missing_ok=True)
    assert not heartbeat.ask_for_restart()
    assert not heartbeat.wants_restart


def test_without_a_file_there_is_no_beat(tmp_path: Path) -> None:
    assert last_beat(tmp_path, PORT) == Beat(0, 0)


def test_without_supervisor_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Heartbeat(None, PORT).beat()
    assert not list(tmp_path.iterdir())


def test_an_instance_that_cannot_write_the_file_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Heartbeat(tmp_path / "missing", PORT).beat()
    assert "the watchdog cannot see whether the event loop runs: [Errno 2]" in caplog.text
