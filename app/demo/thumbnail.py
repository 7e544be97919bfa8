"""A task with real input: a thumbnail of an image that a stranger has sent."""

import io

from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 40_000_000
"""The largest image that is decoded: about 160 MB at 4 bytes a pixel."""


class BadImage(ValueError):
    """The data is no whole image of a known format."""


class ImageTooLarge(ValueError):
    """The image has more pixels than MAX_PIXELS; it was not decoded."""


def thumbnail(data: bytes, size: int) -> bytes:
    """A JPEG that fits into ``size`` × ``size`` pixels, upright, transparency on white.

    Raises BadImage and ImageTooLarge.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageTooLarge(f"the image has more than {MAX_PIXELS} pixels")
            image.draft("RGB", (size, size))  # a JPEG is decoded no larger than needed
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((size, size))
            rgba = upright.convert("RGBA")
    except (ImageTooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except Exception as error:  # decoders fail in many ways on data that was made to
        raise BadImage(f"not a whole image of {', '.join(FORMATS)}: {error}") from error
    white = Image.new("RGBA", rgba.size, "white")
    output = io.BytesIO()
    Image.alpha_composite(white, rgba).convert("RGB").save(output, "JPEG", quality=85)
    return output.getvalue()
