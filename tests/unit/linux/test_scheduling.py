"""The priority of a process."""

import os
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Config
from slowpool.linux.scheduling import count_cpus, has_cgroup_weight
from slowpool.workers import pool


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


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "20000 100000"}, 0.2),
        ("0::/../../host\n", {"cpu.max": "50000 100000"}, 0.5),  # a container that sees its own as the root
        ("0::/\n", {"cpu.max": "rubbish"}, None),
        ("4:cpu,cpuacct:/a\n0::/\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1"}, None),
        (
            "4:cpu,cpuacct:/a\n0::/\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        (
            "4:memory:/a\n",
            {"memory/a/cpu.cfs_quota_us": "50000", "memory/a/cpu.cfs_period_us": "100000"},
            None,
        ),
    ],
)
def test_a_quota_of_a_cgroup_is_fewer_cpus(
    tmp_path: Path, cgroups: str, files: dict[str, str], expected: float | None
) -> None:
    (tmp_path / "cgroup").write_text(cgroups)
    for name, text in files.items():
        file = tmp_path / "fs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    available = len(os.sched_getaffinity(0))
    found = count_cpus(cgroups=str(tmp_path / "cgroup"), root=str(tmp_path / "fs"))
    assert found == (available if expected is None else min(expected, available))


def test_an_affinity_is_fewer_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3})
    nowhere = str(tmp_path / "nowhere")
    assert count_cpus(cgroups=nowhere) == 3
    assert count_cpus({2, 3, 9}, cgroups=nowhere) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert count_cpus(cgroups=nowhere) == 5


@pytest.mark.parametrize(
    ("cpus", "settings", "expected"),
    [
        (8, {}, 4),
        (8, {"slow_processes": 3}, 2),
        (1.5, {}, 1),
        (0.5, {}, 1),
        (8, {"slow_processes": 1, "slow_workers": 3}, 3),
    ],
)
def test_an_instance_has_as_many_workers_as_there_are_cpus_for_it(
    cpus: float, settings: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "count_cpus", lambda only: cpus)
    assert pool.worker_count(Config(**settings)) == expected
