"""A task with untrusted input: a thumbnail of an image from a client."""

import ctypes
import io
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, ImageOps

from demo.image_header import BadImage, ImageHeader

MAX_SIDE = 16_384
MAX_PIXELS = 80_000_000
MAX_FRAMES = 1000
MAX_BYTES = 210_000_000
"""Limits of an image: pixels in each direction and in total, frames of a WebP (libwebp keeps a record of
each), and ``ImageHeader.memory_bytes``. With the 30 MB of a worker the total stays below 256 MB."""

MAX_DATA_BYTES = 234_000_000
"""Limit of the process's data while it decodes an image. The header does not show all memory: metadata and
tables can be large too. In addition, Linux counts about 21 MB of program files as resident."""

STRIP_PIXELS = 1 << 18

M_MMAP_THRESHOLD = -3  # malloc.h
MMAP_BYTES = 1 << 20


class ImageTooLarge(ValueError):
    """The image exceeds one of the limits above. The client sees the text."""


def thumbnail(data: bytes, size: int) -> bytes:
    """A JPEG that fits into ``size`` × ``size`` pixels, upright, transparency on white; of an animated image,
    its first frame.

    Takes less than 256 MB of memory, this process and ``data`` included. Raises BadImage, and ImageTooLarge
    before anything is decoded.
    """
    if not data:
        raise BadImage("the body is empty: send a JPEG, PNG or WebP image")
    header = ImageHeader.read(data)
    _check(header, size, len(data))
    try:
        with _limited_data():
            image, orientation = _decoded(data, header, size)
            if max(header.width, header.height) > size:
                by = header.scale(size) * header.factor(size)
                # The last row and column may represent fewer pixels than the others.
                image = image.resize(header.fitted(size), box=(0, 0, header.width / by, header.height / by))
            image.getexif()[ExifTags.Base.Orientation] = orientation
            ImageOps.exif_transpose(image, in_place=True)
            output = io.BytesIO()
            image.save(output, "JPEG", quality=85)
            return output.getvalue()
    except MemoryError as error:
        raise ImageTooLarge(
            f"decoding the image takes more memory than the limit, {MAX_DATA_BYTES // 10**6} MB for all: "
            "send it without metadata"
        ) from error
    except Exception as error:  # crafted data makes decoders fail in many ways
        raise BadImage(
            f"the {header.format} image cannot be decoded: it is damaged, not whole, or takes more memory "
            f"than the limit, {MAX_DATA_BYTES // 10**6} MB for all"
        ) from error


def _check(header: ImageHeader, size: int, data_bytes: int) -> None:
    if not header.pixels:
        raise BadImage(f"the {header.format} image has no pixels")
    measure = f"the image has {header.width} × {header.height} pixels"
    if max(header.width, header.height) > MAX_SIDE:
        raise ImageTooLarge(f"{measure}; the limit is {MAX_SIDE} in each direction")
    if header.pixels > MAX_PIXELS:
        raise ImageTooLarge(f"{measure}; the limit is {MAX_PIXELS // 10**6} million")
    if header.frames > MAX_FRAMES:
        raise ImageTooLarge(f"the image has {header.frames} frames; the limit is {MAX_FRAMES}")
    memory_bytes = header.memory_bytes(size, data_bytes)
    if memory_bytes > MAX_BYTES:
        raise ImageTooLarge(
            f"{measure}; as this kind of {header.format} it takes {memory_bytes / 1e6:.0f} MB of memory to "
            f"decode, and the limit is {MAX_BYTES // 10**6} MB: send a smaller one, or a baseline JPEG"
        )


def _decoded(data: bytes, header: ImageHeader, size: int) -> tuple[Image.Image, int]:
    """The image in RGB, shrunk by whole numbers but no smaller than the thumbnail; its EXIF orientation.

    It is flattened and shrunk in strips, to avoid a second copy of the whole image.
    """
    with Image.open(io.BytesIO(data), formats=[header.format]) as image:
        if image.size != (header.width, header.height):
            raise BadImage("the header says two sizes")
        scale = header.scale(size)
        image.draft("RGB", (max(1, header.width // scale), max(1, header.height // scale)))
        image.load()
        factor = header.factor(size)
        shrunk = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
        rows = max(1, STRIP_PIXELS // (image.width * factor))
        for top in range(0, shrunk.height, rows):
            bottom = min(image.height, (top + rows) * factor)
            strip = _flat(image.crop((0, top * factor, image.width, bottom)))
            shrunk.paste(strip.reduce(factor), (0, top))
        return shrunk, image.getexif().get(ExifTags.Base.Orientation, 1)


def _flat(image: Image.Image) -> Image.Image:
    """The image in RGB, on white."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode == "I;16":
        image = image.convert("I").point(lambda value: value / 256)
    return image.convert("RGB")


@contextmanager
def _limited_data() -> Iterator[None]:
    """On Linux, let allocations above MAX_DATA_BYTES fail with a MemoryError."""
    _give_back_large_buffers()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, MAX_DATA_BYTES) if limit != resource.RLIM_INFINITY]
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _give_back_large_buffers() -> None:
    """Make glibc return large buffers to Linux when they are freed, with mallopt(3).

    By default it later keeps buffers of up to 32 MB in its heap, and the fragmented heap leaves the next job
    too little memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
