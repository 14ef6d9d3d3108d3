"""From the bytes of an image file to a square of pixels, and what was lost on the way."""

import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Pillow chooses by content, not by name: without this list a ".png" could start Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
PNG = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks of a PNG that its pixels need
MAX_PIXELS = 90_000_000  # about where Pillow itself warns of a decompression bomb


class Decoded(NamedTuple):
    """One image.

    Attributes:
        pixels: uint8 [size, size, C].
        grey: it has no colour: its format stores none, or its palette.
        small: its shorter side is less than half the wanted size.
        transparent: some of its pixels were; they are laid on white.
        unread: what else its file holds (text, EXIF, a colour profile) cannot be read, the pixels can.
    """

    pixels: np.ndarray
    grey: bool
    small: bool
    transparent: bool
    unread: bool


def decode(data: bytes, size: int, channels: int) -> Decoded:
    """Decode an image, turn it upright, cut the largest square from its centre and resize that (Lanczos).

    Of an animation or a stack of pages the first is taken; 16 bits of grey become 8.

    Args:
        data: the whole file.
        size: wanted side in pixels.
        channels: 3 for colour, 1 for grey (the luminance).

    Raises:
        ValueError: it cannot be read, is of another format, or larger than MAX_PIXELS; says which.
    """
    from PIL import Image, ImageOps  # late: not needed for any other data set

    unread = False
    try:
        image = _opened(data)
    except ValueError:
        if not data.startswith(PNG):
            raise
        image, unread = _opened(_pixels_alone(data)), True
    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # of 0 .. 65535
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # as any decoder's
        upright, unread = image, True
    plain, transparent = _flattened(upright, wide=wide)
    grey = wide or upright.mode in ("1", "L", "LA", "La")
    if upright.mode in ("P", "PA"):
        grey = not np.ptp(np.asarray(plain.convert("RGB")), axis=2).any()
    colour = plain.convert("L" if channels == 1 else "RGB")
    square = np.array(ImageOps.fit(colour, (size, size), Image.Resampling.LANCZOS))
    return Decoded(
        pixels=square.reshape(size, size, channels),
        grey=grey,
        small=2 * min(upright.size) < size,
        transparent=transparent,
        unread=unread,
    )


def _opened(data: bytes) -> "Picture":
    """The image in a file, its pixels loaded.

    Raises:
        ValueError: as `decode`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image in any of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise anything on a broken file
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _pixels_alone(data: bytes) -> bytes:
    """A PNG file without the chunks that its pixels do not need; EXIF stays where its checksum is right."""
    kept, place = [PNG], len(PNG)
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4].rjust(4, b"\0"))
        chunk = data[place : place + length + 12]
        name, sound = chunk[4:8], zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        kept += [chunk] if name in NEEDED or (name == b"eXIf" and sound) else []
        place += length + 12
    return b"".join(kept)


def _flattened(image: "Picture", *, wide: bool) -> tuple["Picture", bool]:
    """An image of 8 bits a channel without transparency, and whether there was any; `wide` is one of 16 bits.

    Raises:
        ValueError: its values have no known range.
    """
    from PIL import Image

    if wide:  # Pillow's own conversion cuts everything above 255 off
        levels = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(levels.round().astype(np.uint8)), False
    if image.mode in ("I", "F"):
        raise ValueError(f"values of mode {image.mode} have no known range")
    if not image.has_transparency_data:
        return image, False
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB"), False
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), True
