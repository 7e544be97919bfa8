"""What goes into the images: what is pinned, and no key."""

import subprocess
from pathlib import Path

import pytest

from tests.support.basics import ROOT
from tests.support.compose import Compose
from tests.support.engine import needs_engine

pytestmark = needs_engine

NOWHERE = f"127.0.0.1:9/base:tag@sha256:{'0' * 64}"
PLANTED = [
    ".env",
    ".git/config",
    "shop/.env",
    "swarm.env",
    "shop/tls.key",
    "privkey.pem",
    "tls/store.p12",
    "secrets/password",
]


@pytest.mark.parametrize(
    ("service", "variable"), [("nginx", "NGINX_IMAGE"), ("fast", "PYTHON_IMAGE"), ("slow", "PYTHON_IMAGE")]
)
def test_an_image_is_built_from_the_base_that_is_pinned_and_no_other(service: str, variable: str) -> None:
    project = Compose()
    project.env[variable] = NOWHERE
    done = project("build", service, check=False)
    assert done.returncode != 0
    assert NOWHERE in done.stdout + done.stderr


KEPT = [
    "shop/__init__.py",
    "shop/locale/de/LC_MESSAGES/shop.mo",
    "shop/nginx.py",
    "shop/static/shop.css",
    "shop/templates/price.html",
    "vendor/helper-1.tar.gz",
]
"""Files of an application."""


@pytest.mark.parametrize("context", [ROOT, ROOT / "nginx"], ids=["app", "nginx"])
def test_an_application_goes_into_the_image_and_a_key_that_lies_beside_it_does_not(
    tmp_path: Path, context: Path
) -> None:
    copy, image = tmp_path / "context", tmp_path / "image"
    for name in [*PLANTED, *KEPT]:
        file = copy / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("planted")
    (copy / ".dockerignore").write_text((context / ".dockerignore").read_text())
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    build = ["docker", "build", f"--output=type=local,dest={image}", f"--file={dockerfile}", str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = [str(file.relative_to(image)) for file in image.rglob("*") if file.is_file()]
    assert sorted(found) == KEPT, done.stderr
