"""What the project is made of, and what looks for holes in it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.basics import ROOT

BIN = Path(sys.executable).parent
LOCK = ROOT / "deploy/requirements/base.lock"
ADVISORIES_SECONDS = 5
"""Per connection; a source that is not there must not hold up the tests."""


def test_bandit_has_nothing_to_say() -> None:
    done = run("bandit", "--quiet", "--recursive", "app", "deploy", "--configfile=pyproject.toml")
    assert (done.returncode, done.stdout) == (0, "")


def test_each_exception_from_bandit_names_its_rule_and_has_its_reason() -> None:
    for folder in ("app", "deploy"):
        for file in (ROOT / folder).rglob("*.py"):
            lines = file.read_text().splitlines()
            for above, line in zip(["", *lines], lines, strict=False):
                if "nosec" in line:
                    assert re.search(r"# nosec B\d+(  # \w.*)?$", line), line
                    assert re.search(r"# nosec B\d+  # ", line) or above.strip().startswith("# "), line


@pytest.mark.parametrize("tls", ["", "-tls"])
def test_compose_lint_has_nothing_to_say(tmp_path: Path, tls: str) -> None:
    """It does not follow a path with a variable, which Compose replaces before it reads the file."""
    shutil.copytree(ROOT / "deploy" / "compose", tmp_path / "deploy" / "compose")
    text = (ROOT / "docker-compose.yml").read_text()
    file = tmp_path / "docker-compose.yml"
    file.write_text(text.replace("ports${TLS_CERTIFICATE:+-tls}.yml", f"ports{tls}.yml"))
    done = run("compose-lint", "--strict-config", "--fail-on=low", "--no-env", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", ["pypi", "osv"])
def test_no_dependency_has_a_known_vulnerability(source: str) -> None:
    audit = ["--disable-pip", "--require-hashes", f"--requirement={LOCK}", "--format=json"]
    audit += [
        f"--vulnerability-service={source}",
        f"--timeout={ADVISORIES_SECONDS}",
        "--progress-spinner=off",
    ]
    done = run("pip-audit", *audit)
    if re.search(r"ConnectionError|ServiceError|Timeout|HTTPError", done.stderr):
        pytest.skip(f"the advisories of {source} cannot be reached")
    dependencies = json.loads(done.stdout)["dependencies"]
    pinned = map(Requirement, re.findall(r"^([a-z].*) \\$", LOCK.read_text(), re.MULTILINE))
    needed = {one.name for one in pinned if not one.marker or one.marker.evaluate()}  # by this Python
    assert {dependency["name"] for dependency in dependencies} == needed
    if any("skip_reason" in dependency for dependency in dependencies):
        pytest.skip(f"{source} is a mirror that has no advisories")
    assert not [dependency for dependency in dependencies if dependency["vulns"]]


def test_the_sbom_is_valid_and_has_all_that_runs_as_it_is_pinned() -> None:
    from cyclonedx.schema import SchemaVersion  # here, since it takes a second of each collection
    from cyclonedx.validation.json import JsonStrictValidator

    pinned = f"registry.local:5000/python:3.14-slim@sha256:{'1' * 64}"
    done = run(ROOT / "deploy" / "sbom", PYTHON_IMAGE=pinned)
    assert (done.returncode, done.stderr) == (0, "")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    components = {component["name"]: component for component in json.loads(done.stdout)["components"]}

    assert {name for name, one in components.items() if one["type"] == "library"} == {*locked(), "uplot"}
    for name, (version, hashes) in locked().items():
        assert components[name]["version"] == version
        assert hashes_of(components[name]) == hashes
    source = (ROOT / "app" / "slowpool" / "status" / "static" / "uplot" / "uPlot.iife.min.js").read_text()
    assert f"(v{components['uplot']['version']})" in source
    assert components["uplot"]["licenses"] == [{"license": {"id": "MIT"}}]

    images = {name: one["version"] for name, one in components.items() if one["type"] == "container"}
    assert images == {
        "registry.local:5000/python": f"sha256:{'1' * 64}",
        "nginx": "1.30.7",
        "prom/prometheus": "v3.7.3",
        "grafana/grafana": "12.2.0",
        "valkey/valkey": "9",
    }


def run(program: str | Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one of the development packages' programs, or another, in the project's folder."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_IMAGE")}
    command = [str(BIN / program), *arguments]  # one that is absolute stays as it is
    return subprocess.run(
        command, cwd=ROOT, env={**environ, **settings}, capture_output=True, text=True, timeout=90
    )


def locked() -> dict[str, tuple[str, set[str]]]:
    """Name -> version and hashes, of the lock file."""
    entry = r"^([a-z0-9._-]+)==(\S+)((?: \\\n +--hash=sha256:\w+)+)"
    entries = re.findall(entry, LOCK.read_text(), re.MULTILINE)
    return {name: (version, set(re.findall(r"sha256:(\w+)", hashes))) for name, version, hashes in entries}


def hashes_of(component: dict[str, Any]) -> set[str]:
    """Those of a package's distributions."""
    (distribution,) = component["externalReferences"]
    return {one["content"] for one in distribution["hashes"]}
