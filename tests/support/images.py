"""Images as a stranger could make them: of any size in few bytes, put together by hand."""

import io
import math
import struct
import zlib
from collections.abc import Sequence

from PIL import Image

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
