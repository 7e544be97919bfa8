"""ImageHeader: the size of an image and the memory for decoding it, read without decoding it."""

import re
import struct
from dataclasses import dataclass
from typing import Self

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")
JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}  # TEM, RST0 to RST7, SOI, EOI
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # all SOF markers; these three are not SOF
JPEG_BASELINE, JPEG_EXTENDED, JPEG_PROGRESSIVE, JPEG_SCAN = 0xC0, 0xC1, 0xC2, 0xDA
COEFFICIENTS_BYTES = 2 * 64
"""The memory of libjpeg for each block of 8 × 8 samples."""

WEBP_DECODER_BYTES = 3 * 4
"""For each pixel: two copies in libwebp's animation decoder, which Pillow always uses, and one in its
result."""

MAX_FACTOR = 16
"""Keeps a row of blocks of the largest image small."""


class BadImage(ValueError):
    """The data is not a complete image of a known format. The client sees the text."""


@dataclass(frozen=True)
class ImageHeader:
    """The size in pixels, before any rotation; memory in bytes."""

    format: str
    width: int
    height: int
    pixel_bytes: int = 4
    """Memory of a decoded pixel. Pillow uses 4 bytes for 3 channels too."""
    decoder_bytes: int = 0
    """Memory besides the image. A JPEG with several scans is kept as coefficients until the last one."""
    frames: int = 1
    copies: int = 2
    """Copies of the file in memory: received and unpickled. The WebP decoder makes two more."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read the header. Raises BadImage."""
        try:
            if data.startswith(b"\xff\xd8"):
                return cls._jpeg(data)
            if data.startswith(PNG_SIGNATURE + b"\0\0\0\rIHDR"):
                return cls._png(data)
            if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
                return cls._webp(data)
        except (struct.error, IndexError) as error:
            raise BadImage("the image ends within its header") from error
        raise BadImage("the body is not an image that is known here: send a JPEG, PNG or WebP image")

    @property
    def pixels(self) -> int:
        return self.width * self.height

    def fitted(self, size: int) -> tuple[int, int]:
        """The width and height, in the same ratio, with ``size`` pixels on the longer side."""
        ratio = size / max(self.width, self.height)
        return max(1, round(self.width * ratio)), max(1, round(self.height * ratio))

    def scale(self, size: int) -> int:
        """The factor by which the decoder can shrink a JPEG and still fill ``size`` pixels."""
        if self.format != "JPEG":
            return 1
        most = min(max(1, max(self.width, self.height) // size), self.width, self.height)
        return next(scale for scale in (8, 4, 2, 1) if scale <= most)

    def factor(self, size: int) -> int:
        """The factor by which the decoded image can be shrunk after that."""
        longest = max(self.width, self.height) // self.scale(size)
        return min(max(1, longest // size), MAX_FACTOR)

    def memory_bytes(self, size: int, data_bytes: int) -> int:
        """The memory for making a thumbnail of ``size`` pixels from a file of ``data_bytes``.

        It holds the file, the decoded image, and first the decoder, later the shrunk image.
        """
        scale, factor = self.scale(size), self.factor(size)
        width, height = -(-self.width // scale), -(-self.height // scale)
        shrunk = 4 * -(-width // factor) * -(-height // factor)
        return self.copies * data_bytes + self.pixel_bytes * width * height + max(self.decoder_bytes, shrunk)

    @classmethod
    def _png(cls, data: bytes) -> Self:
        """https://www.w3.org/TR/png-3/#11IHDR"""
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        if colour in (0, 3):  # grey, palette
            return cls("PNG", width, height, pixel_bytes=2 if depth == 16 else 1)
        return cls("PNG", width, height)

    @classmethod
    def _webp(cls, data: bytes) -> Self:
        """https://developers.google.com/speed/webp/docs/riff_container, and RFC 6386, 9.1, for VP8."""
        kind = data[12:16]
        if kind == b"VP8X":
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        else:
            raise BadImage("the WebP image does not begin with one of its chunks VP8, VP8L and VP8X")
        decoder_bytes = WEBP_DECODER_BYTES * width * height
        frames = data.count(b"ANMF")  # a still image is very unlikely to contain one
        return cls("WEBP", width, height, decoder_bytes=decoder_bytes, frames=frames, copies=4)

    @classmethod
    def _jpeg(cls, data: bytes) -> Self:
        """https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2"""
        at, kind = 2, 0
        while found := JPEG_MARKER.search(data, at):
            at, marker = found.end(), found[1][0]
            if marker in JPEG_WITHOUT_LENGTH:
                continue
            (length,) = struct.unpack_from(">H", data, at)
            if marker in JPEG_FRAMES:
                kind = marker
                height, width, components = struct.unpack_from(">HHB", data, at + 3)
                sampling = [divmod(data[at + 9 + 3 * n], 16) for n in range(components)]
            elif marker == JPEG_SCAN:
                if not kind or not sampling or not all(min(factors) for factors in sampling):
                    break
                return cls._jpeg_frame(kind, width, height, sampling, scan_components=data[at + 2])
            at += length
        raise BadImage("the JPEG image has no whole header")

    @classmethod
    def _jpeg_frame(
        cls, kind: int, width: int, height: int, sampling: list[tuple[int, int]], scan_components: int
    ) -> Self:
        if kind not in (JPEG_BASELINE, JPEG_EXTENDED, JPEG_PROGRESSIVE):
            raise BadImage("the JPEG image is neither baseline nor progressive; others are not decoded here")
        coefficients = 0
        if kind == JPEG_PROGRESSIVE or scan_components < len(sampling):
            across = -(-width // (8 * max(x for x, _ in sampling)))
            down = -(-height // (8 * max(y for _, y in sampling)))
            coefficients = COEFFICIENTS_BYTES * across * down * sum(x * y for x, y in sampling)
        return cls("JPEG", width, height, 1 if len(sampling) == 1 else 4, coefficients)
