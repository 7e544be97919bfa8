"""Thumbnails of an instance, of ordinary and of hostile images."""

import io
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from demo.routes import IMAGE_BYTES
from demo.thumbnail import MAX_SIDE
from slowpool.config import Pool
from tests.support.client import Response, request
from tests.support.images import (
    LARGEST,
    animated_webp,
    encoded,
    largest,
    png,
)
from tests.support.process import Instance

WORKER_BYTES = 256_000_000


def post(instance: Instance, data: bytes, size: int = 256) -> Response:
    return request(instance.port, f"/slow/thumbnail?size={size}", "POST", body=data)


@pytest.mark.slow
def test_a_worker_stays_below_its_memory_whatever_it_has_done_before(pytestconfig: pytest.Config) -> None:
    jobs = [(name, size) for name in LARGEST for size in (256, 2048)]
    jobs = random.Random(14).sample(jobs, 8 if pytestconfig.getoption("--short") else 20)
    with Instance(Pool.SLOW, SLOW_WORKERS=1) as instance:
        (worker,) = instance.workers
        for name, size in jobs:
            response = post(instance, largest(LARGEST[name], size), size)
            assert response.status == 200, f"{name}, {size}: {response.text}"
        status = Path(f"/proc/{worker.pid}/status").read_text()
        assert 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) < WORKER_BYTES


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"", 400, "the body is empty: send a JPEG, PNG or WebP image"),
        (png(1, MAX_SIDE + 1), 413, "the image has 1 × 16385 pixels; the limit is 16384 in each direction"),
        (
            animated_webp(6324, 6324),
            413,
            "the image has 6324 × 6324 pixels; as this kind of WEBP it takes 640 MB of memory to decode, and "
            "the limit is 210 MB: send a smaller one, or a baseline JPEG",
        ),
    ],
)
def test_a_client_is_told_what_is_wrong(demo: Instance, data: bytes, status: int, text: str) -> None:
    response = post(demo, data, 256)
    assert (response.status, response.problem()["detail"]) == (status, text)


@pytest.fixture(scope="module")
def demo_slow() -> Iterator[Instance]:
    with Instance(Pool.SLOW, SLOW_MAX_MEMORY_BYTES=1 << 30, MAX_BODY_BYTES=2 * IMAGE_BYTES) as instance:
        yield instance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_thumbnail_is_a_jpeg_that_fits(demo_slow: Instance, kind: str) -> None:
    image = Image.effect_noise((900, 600), 60).convert("RGB")
    response = post(demo_slow, encoded(image, kind), 90)
    assert (response.status, response.headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(response.body)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (90, 60))


def test_transparency_becomes_white(demo_slow: Instance) -> None:
    response = post(demo_slow, encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG"))
    with Image.open(io.BytesIO(response.body)) as thumbnail:
        assert thumbnail.getpixel((32, 32)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(lambda: photo()[: len(photo()) // 2], 400, id="a truncated file"),
        pytest.param(lambda: b"hello " * 1000, 400, id="a text file"),
        pytest.param(lambda: encoded(Image.new("RGB", (10, 10)), "GIF"), 400, id="another format"),
        pytest.param(bytes, 400, id="nothing"),
        pytest.param(
            lambda: encoded(Image.new("1", (30_000, 30_000)), "PNG"), 413, id="a decompression bomb"
        ),
        pytest.param(lambda: bytes(IMAGE_BYTES + 1), 413, id="more bytes than allowed"),
    ],
)
def test_a_hostile_image_is_refused_and_the_worker_lives_on(
    demo_slow: Instance, body: Callable[[], bytes], status: int
) -> None:
    workers = demo_slow.workers
    response = post(demo_slow, body())
    assert response.status == status
    assert response.problem()["detail"]
    assert workers == demo_slow.workers
    assert post(demo_slow, photo()).status == 200


def photo() -> bytes:
    """An ordinary one."""
    return encoded(Image.effect_noise((900, 600), 60).convert("RGB"), "JPEG")
