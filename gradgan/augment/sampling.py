"""Images read between their pixels: bilinear, and differentiable twice, which torch's grid_sample is not."""

import torch
from torch import Tensor


def bilinear(images: Tensor, maps: Tensor) -> Tensor:
    """Each new pixel from where an affine map says, between the four pixels around it.

    Outside of the image its reflections continue it (the border pixel is not repeated).

    Args:
        images: [B, C, H, W], H and W >= 2.
        maps: [B, 2, 3]: a new pixel at (x, y) comes from maps @ (x, y, 1), in pixels from the centre of the
            image, x to the right and y down.

    Returns:
        [B, C, H, W], linear in `images`. Where a map leads exactly to a pixel, exactly that pixel.
    """
    count, channels, height, width = images.shape
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    kind = {"dtype": images.dtype, "device": images.device}
    x = torch.arange(width, **kind) - middle_x
    y = torch.arange(height, **kind) - middle_y
    ones = torch.ones(height * width, **kind)
    grid = torch.stack([x.repeat(height), y.repeat_interleave(width), ones])
    from_x, from_y = (maps @ grid).unbind(dim=1)
    left, right, share_x = _around(from_x + middle_x, width)
    above, below, share_y = _around(from_y + middle_y, height)
    flat = images.reshape(count, channels, height * width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        place = (row * width + column).unsqueeze(1).expand(-1, channels, -1)
        return flat.gather(2, place)

    share_x, share_y = share_x.unsqueeze(1), share_y.unsqueeze(1)
    upper = at(above, left) * (1 - share_x) + at(above, right) * share_x
    lower = at(below, left) * (1 - share_x) + at(below, right) * share_x
    return (upper * (1 - share_y) + lower * share_y).reshape(count, channels, height, width)


def _around(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after a place along a side, and its share of the way between them."""
    before = place.floor()
    return _reflected(before.long(), size), _reflected(before.long() + 1, size), place - before


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices on the image continued by reflections, back into 0 .. size - 1."""
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)
