"""What a task prints and logs."""

import asyncio
import functools
import logging
import os
from collections.abc import Callable

import pytest

from slowpool.workers import records
from slowpool.workers.output import MAX_BYTES_PER_JOB, OutputLog
from tests.apps import logged, zoo
from tests.support.pool import Pool, with_pool


def test_what_a_task_prints_is_logged_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        pid = await pool.run(zoo.own_pid)
        await pool.submit(zoo.says, "hello", request_id="id-1").result()
        await pool.submit(zoo.says, "again", request_id="id-2").result()
        lines = [(record.getMessage(), getattr(record, "request_id", "")) for record in caplog.records]
        assert (f"worker {pid}: hello", "id-1") in lines
        assert (f"worker {pid}: again", "id-2") in lines

    with_pool(scenario)


def test_a_flood_of_output_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(pool: Pool) -> None:
        await pool.run(zoo.prints_garbage)

    with_pool(scenario)
    assert sum(map(len, caplog.messages)) < 1 << 20
    assert any("more bytes of output are not logged" in message for message in caplog.messages)


def test_a_record_of_a_task_keeps_its_level_logger_traceback_and_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pid = logged_by(caplog, logged.logs_in_every_way, request_id="id-1")
    info, warning, error = caplog.records
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("shop.report", "INFO"),
        ("shop.report", "WARNING"),
        ("shop.report", "ERROR"),
    ]
    assert info.getMessage() == "a report of 3 pages"
    assert (
        vars(info).items() >= {"pages": 3, "names": ["a", "b"], "request_id": "id-1", "worker": pid}.items()
    )
    assert warning.stack_info
    assert "in logs_in_every_way" in warning.stack_info
    assert error.exc_text
    assert error.exc_text.startswith("Traceback (most recent call last):\n")
    assert error.exc_text.endswith("ValueError: no paper\x1b[2J")


def test_records_and_what_is_printed_are_logged_in_order(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    pid = logged_by(caplog, logged.logs_beside_what_it_prints)
    assert [
        (record.name, record.getMessage().removeprefix(f"worker {pid}: ")) for record in caplog.records
    ] == [
        (name, str(number))
        for number, name in enumerate(
            [
                "slowpool.worker",
                "shop.report",
                "slowpool.worker",
                "slowpool.worker",
                "shop.report",
                "slowpool.worker",
                "slowpool.worker",
                "shop.report",
            ],
            start=1,
        )
    ]


def test_a_warning_of_a_task_is_a_record(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, logged.warns)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("py.warnings", "WARNING")
    assert "UserWarning: the paper is old" in record.getMessage()


def test_a_record_that_cannot_be_formatted_is_printed_and_harms_no_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pid = logged_by(caplog, logged.logs_what_cannot_be_formatted)
    for text in (
        "--- Logging error ---",
        "Message: '%d pages'",
        "Arguments: ('many',)",
        "KeyError: 'hostile'",
    ):
        assert f"worker {pid}: {text}" in caplog.messages
    record = caplog.records[-1]
    assert (record.getMessage(), vars(record)["pages"]) == ("a field is hostile", 3)
    assert not hasattr(record, "field")


def test_a_record_harms_no_task_that_has_closed_its_output(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, logged.logs_without_its_output)
    assert caplog.messages == ["still there"]


def test_a_huge_record_is_shortened_and_the_next_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, logged.logs_much_at_once)
    huge, following = caplog.records
    assert (huge.levelname, huge.name) == ("ERROR", "shop.report")
    assert len(huge.getMessage()) < MAX_BYTES_PER_JOB
    assert (following.levelname, following.getMessage()) == ("INFO", "the next")


def test_records_count_as_output_and_the_one_that_is_cut_is_text(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, logged.logs_until_nothing_more_is_taken, logged.logs_in_every_way)
    records, (cut, dropped), following = caplog.records[:-5], caplog.records[-5:-3], caplog.records[-3:]
    assert {(record.name, record.getMessage()) for record in records} == {("shop.report", "x" * 5_000)}
    assert (cut.name, cut.levelname) == ("slowpool.worker", "INFO")
    assert dropped.getMessage().endswith("more bytes of output are not logged")
    assert {record.name for record in following} == {"shop.report"}


def test_threads_may_log_at_once(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, functools.partial(logged.logs_in_threads, 8, 50))
    expected = [f"{thread}.{number}" for thread in range(8) for number in range(50)]
    assert sorted(caplog.messages) == sorted(expected)
    assert {record.name for record in caplog.records} == {"shop.report"}


def test_a_child_of_a_task_logs_too(caplog: pytest.LogCaptureFixture) -> None:
    pid = logged_by(caplog, logged.logs_in_a_child)
    childs, parents = caplog.records
    assert (childs.getMessage(), childs.levelname) == ("the child's", "ERROR")
    assert vars(childs)["worker"] == pid != vars(childs)["child"]
    assert (parents.getMessage(), parents.levelname) == ("the parent's", "INFO")


def test_a_task_makes_no_logger_in_the_instance(caplog: pytest.LogCaptureFixture) -> None:
    logged_by(caplog, logged.logs_under_other_names)
    assert {f"shop.order{number}" for number in range(100)} == {record.name for record in caplog.records}
    assert not [name for name in logging.root.manager.loggerDict if name.startswith("shop.order")]


@pytest.mark.parametrize(
    "line",
    [
        records.START,
        records.START + b'[40,"shop","cut',
        records.START + b'[40,"shop","hello",null,null,[]]',
        records.START + b"\xff\x1b[2J",
        records.START * 3,
        b"\0\r",
    ],
)
def test_any_other_line_is_text_and_the_next_is_whole(caplog: pytest.LogCaptureFixture, line: bytes) -> None:
    read(caplog, line + b"\n" + RECORD + b"hello\n")
    text, record, hello = caplog.records
    assert text.getMessage() == f"worker 7: {line.decode(errors='backslashreplace')}"
    assert (record.name, record.levelname, record.getMessage()) == ("shop", "ERROR", "a record")
    assert hello.getMessage() == "worker 7: hello"


def test_a_record_after_an_unfinished_line_is_a_record(caplog: pytest.LogCaptureFixture) -> None:
    read(caplog, b"\r50 %\r51 %" + RECORD + RECORD[:9] + RECORD)
    assert caplog.messages == [
        "worker 7: \r50 %\r51 %",
        "a record",
        f"worker 7: {RECORD[:9].decode()}",
        "a record",
    ]


def test_a_record_may_arrive_in_pieces(caplog: pytest.LogCaptureFixture) -> None:
    read(caplog, *(bytes([byte]) for byte in RECORD * 2))
    assert caplog.messages == ["a record", "a record"]


def test_the_level_of_a_logger_in_the_instance_counts(caplog: pytest.LogCaptureFixture) -> None:
    read(caplog, RECORD, level="CRITICAL")
    assert not caplog.records
    with caplog.at_level("CRITICAL", "shop"):
        read(caplog, RECORD + b"hello\n")
    assert caplog.messages == ["worker 7: hello"]


def test_a_filter_that_fails_takes_no_other_line_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def fails(record: logging.LogRecord) -> bool:
        raise IndexError("no arguments")

    shop = logging.getLogger("shop")
    shop.addFilter(fails)
    try:
        read(caplog, RECORD + b"hello\n")
    finally:
        shop.removeFilter(fails)
    assert caplog.messages == ["a record of shop cannot be logged", "worker 7: hello"]
    assert "IndexError: no arguments" in caplog.text


def test_output_of_another_process_has_its_own_label(caplog: pytest.LogCaptureFixture) -> None:
    read(caplog, b"hello\n" + RECORD, label="template")
    assert caplog.messages == ["template 7: hello", "a record"]
    assert [vars(record)["template"] for record in caplog.records] == [7, 7]


RECORD = records.encode(logging.makeLogRecord({"name": "shop", "levelno": logging.ERROR, "msg": "a record"}))


def read(
    caplog: pytest.LogCaptureFixture, *pieces: bytes, level: str = "INFO", label: str = "worker"
) -> None:
    """Log what comes through a pipe in these pieces."""
    caplog.set_level(level)

    async def main() -> None:
        output, output_there = os.pipe()
        log = OutputLog(output, 7, label)
        for piece in pieces:
            os.write(output_there, piece)
            log._read()
        os.close(output_there)
        log.close()

    asyncio.run(main())


def logged_by(caplog: pytest.LogCaptureFixture, *tasks: Callable[[], object], request_id: str = "id") -> int:
    """Run the tasks in a worker, whose pid it returns; ``caplog`` has what they logged."""
    caplog.set_level("INFO")
    pids = []

    async def scenario(pool: Pool) -> None:
        pids.append(await pool.run(zoo.own_pid))
        caplog.clear()
        for task in tasks:
            await pool.submit(task, request_id=request_id).result()

    with_pool(scenario)
    return pids[0]
