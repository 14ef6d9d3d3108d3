"""Pictures and short videos as arrays, and how they become bytes."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that draw nothing do without
    import numpy as np
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class Image:
    """A picture: uint8, [H, W, 3] colour or [H, W] grey; a diagram has a rendering for a dark page too."""

    pixels: "np.ndarray"
    dark: "np.ndarray | None" = None


@dataclass(frozen=True)
class Video:
    """A short video: uint8 [T, H, W, 3], `fps` frames a second, in an endless loop; `dark` likewise."""

    frames: "np.ndarray"
    fps: float
    dark: "np.ndarray | None" = None


Media = Image | Video
COLOURS = (
    256  # of a diagram's file: what its antialiased edges lose cannot be seen, and it is a third as large
)


def dark_of(media: Media) -> Media | None:
    """The rendering for a dark page alone; None where there is none."""
    if media.dark is None:
        return None
    return Image(media.dark, media.dark) if isinstance(media, Image) else Video(media.dark, media.fps)


def encode(media: Media) -> tuple[bytes, str]:
    """The bytes of a PNG or an animated GIF, and the file name's ending.

    Raises:
        ValueError: the array is not uint8 of the shape promised.
    """
    from PIL import Image as Pillow

    array = media.pixels if isinstance(media, Image) else media.frames
    expected = (array.ndim in (2, 3)) if isinstance(media, Image) else (array.ndim == 4)
    if array.dtype != "uint8" or not expected or (array.ndim > 2 and array.shape[-1] != 3):
        raise ValueError(f"{type(media).__name__} wants uint8 pixels, got {array.dtype} {array.shape}")
    buffer = io.BytesIO()
    if isinstance(media, Image):
        image = Pillow.fromarray(array) if media.dark is None else of_few_colours(array, COLOURS)
        image.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue(), "png"
    # One palette for all frames, from a few of them: a palette per frame flickers and triples the file.
    # By coverage: median cut spends its colours on large areas and leaves a thin line the nearest grey.
    palette = of_few_colours(array[:: max(1, len(array) // 8)].reshape(-1, *array.shape[2:]), 128)
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


def of_few_colours(array: "np.ndarray", colours: int) -> "Picture":
    """A picture of at most so many colours.

    They are found by coverage, as those of a video. That alone leaves areas 4 of 255 off: enough to see where
    a dark picture ends and its page begins. So each then becomes the mean of the pixels that have it.

    Args:
        array: uint8, [H, W, 3] colour or [H, W] grey.
        colours: at most 256.
    """
    import numpy as np
    from PIL import Image as Pillow

    whole = Pillow.fromarray(array).convert("RGB")
    few = whole.quantize(colours, method=Pillow.Quantize.MAXCOVERAGE, dither=Pillow.Dither.NONE)
    numbers = np.asarray(few).ravel()
    sums = np.stack([np.bincount(numbers, channel) for channel in np.asarray(whole).reshape(-1, 3).T], axis=1)
    means = sums / np.maximum(np.bincount(numbers), 1)[:, None]
    few.putpalette(means.round().astype("uint8").tobytes())
    return few
