"""The priority of a process."""

from pathlib import Path

import pytest

from slowpool.linux.scheduling import has_cgroup_weight


@pytest.mark.parametrize(
    ("cgroups", "weights", "expected"),
    [
        ("4:cpu,cpuacct:/\n0::/\n", [], False),
        ("4:cpu,cpuacct:/docker/3f2a\n0::/\n", [], True),
        ("4:cpuset:/docker/3f2a\n", [], False),
        ("0::/\n", [], False),
        ("0::/\n", ["."], True),
        ("0::/user.slice/session.scope\n", ["user.slice"], True),
        ("0::/user.slice/session.scope\n", ["system.slice"], False),
    ],
)
def test_a_scheduling_group_is_a_cgroup_where_that_has_a_weight(
    tmp_path: Path, cgroups: str, weights: list[str], expected: bool
) -> None:
    (tmp_path / "cgroup").write_text(cgroups)
    for folder in weights:
        (tmp_path / "fs" / folder).mkdir(parents=True)
        (tmp_path / "fs" / folder / "cpu.weight").write_text("100\n")
    assert has_cgroup_weight(str(tmp_path / "cgroup"), str(tmp_path / "fs")) is expected
