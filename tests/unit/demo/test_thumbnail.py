"""Thumbnails of ordinary, of the largest allowed and of hostile images."""

import dataclasses
import io
import json
import math
import pickle
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageChops, ImageStat

from demo.image_header import BadImage, ImageHeader
from demo.routes import IMAGE_BYTES
from demo.thumbnail import MAX_BYTES, MAX_SIDE, ImageTooLarge, thumbnail
from tests.support.basics import ROOT
from tests.support.images import (
    FULL,
    GREY,
    LARGEST,
    LOSSLESS,
    PALETTE,
    PROGRESSIVE,
    RGBA,
    animated_webp,
    encoded,
    jpeg,
    jpeg_segment,
    largest,
    overlapping_exif,
    png,
    png_chunk,
    png_header,
    riff_chunk,
)

WORKER_BYTES = 256_000_000


@pytest.fixture(autouse=True, scope="module")
def larger_process() -> Iterator[None]:
    """The limit counts the whole process, and pytest's own is larger than a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("demo.thumbnail.MAX_DATA_BYTES", 2**31)
        yield


# As a worker does: a request arrives as one pickle, which is kept while the task runs.
CHILD = """
import json, pickle, re, sys
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        request = bytearray(file.read())
    task, *args = pickle.loads(request)
    try:
        outcome = [str(len(task(*args))), ""]
    except Exception as error:
        outcome = [type(error).__name__, str(error)]
    del args
    with open("/proc/self/status") as status:
        peak = 1024 * int(re.search("VmHWM:\\s+(\\d+) kB", status.read())[1])
    print(json.dumps([*outcome, peak]))
"""


class Outcome(NamedTuple):
    kind: str
    """The thumbnail's length, or the exception's type."""
    text: str
    peak_bytes: int


def in_a_child(tmp_path: Path, *jobs: tuple[bytes, int]) -> list[Outcome]:
    """What a fresh process makes of these, one after the other, and the most memory it has had by then."""
    files = [tmp_path / str(number) for number in range(len(jobs))]
    for file, (data, size) in zip(files, jobs, strict=True):
        file.write_bytes(pickle.dumps((thumbnail, data, size)))
    done = subprocess.run([sys.executable, "-c", CHILD, *files], stdout=subprocess.PIPE, cwd=ROOT, check=True)
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def photo(width: int, height: int, **options: object) -> bytes:
    """A JPEG with something to see on it, in a phone's way: rotated by its EXIF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    small = Image.merge("RGB", [Image.effect_noise((width // 8, height // 8), 60)] * 3)
    return encoded(small.resize((width, height)), "JPEG", exif=exif, **options)


def assert_fit_a_worker(outcomes: list[Outcome]) -> None:
    """All are thumbnails, and the process has stayed below a worker's memory."""
    for outcome in outcomes:
        assert outcome.kind.isdecimal(), outcome
        assert outcome.peak_bytes < WORKER_BYTES


ORDINARY = {
    "12 MP JPEG": lambda: photo(4032, 3024),
    "24 MP JPEG": lambda: photo(5712, 4284),
    "24 MP progressive JPEG, every colour of every pixel": lambda: photo(
        5712, 4284, progressive=True, subsampling=0
    ),
    "48 MP JPEG": lambda: jpeg(8064, 6048),
    "64 MP JPEG": lambda: jpeg(9248, 6936),
    "12 MP PNG": lambda: png(4032, 3024),
    "12 MP PNG with transparency": lambda: png(4032, 3024, RGBA),
    "24 MP PNG": lambda: png(5712, 4284),
    "12 MP WebP": lambda: encoded(Image.new("RGB", (4032, 3024), "green"), "WEBP", method=0),
    "panorama": lambda: jpeg(16_000, 3_000),
}


TOO_LARGE = {
    "PNG of one column": lambda: png_that_says(1, 40_000_000),
    "PNG of one row": lambda: png_that_says(40_000_000, 1),
    "PNG of the largest size": lambda: png_that_says((1 << 32) - 1, (1 << 32) - 1),
    "PNG just over a side": lambda: png(1, MAX_SIDE + 1),
    "PNG bomb": lambda: png(16_000, 16_000, GREY, 1),
    "PNG just too large": lambda: png(8000, 6600),
    "JPEG of the largest size": lambda: jpeg(65_000, 65_000, [FULL]),
    "JPEG bomb": lambda: jpeg(16_000, 16_000, [FULL]),
    "JPEG, progressive": lambda: jpeg(8064, 6048, [FULL] * 3, PROGRESSIVE),
    "JPEG, a scan for each colour": lambda: jpeg(8064, 6048, [FULL] * 3, one_scan=False),
    "WebP of 188 bytes": lambda: animated_webp(6324, 6324),
    "WebP of many frames": lambda: animated_webp(16, 16, frames=200_000),
    "WebP of the largest size": lambda: animated_webp(1 << 24, 1 << 24),
}

WITH_LARGE_METADATA = {
    "JPEG, EXIF": lambda: jpeg(16, 16, extra=exif_segments(overlapping_exif(5_000, 65_000))),
    "JPEG, long EXIF": lambda: jpeg(16, 16, extra=exif_segments(overlapping_exif(20_000, 5_000_000))),
    "JPEG, index": lambda: jpeg(16, 16, extra=jpeg_segment(0xE2, b"MPF\0" + overlapping_exif(5_000, 65_000))),
    "JPEG, profile": lambda: jpeg(16, 16, extra=b"".join(profile_segments())),
    "PNG, EXIF": lambda: png(16, 16, extra=png_chunk(b"eXIf", overlapping_exif(20_000, 5_000_000))),
    "PNG, texts": lambda: png(16, 16, extra=b"".join(compressed_texts())),
    "PNG, texts beside a large image": lambda: png(6000, 5000, extra=b"".join(compressed_texts())),
    "PNG, profile": lambda: png(16, 16, extra=png_chunk(b"iCCP", b"p\0\0" + bomb())),
    "WebP, EXIF": lambda: webp_with(b"EXIF", b"Exif\0\0" + overlapping_exif(20_000, 5_000_000)),
    "WebP, as many frames as allowed": lambda: animated_webp(16, 16, frames=1000),
}


def bomb() -> bytes:
    compressor = zlib.compressobj(1)
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(900)) + compressor.flush()


def png_that_says(width: int, height: int) -> bytes:
    small = png(1, 1)
    return small[:8] + png_header(width, height) + small[33:]


def exif_segments(exif: bytes) -> bytes:
    """As many as it needs; a decoder puts them together."""
    parts = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    return b"".join(jpeg_segment(0xE1, b"Exif\0\0" + part) for part in parts)


def webp_with(name: bytes, content: bytes) -> bytes:
    return riff_chunk(b"RIFF", animated_webp(16, 16)[8:] + riff_chunk(name, content))


def compressed_texts() -> Iterator[bytes]:
    """Some 240 MB in memory, since one character outside of the BMP makes all of a text four bytes each."""
    text = zlib.compress(("\U0001f600" + "a" * 1_000_000).encode())
    return (png_chunk(b"iTXt", b"%d\0\1\0\0\0" % number + text) for number in range(60))


def profile_segments() -> Iterator[bytes]:
    return (
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes([number, 255]) + bytes(65_000))
        for number in range(1, 256)
    )


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_photo_gets_its_thumbnail(tmp_path: Path, name: str) -> None:
    photo = ORDINARY[name]()
    assert_fit_a_worker(in_a_child(tmp_path, (photo, 256), (photo, 2048)))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if index % 3 else ()) for index, name in enumerate(LARGEST)],
)
def test_the_largest_that_is_decoded_keeps_a_worker_below_its_memory(tmp_path: Path, name: str) -> None:
    jobs = [(largest(LARGEST[name], size), size) for size in (1, 256, 2048)]
    assert_fit_a_worker(in_a_child(tmp_path, *jobs))


@pytest.mark.parametrize(
    ("header", "million", "data_bytes"),
    [
        (ImageHeader("PNG", 8, 8), 37, IMAGE_BYTES),
        (ImageHeader("JPEG", 8, 8, decoder_bytes=3 * 2 * 64), 24, IMAGE_BYTES),
        (ImageHeader("WEBP", 8, 8, decoder_bytes=12 * 64, copies=4), 7, IMAGE_BYTES),
        (ImageHeader("WEBP", 8, 8, decoder_bytes=12 * 64, copies=4), 12.2, 3_000_000),
    ],
)
def test_the_memory_is_no_limit_before_what_the_readme_says(
    header: ImageHeader, million: float, data_bytes: int
) -> None:
    side = math.isqrt(int(million * 1e6 / 12))
    decoder = header.decoder_bytes * 12 * side**2 // 64
    image = dataclasses.replace(header, width=4 * side, height=3 * side, decoder_bytes=decoder)
    assert all(image.memory_bytes(size, data_bytes) <= MAX_BYTES for size in range(1, 2049))


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_by_its_limit_and_not_decoded(tmp_path: Path, name: str) -> None:
    (outcome,) = in_a_child(tmp_path, (TOO_LARGE[name](), 256))
    assert outcome.kind == "ImageTooLarge", outcome
    assert re.search(r"the limit is (16384|80 million|1000|210 MB)", outcome.text)
    assert outcome.peak_bytes < 60_000_000


@pytest.mark.parametrize("name", WITH_LARGE_METADATA)
def test_metadata_that_grows_keeps_a_worker_below_its_memory_too(tmp_path: Path, name: str) -> None:
    outcomes = in_a_child(tmp_path, (WITH_LARGE_METADATA[name](), 256), (photo(800, 600), 256))
    assert outcomes[0].kind.isdecimal() or outcomes[0].kind in ("BadImage", "ImageTooLarge"), outcomes
    assert outcomes[1].kind.isdecimal(), "the next job"
    assert outcomes[1].peak_bytes < WORKER_BYTES


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the body is empty: send a JPEG, PNG or WebP image"),
        (b"hello " * 1000, "the body is not an image that is known here: send a JPEG, PNG or WebP image"),
        (encoded(Image.new("RGB", (9, 9)), "GIF"), "the body is not an image that is known here"),
        (png(0, 9), "the PNG image has no pixels"),
        (png(9, 9)[:20], "the image ends within its header"),
        (png(9, 9)[:45], "the PNG image cannot be decoded: it is damaged, not whole, or takes"),
        (png(9, 9, extra=png_header(8000, 8000)), "the PNG image cannot be decoded"),
        (jpeg(9, 9)[:90], "the JPEG image has no whole header"),
        (jpeg(999, 999)[:500], "the JPEG image cannot be decoded"),
        (jpeg(9, 9, kind=LOSSLESS), "the JPEG image is neither baseline nor progressive"),
        (animated_webp(9, 9)[:60], "the WEBP image cannot be decoded"),
    ],
)
def test_what_is_no_image_is_said_in_words_of_our_own(data: bytes, text: str) -> None:
    with pytest.raises(BadImage, match=re.escape(text)):
        thumbnail(data, 256)


SOUND = [
    png(40, 30, RGBA),
    png(40, 30, PALETTE, interlaced=True),
    jpeg(40, 30),
    jpeg(40, 30, [FULL] * 3, PROGRESSIVE, exif_segments(overlapping_exif(3, 99)), one_scan=False),
    animated_webp(40, 30, 2),
    encoded(Image.new("RGB", (40, 30), "red"), "WEBP"),
]


@given(
    st.sampled_from(SOUND),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.data(),
)
def test_whatever_is_changed_it_is_a_thumbnail_or_an_error_in_words_of_our_own(
    image: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    changed = bytearray(image)
    for at, value in changes:
        changed[at % len(changed)] = value
    end = data.draw(st.integers(0, len(changed)) | st.none())
    try:
        with Image.open(io.BytesIO(thumbnail(bytes(changed[:end]), 16))) as result:
            assert max(result.size) <= 16
    except (BadImage, ImageTooLarge) as error:
        assert re.match("the |decoding the ", str(error))
        assert not re.search("0x|PIL|Bytes|object", str(error))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_upright_by_its_exif(kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.new("RGB", (400, 200), "red")
    image.paste("blue", (0, 0, 200, 200))
    with Image.open(io.BytesIO(thumbnail(encoded(image, kind, exif=exif), 100))) as result:
        assert result.size == (50, 100)
        top, bottom = result.getpixel((25, 20)), result.getpixel((25, 80))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[2] > 200 > 50 > top[0]
    assert bottom[0] > 200 > 50 > bottom[2]


@pytest.mark.parametrize("size", [7, 100, 300, 2048])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBA"])
def test_it_looks_like_the_image_in_every_mode_and_size(mode: str, size: int) -> None:
    grey = Image.linear_gradient("L").resize((640, 480))
    if mode == "I;16":
        image = grey.convert("I").point(lambda value: value * 257).convert(mode)
    else:
        image = grey.convert(mode, dither=Image.Dither.NONE)
    with Image.open(io.BytesIO(thumbnail(encoded(image, "PNG"), size))) as result:
        wanted = image.convert("RGBA").convert("L") if mode != "I;16" else grey
        wanted.thumbnail((size, size))
        assert result.size == wanted.size
        difference = ImageChops.difference(result.convert("L"), wanted)
    assert ImageStat.Stat(difference).mean[0] < 3


@pytest.mark.parametrize("width", [1, 4, 7])
def test_a_photo_that_is_narrower_than_its_decoder_can_shrink_is_shown_whole(width: int) -> None:
    photo = Image.new("L", (width, 16_000))
    photo.paste(255, (0, 8_000, width, 16_000))
    with Image.open(io.BytesIO(thumbnail(encoded(photo, "JPEG"), 256))) as shown:
        assert shown.height == 256
        ends = shown.convert("L").crop((0, 0, 1, 256)).tobytes()
    assert [ends[y] > 127 for y in (0, 100, 156, 255)] == [False, False, True, True]
