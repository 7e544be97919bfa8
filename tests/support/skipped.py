"""The tests that a run has skipped without an engine. Standard library only, since tests/run imports it."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

WITHOUT_ENGINE = "there is no Docker engine with Compose"
"""The reason for which they are skipped."""

COMMAND = 'eval "$(.ci/engine up)"'


def skipped_without_engine(reports: Iterable[Path]) -> str:
    """One line about what pytest's reports (``--junitxml``) have of them; empty when there are none."""
    files: Counter[str] = Counter()
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            for skipped in case.iter("skipped"):
                if WITHOUT_ENGINE in skipped.get("message", ""):
                    files[case.get("classname", "").rpartition(".")[2]] += 1
    if not files:
        return ""
    names = ", ".join(f"{file} ({count})" for file, count in sorted(files.items()))
    return f"{files.total()} tests skipped, {WITHOUT_ENGINE}: {names}; to run them: {COMMAND}"
