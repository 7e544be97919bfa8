"""The command line: options that are refused."""

import pytest

from slowpool.__main__ import main
from slowpool.config import Pool


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", ""])
def test_a_port_that_is_none_is_refused_with_usage_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], port: str
) -> None:
    assert "argument --port" in refusal(capsys, "--pool=fast", f"--port={port}")


def test_an_unknown_pool_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "--pool=medium", "--port=8001")
    assert "invalid Pool value: 'medium'" in error
    for pool in Pool:
        assert pool in error


@pytest.mark.parametrize("arguments", [[], ["start"], ["--pool=fast"]])
def test_without_a_known_command_it_is_refused_with_usage_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("usage: slowpool ")
    assert printed.out == ""


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "capacity" in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The error of ``slowpool serve`` with these options."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *options])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: slowpool serve ")
    return error
