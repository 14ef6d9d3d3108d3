"""From the bytes of an image file to a square of pixels, and what was lost on the way."""

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Pillow chooses by content, not by name: without this list a ".png" could start Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 90_000_000  # about where Pillow itself warns of a decompression bomb


class Decoded(NamedTuple):
    """One image.

    Attributes:
        pixels: uint8 [size, size, C].
        grey: it was stored without colour.
        small: its shorter side is less than half the wanted size.
        transparent: some of its pixels were; they are laid on white.
    """

    pixels: np.ndarray
    grey: bool
    small: bool
    transparent: bool


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
    from PIL import Image, ImageOps, UnidentifiedImageError  # late: not needed for any other data set

    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            image.load()
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image in any of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise anything on a broken file
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    grey = upright.mode in ("1", "L", "LA", "La") or upright.mode.startswith("I;16")
    plain, transparent = _flattened(upright)
    colour = plain.convert("L" if channels == 1 else "RGB")
    square = np.array(ImageOps.fit(colour, (size, size), Image.Resampling.LANCZOS))
    return Decoded(
        pixels=square.reshape(size, size, channels),
        grey=grey,
        small=2 * min(upright.size) < size,
        transparent=transparent,
    )


def _flattened(image: "Picture") -> tuple["Picture", bool]:
    """An image of 8 bits a channel without transparency, and whether there was any.

    Raises:
        ValueError: its values have no known range.
    """
    from PIL import Image

    if image.mode.startswith("I;16"):  # Pillow's own conversion cuts everything above 255 off
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
