"""What a station of the tour is: a sentence about numbers that were just measured, and a picture of them."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim import Optimizer

from core.descend.function_descent import FunctionDescent
from core.descend.functions import Function, PlaneFunction
from core.draw.figure import in_both, new_figure, pixels
from core.draw.media import Image, encode
from core.draw.palette import Look
from core.gradients import GradientStep, Transform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, TALL = (9.6, 4.5), (5.0, 8.6)  # inches: side by side, and one above the other on a phone
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Station:
    """One stop of the tour.

    Attributes:
        title: its subject.
        idea: what a reader who knows what a gradient is has to know besides.
        law: the formula that the measurement is to be compared with, in Unicode.
        source: of the law.
        sentence: what was measured, in one sentence.
        command: shows more of it with our commands.
        draw: the two panels of the picture.
    """

    title: str
    idea: str
    law: str
    source: str
    sentence: str
    command: str
    draw: Callable[[Look, "Axes", "Axes"], None]

    def picture(self, *, tall: bool = False) -> Image:
        """Both panels side by side, or one above the other."""

        def rendered(look: Look) -> np.ndarray:
            width, height = TALL if tall else WIDE
            made = new_figure(height, width=width)
            self.draw(look, *made.subplots(*((2, 1) if tall else (1, 2))))
            return pixels(made)

        return Image(*in_both(rendered))

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        return f'<p>{html.escape(self.sentence)}</p><img width="100%" src="{uri(self.picture())}">'


def uri(picture: Image) -> str:
    """The light rendering of a picture as the address of itself."""
    data, ending = encode(picture)
    return f"data:image/{ending};base64,{base64.b64encode(data).decode('ascii')}"


def descended(
    function: Function,
    optimizer: Callable[..., Optimizer],
    steps: int,
    start: Sequence[float] | None = None,
    transforms: Sequence[Transform] = (),
) -> FunctionDescent:
    """A descent by the same `GradientStep` that trains networks.

    Args:
        function: what it descends.
        optimizer: makes one of named parameters.
        steps: how many; fewer where the gradient is no longer finite.
        start: the first point; None = the function's own.
        transforms: of the gradient.
    """
    descent = FunctionDescent(function, start, CPU)
    step = GradientStep(descent.named, optimizer(descent.named), transforms)
    for _ in range(steps):
        step(descent.next())
        descent.record()
        if not descent.x.abs().max() < 1e100:
            break
    return descent


def plane_of(function: Function) -> PlaneFunction:
    """A function of two variables as maps show it."""
    plane = FunctionDescent(function, None, CPU).plane_function()
    assert plane is not None
    return plane
