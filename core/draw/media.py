"""Pictures and short videos as arrays, and how they become bytes."""

import io
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Image:
    """A picture: uint8, [H, W, 3] colour or [H, W] grey."""

    pixels: np.ndarray


@dataclass(frozen=True)
class Video:
    """A short video: uint8 [T, H, W, 3], shown at `fps` frames a second in an endless loop."""

    frames: np.ndarray
    fps: float


Media = Image | Video


def encode(media: Media) -> tuple[bytes, str]:
    """The bytes of a PNG or an animated GIF, and the file name's ending.

    Raises:
        ValueError: the array is not uint8 of the shape promised.
    """
    from PIL import Image as Pillow

    array = media.pixels if isinstance(media, Image) else media.frames
    expected = (array.ndim in (2, 3)) if isinstance(media, Image) else (array.ndim == 4)
    if array.dtype != np.uint8 or not expected or (array.ndim > 2 and array.shape[-1] != 3):
        raise ValueError(f"{type(media).__name__} wants uint8 pixels, got {array.dtype} {array.shape}")
    buffer = io.BytesIO()
    if isinstance(media, Image):
        Pillow.fromarray(array).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue(), "png"
    # One palette for all frames, from a few of them: a palette per frame flickers and triples the file.
    # By coverage: median cut spends its colours on large areas and leaves a thin line the nearest grey.
    few = Pillow.fromarray(array[:: max(1, len(array) // 8)].reshape(-1, *array.shape[2:]))
    palette = few.quantize(128, method=Pillow.Quantize.MAXCOVERAGE)
    frames = [Pillow.fromarray(frame).quantize(palette=palette, dither=Pillow.Dither.NONE) for frame in array]
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / media.fps),
        loop=0,
    )
    return buffer.getvalue(), "gif"
