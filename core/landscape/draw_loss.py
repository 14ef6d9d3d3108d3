"""Pictures of a loss around a network's parameters: slices, a surface, a path in its plane, a spectrum.

A `heading` is the title of a picture, and further lines below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from core.draw.figure import few_numbers, framed, legend, new_figure, picture, sides
from core.draw.palette import LETTER, MAP, Look
from core.landscape.curvature import Spectrum
from core.landscape.figures import Scale, change_axis, colour_bar, filled, loss_scale
from core.landscape.plane import PathPlane
from core.landscape.surface import Surface
from core.numbers import plain_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {"steepest": "-", "sharpest": "--", "lowest": "-."}
STAR = {"color": "white", "markeredgecolor": LETTER, "markeredgewidth": 1.1, "zorder": 6}


@dataclass(frozen=True)
class Slices:
    """Changes of a loss along lines through one point.

    Attributes:
        x: steps along each random direction, [X], in lengths of the network's own filters.
        random: changes along them, [n, X].
        t: steps along the others, [X], in parameter space.
        named: changes along them by kind, a key of `LINES`, [X] each.
        curvatures: largest and lowest eigenvalue of the Hessian at the point.
        bend: how far the loss bends down along the lowest one's eigenvector, 0 where that is less than can be
            told; see `core.landscape.views.bend`.
        nearest: the least step of which it can be told.
    """

    x: Tensor
    random: Tensor
    t: Tensor
    named: Mapping[str, Tensor]
    curvatures: tuple[float, float]
    bend: float = 0.0
    nearest: float = 0.0


@picture
def draw_slices(look: Look, slices: Slices, heading: Sequence[str]) -> "Figure":
    """Random directions above; below the gradient and the Hessian's outermost eigenvectors."""
    made = new_figure(7.4, *heading)
    upper, lower = made.subplots(2, 1)
    for i, change in enumerate(slices.random):
        label = "random directions" if i == 0 else None
        upper.plot(slices.x.numpy(), change.numpy(), color=look.blue, alpha=0.75, linewidth=1.5, label=label)
    largest, lowest = (plain_number(value).replace("-", "−") for value in slices.curvatures)
    words = {
        "steepest": "steepest descent, to the right",
        "sharpest": f"sharpest: curvature {largest} at the centre",
        "lowest": f"lowest: curvature {lowest} at the centre, {_bend(slices)}",
    }
    hues = {"steepest": look.orange, "sharpest": look.blue, "lowest": look.green}
    t = slices.t.numpy()
    for kind, change in slices.named.items():
        lower.plot(t, change.numpy(), LINES[kind], color=hues[kind], linewidth=2.2, label=words[kind])
    if "lowest" in slices.named and slices.bend:
        inside = np.abs(t) <= slices.bend
        lower.plot(
            t[inside], slices.named["lowest"].numpy()[inside], color=look.green, linewidth=8, alpha=0.3
        )
    change_axis(upper, slices.random.numpy().flatten())
    change_axis(lower, np.concatenate([change.numpy() for change in slices.named.values()]))
    upper.set(xlabel="step, 1 = as long as the network's own filters", ylabel="change of the loss")
    lower.set(xlabel="step, length in parameter space", ylabel="change of the loss")
    for axes in (upper, lower):
        axes.axhline(0, color=look.faint, linewidth=0.8, zorder=1)
        axes.axvline(0, color=look.faint, linewidth=0.8, zorder=1)
        few_numbers(axes)
    legend(made, [line for axes in (upper, lower) for line in axes.get_legend_handles_labels()[0]], 1)
    return made


def _bend(slices: Slices) -> str:
    if slices.bend >= float(slices.t.max()):
        return "bends down all the way"
    within = f"±{slices.bend:.2g}" if slices.bend else f"less than ±{slices.nearest:.2g}"
    return f"bends down within {within}"


@picture
def draw_surface(look: Look, surface: Surface, here: float, heading: Sequence[str]) -> "Figure":
    """A loss over a plane, from above and as a relief; a star marks the middle, where the loss is `here`."""
    x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
    scale = loss_scale(values)
    made = new_figure(9.2, *heading)
    upper, lower = made.add_gridspec(2, 1, height_ratios=(1.12, 1.0))
    axes = made.add_subplot(upper)
    bands = filled(look, axes, x, y, values, scale)
    axes.plot(0, 0, "*", markersize=15, **STAR)
    axes.set(xlabel="first direction", ylabel="second direction")
    colour_bar(made, bands, axes, scale, "loss")
    _relief(look, made.add_subplot(lower, projection="3d"), x, y, values, scale, here)
    return made


def _relief(
    look: Look, axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, scale: Scale, here: float
) -> None:
    """The same seen from the side; heights are those of the colour bar."""
    height = scale.height(values)
    xs, ys = np.meshgrid(x, y)
    axes.plot_surface(
        xs, ys, height, cmap=MAP, vmin=0, vmax=1, rstride=1, cstride=1, linewidth=0.15, edgecolor="#ffffff55",
        antialiased=True,
    )  # fmt: skip
    top = float(scale.height(np.array([here]))[0])
    axes.plot([0], [0], [top], "*", markersize=13, **{**STAR, "zorder": 10})
    ticks, texts = scale.ticks()
    axes.set_zticks(scale.height(ticks)[::2], texts[::2])
    axes.view_init(elev=33, azim=-58)
    axes.set_box_aspect((1, 1, 0.72), zoom=1.0)
    sides(look, axes)


@picture
def draw_path_surface(
    look: Look,
    surface: Surface,
    plane: PathPlane,
    losses: Tensor,
    steps: Sequence[int],
    unit: str,
    heading: Sequence[str],
) -> "Figure":
    """A path in its plane over the loss of the plane.

    The filling of a mark is the loss at the snapshot itself, on the scale of the ground: where the two
    differ, the path is out of the plane.

    Args:
        look: the colours to draw it in.
        surface: the loss in the plane.
        plane: the path's coordinates, shares and distances.
        losses: at the points themselves, [T].
        steps: of the points, on the x-axis of the run.
        unit: what that counts.
        heading: of the picture.
    """
    x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
    scale = loss_scale(np.concatenate([values.flatten(), losses.numpy()]))
    made = new_figure(5.4, *heading)
    axes = made.subplots()
    bands = filled(look, axes, x, y, values, scale)
    along, across = plane.coordinates.numpy().T
    axes.plot(along, across, "-", color=LETTER, linewidth=3.4, alpha=0.85, zorder=3)
    axes.plot(along, across, "-", color="white", linewidth=1.5, zorder=4)
    axes.scatter(
        along[1:-1], across[1:-1], c=losses[1:-1].numpy(), cmap=MAP, norm=scale.norm(), s=46,
        edgecolors="white", linewidths=1.3, zorder=5, clip_on=False,
    )  # fmt: skip
    for i, marker, size, name in ((0, "s", 95, "start"), (-1, "*", 300, "end")):
        label = f"{name}, {steps[i]:,} {unit}"
        for width, colour in ((5.0, LETTER), (2.4, "white")):  # two rims: seen on any ground
            axes.scatter(along[i], across[i], marker=marker, s=size, facecolors="white", edgecolors=colour,
                         linewidths=width, zorder=6, clip_on=False)  # fmt: skip
        axes.scatter(along[i], across[i], marker=marker, s=size, c=[losses[i].item()], cmap=MAP,
                     norm=scale.norm(), linewidths=0, zorder=7, clip_on=False)  # fmt: skip
        axes.plot([], [], marker, markersize=size**0.5, color="white", markeredgecolor=LETTER, label=label)
    first, second = (float(share) for share in plane.shares)
    axes.set_xlabel(f"axis 1: {first:.1%} of the variance")
    axes.set_ylabel(f"axis 2: {second:.1%} of the variance")
    colour_bar(made, bands, axes, scale, "loss")
    legend(made, axes.get_legend_handles_labels()[0])
    return made


@picture
def draw_spectrum(look: Look, spectrum: Spectrum, heading: Sequence[str]) -> "Figure":
    """Density of the eigenvalues of a Hessian on a logarithmic scale, and both of its ends."""
    made = new_figure(4.4, *heading)
    axes = made.subplots()
    grid, density = spectrum.density.grid.numpy(), spectrum.density.density.numpy()
    floor = max(density.max() * 1e-7, 1e-300)
    shown = np.maximum(density, floor)
    for sign, colour, word in ((-1, look.orange, "bends down"), (1, look.blue, "bends up")):
        side = sign * grid >= 0
        if side.any():
            axes.fill_between(
                grid[side], floor, shown[side], color=colour, alpha=0.30, linewidth=0, label=word
            )
            axes.plot(grid[side], shown[side], color=colour, linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(floor, 3 * density.max())
    ends = [*spectrum.top, *spectrum.bottom]
    axes.plot(ends, [floor * 1.6] * len(ends), "|", color=look.ink, markersize=11, markeredgewidth=1.4,
              label="largest and lowest eigenvalues")  # fmt: skip
    axes.axvline(0, color=look.faint, linewidth=0.8)
    axes.set(xlabel="eigenvalue of the Hessian", ylabel="density")
    few_numbers(axes)
    legend(made, axes.get_legend_handles_labels()[0])
    return made


@picture
def draw_game(look: Look, surfaces: dict[str, Surface], heading: Sequence[str]) -> "Figure":
    """Both players' losses over one direction of each, and where the two push together.

    The first of the players moves along x, the second along y.
    """
    made = new_figure(8.2, *heading)
    grid = made.add_gridspec(2, 2, height_ratios=(1.0, 1.75))
    panels = [made.add_subplot(place) for place in (grid[0, 0], grid[0, 1], grid[1, :])]
    names = list(surfaces)
    for axes, name in zip(panels, names, strict=False):
        surface = surfaces[name]
        x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
        scale = loss_scale(values)
        bands = filled(look, axes, x, y, values, scale)
        colour_bar(made, bands, axes, scale, "", most=4)
        axes.set_title(f"loss of the {name}")
    _field(look, panels[2], names, *(surfaces[name] for name in names))
    panels[2].set_title("each down its own loss")
    for axes in panels:
        axes.plot(0, 0, "*", markersize=14, **STAR)
        axes.set_box_aspect(1)
    panels[2].set(xlabel=f"direction of the {names[0]}", ylabel=f"direction of the {names[1]}")
    legend(made, panels[2].get_legend_handles_labels()[0])
    return made


def _field(look: Look, axes, names: Sequence[str], first: Surface, second: Surface) -> None:
    """Each player goes down its own loss: stream lines of both at once, thicker where they go faster."""
    x, y = first.x.numpy(), first.y.numpy()
    across = -np.gradient(first.values.numpy(), x, axis=1)
    upward = -np.gradient(second.values.numpy(), y, axis=0)
    fine = np.isfinite(across) & np.isfinite(upward)
    across, upward = np.where(fine, across, 0.0), np.where(fine, upward, 0.0)
    length = np.hypot(across, upward)
    width = 0.6 + 1.6 * np.sqrt(length / max(float(length.max()), 1e-300))
    axes.streamplot(x, y, across, upward, color=look.blue, linewidth=width, density=1.25, arrowsize=1.1)
    axes.contour(x, y, across, [0.0], colors=look.orange, linewidths=2.0, linestyles="--")
    axes.contour(x, y, upward, [0.0], colors=look.ink, linewidths=2.2, linestyles=":")
    axes.plot([], [], "--", color=look.orange, linewidth=2.0, label=f"no slope for the {names[0]}")
    axes.plot([], [], ":", color=look.ink, linewidth=2.2, label=f"no slope for the {names[1]}")
    framed(axes)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
