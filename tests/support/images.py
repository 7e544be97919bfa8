"""Images put together by hand, as an attacker could: of any size, in few bytes."""

import dataclasses
import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence

from PIL import Image

from demo.image_header import ImageHeader
from demo.routes import IMAGE_BYTES
from demo.thumbnail import MAX_BYTES, MAX_SIDE

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]

BASELINE, PROGRESSIVE, LOSSLESS = 0xC0, 0xC2, 0xC3
FULL, HALF = (1, 1), (2, 2)


def png(
    width: int, height: int, colour: int = RGB, depth: int = 8, extra: bytes = b"", interlaced: bool = False
) -> bytes:
    """A PNG of one colour; ``extra`` are chunks before the image's."""
    passes = [(0, 0, 1, 1)] if not interlaced else ADAM7
    compressor, parts = zlib.compressobj(1), []
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            row = b"\0" + b"\x80" * -(-columns * CHANNELS[colour] * depth // 8)
            parts += [compressor.compress(row) for _ in range(rows)]
    parts.append(compressor.flush())
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_header(width, height, colour, depth, interlaced),
            extra,
            png_chunk(b"PLTE", bytes(range(256)) * 3) if colour == PALETTE else b"",
            png_chunk(b"IDAT", b"".join(parts)),
            png_chunk(b"IEND", b""),
        ]
    )


def png_header(width: int, height: int, colour: int = RGB, depth: int = 8, interlaced: bool = False) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def jpeg(
    width: int,
    height: int,
    sampling: Sequence[tuple[int, int]] = (HALF, FULL, FULL),
    kind: int = BASELINE,
    extra: bytes = b"",
    one_scan: bool = True,
) -> bytes:
    """A grey JPEG: every block is two bits, or one in a progressive one.

    ``extra`` are segments before the image's. Without ``one_scan`` each component has a scan of its own.
    """
    count = len(sampling)
    across = -(-width // (8 * max(x for x, _ in sampling)))
    down = -(-height // (8 * max(y for _, y in sampling)))
    bits = 1 if kind == PROGRESSIVE else 2
    components = b"".join(bytes([1 + n, 16 * x + y, 0]) for n, (x, y) in enumerate(sampling))
    parts = [
        b"\xff\xd8",
        extra,
        jpeg_segment(0xDB, b"\0" + b"\1" * 64),
        jpeg_segment(kind, struct.pack(">BHHB", 8, height, width, count) + components),
        # Tables of one code each, of one bit: no difference (DC), and the end of the block (AC).
        *(jpeg_segment(0xC4, bytes([table, 1]) + bytes(16)) for table in (0x00, 0x10)),
    ]
    scans = [list(range(count))] if one_scan else [[n] for n in range(count)]
    for scan in scans:
        if len(scan) > 1:
            blocks = across * down * sum(x * y for x, y in sampling)
        else:  # its own blocks, without those that fill up the others'
            x, y = sampling[scan[0]]
            columns = math.ceil(width * x / max(x for x, _ in sampling))
            rows = math.ceil(height * y / max(y for _, y in sampling))
            blocks = math.ceil(columns / 8) * math.ceil(rows / 8)
        tables = b"".join(bytes([1 + n, 0]) for n in scan)
        end = 0 if kind == PROGRESSIVE else 63
        parts.append(jpeg_segment(0xDA, bytes([len(scan)]) + tables + bytes([0, end, 0])))
        parts.append(bytes(-(-blocks * bits // 8)))
    return b"".join([*parts, b"\xff\xd9"])


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def animated_webp(width: int, height: int, frames: int = 1) -> bytes:
    """A WebP with this canvas, and frames of one pixel each."""
    pixel = encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 128)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + bytes(6) + (100).to_bytes(3, "little") + b"\0" + pixel
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = riff_chunk(b"VP8X", b"\x12\0\0\0" + size) + riff_chunk(b"ANIM", bytes(6))
    chunks += riff_chunk(b"ANMF", frame) * frames
    return riff_chunk(b"RIFF", b"WEBP" + chunks)


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def overlapping_exif(entries: int, length: int) -> bytes:
    """An EXIF directory (TIFF 6.0, section 2) whose every entry has the same bytes as its value."""
    directory = b"".join(struct.pack("<HHII", tag, 7, length, 8) for tag in range(0x9000, 0x9000 + entries))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", entries) + directory + bytes(4)
    return head + bytes(max(0, length + 8 - len(head)))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def largest(build: Callable[[int, int], bytes], size: int, data_bytes: int = IMAGE_BYTES) -> bytes:
    """The largest image, three by four, that is still decoded when its file has this size."""

    small = ImageHeader.read(build(16, 16))

    def memory(side: int) -> int:
        header = dataclasses.replace(
            small,
            width=4 * side,
            height=3 * side,
            decoder_bytes=small.decoder_bytes * 12 * side**2 // 16**2,
        )
        return header.memory_bytes(size, data_bytes)

    sides = (
        side
        for side in range(MAX_SIDE // 4, 0, -4)
        if memory(side) <= 0.995 * MAX_BYTES and 12 * side**2 <= 80e6
    )
    side = next(sides)
    data = build(4 * side, 3 * side)
    if data.startswith(b"RIFF"):
        return riff_chunk(b"RIFF", data[8:] + riff_chunk(b"JUNK", bytes(data_bytes - len(data) - 8)))
    return data + bytes(data_bytes - len(data))


LARGEST: dict[str, Callable[[int, int], bytes]] = {
    "JPEG": jpeg,
    "JPEG, grey": lambda w, h: jpeg(w, h, [FULL]),
    "JPEG, four colours": lambda w, h: jpeg(w, h, [FULL] * 4),
    "JPEG, progressive": lambda w, h: jpeg(w, h, kind=PROGRESSIVE),
    "JPEG, progressive, every colour of every pixel": lambda w, h: jpeg(w, h, [FULL] * 3, PROGRESSIVE),
    "JPEG, progressive, four colours": lambda w, h: jpeg(w, h, [FULL] * 4, PROGRESSIVE),
    "JPEG, a scan for each colour": lambda w, h: jpeg(w, h, [FULL] * 3, one_scan=False),
    "PNG": png,
    "PNG, interlaced": lambda w, h: png(w, h, interlaced=True),
    "PNG, one bit": lambda w, h: png(w, h, GREY, 1),
    "PNG, grey, 16 bits": lambda w, h: png(w, h, GREY, 16),
    "PNG, palette": lambda w, h: png(w, h, PALETTE, 8, png_chunk(b"tRNS", bytes(range(256)))),
    "PNG, grey, transparent": lambda w, h: png(w, h, GREY_ALPHA),
    "PNG, transparent, 16 bits": lambda w, h: png(w, h, RGBA, 16),
    "PNG, one colour transparent": lambda w, h: png(w, h, RGB, 8, png_chunk(b"tRNS", bytes([0, 128] * 3))),
    "WebP, lossless": lambda w, h: encoded(Image.new("RGBA", (w, h)), "WEBP", lossless=True, method=0),
    "WebP, animated": animated_webp,
}
