"""The files of nginx/ and nginx/README.md say what is so."""

import re
from pathlib import Path

import crossplane.analyzer
import pytest

from tests.support.basics import DEFAULTS, ROOT
from tests.support.nginx import render, render_environment

NGINX = ROOT / "nginx"
README = (NGINX / "README.md").read_text()
FILES = [file for file in NGINX.rglob("*") if file.is_file() and file.name != "README.md"]
INCLUDED = [file for file in FILES if file.suffix == ".conf" and file.parent != NGINX]
INCLUDE = re.compile(r"^[^#\n]*\binclude (\S+\.conf);", re.MULTILINE)
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL))

BY_HAND = {"ADMIN_ADDRESS", "SCRAPE_ADDRESS", "RESOLVER", "ACCESS_LOG", "PUBLIC_HTTPS_PORT", "HTTP2"}
"""The variables of nginx/render that are not settings."""

OTHER_NAMES = {"SO_REUSEPORT"}

RENDERED_AS = {
    **dict.fromkeys(["path"], "paths"),
    **dict.fromkeys(["again", "once", "elsewhere", "unannounced", "streamed", "ask", "asked"], "pools"),
    **dict.fromkeys(["affinity_address", "affinity_cookie"], "affinity"),
    "handed_over_counted": "handed_over",
    "no_stub_status": "stub_status",
    "edge_counts_only": "edge_counts",
}
"""Templates that are rendered under another name."""


@pytest.mark.parametrize("file", INCLUDED, ids=lambda file: str(file.relative_to(NGINX)))
def test_the_first_line_of_a_file_names_a_file_that_includes_it(file: Path) -> None:
    first, _, _ = file.read_text().partition("\n")
    match = re.match(r"# Included by ([\w/]+\.conf)\b.* in ", first)
    assert match, first
    text = (NGINX / match[1]).read_text()
    included = {name for pool in ("fast", "slow") for name in INCLUDE.findall(text.replace("@POOL@", pool))}
    folder = "rendered" if file.parent.name == "templates" else file.parent.name
    assert f"{folder}/{RENDERED_AS.get(file.stem, file.stem)}.conf" in included


def test_the_readme_names_each_file() -> None:
    assert {str(file.relative_to(NGINX)) for file in FILES} <= set(CODE)


def test_each_file_that_the_readme_names_is_there() -> None:
    paths = [code for code in CODE if re.fullmatch(r"[\w/]+\.(conf|py|sh|awk)|(nginx/)?(start|render)", code)]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists() and not (NGINX / path).exists()] == []


def test_each_setting_that_the_readme_names_is_one() -> None:
    named = {code.partition("=")[0] for code in CODE if re.match(r"[A-Z][A-Z0-9]*(_[A-Z]+)+|HTTP2", code)}
    assert named - OTHER_NAMES <= {*DEFAULTS, *BY_HAND}
    read = re.findall(
        r"^(?:integer|number|text|choice) ([A-Z0-9_]+)", (NGINX / "render").read_text(), re.MULTILINE
    )
    assert set(read) == BY_HAND


def test_each_directive_and_location_that_the_readme_names_is_in_the_configuration(tmp_path: Path) -> None:
    settings = {"STREAM_PATHS": "/upload", "AFFINITY": "cookie:session", "CLIENT_CONNECTIONS": 9}
    assert render(tmp_path, render_environment(settings)).returncode == 0
    text = "".join(file.read_text() for file in tmp_path.rglob("*.conf"))
    text = re.sub(r"#.*", "", text)
    directives = {
        code
        for code in CODE
        if code in crossplane.analyzer.DIRECTIVES or re.match(r"(?!nginx_)[a-z]+_[a-z_]+$", code)
    }
    assert len(directives) > 10
    for name in [*directives, *(code for code in CODE if re.match(r"@[a-z]|/-/\w+/\w", code))]:
        assert re.search(rf"(^|\s){re.escape(name)}\b", text), name


def test_each_metric_is_in_the_readme() -> None:
    text = (NGINX / "events.awk").read_text() + (NGINX / "edge.shtml").read_text()
    assert set(re.findall(r"nginx_[a-z_]+", text)) == {code for code in CODE if code.startswith("nginx_")}
