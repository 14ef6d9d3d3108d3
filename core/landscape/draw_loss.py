"""Pictures of a loss around a network's parameters: slices, a surface, a path in its plane, a spectrum.

A `heading` is the title of a picture, and further lines below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from core.draw.figure import new_figure, pixels
from core.draw.media import Image
from core.draw.palette import BLUE, FAINT, GREEN, INK, MAP, ORANGE, PALE
from core.landscape.curvature import Spectrum
from core.landscape.figures import PAD, Scale, change_axis, colour_bar, filled, loss_scale, plain, title
from core.landscape.plane import PathPlane
from core.landscape.surface import Surface

STYLES = {
    "steepest": (ORANGE, "-", 2.4, "steepest descent"),
    "sharpest": (BLUE, "--", 2.2, "curvature {}"),
    "lowest": (GREEN, "-.", 2.2, "curvature {}"),
}


@dataclass(frozen=True)
class Slices:
    """Changes of a loss along lines through one point.

    Attributes:
        x: steps along each random direction, [X], in lengths of the network's own filters.
        random: changes along them, [n, X].
        t: steps along the others, [X], in parameter space.
        named: changes along them by kind, a key of `STYLES`, [X] each.
        curvatures: largest and lowest eigenvalue of the Hessian.
    """

    x: Tensor
    random: Tensor
    t: Tensor
    named: Mapping[str, Tensor]
    curvatures: tuple[float, float]


def draw_slices(slices: Slices, heading: Sequence[str]) -> Image:
    """Random directions on the left; on the right the gradient and the Hessian's outermost eigenvectors."""
    figure = new_figure(11.0, 4.9, pad=PAD)
    left, right = figure.subplots(1, 2)
    for i, change in enumerate(slices.random):
        label = "random directions" if i == 0 else None
        left.plot(slices.x.numpy(), change.numpy(), color=BLUE, alpha=0.75, linewidth=1.5, label=label)
    curvature = {"sharpest": slices.curvatures[0], "lowest": slices.curvatures[1]}
    for kind, change in slices.named.items():
        colour, line, width, word = STYLES[kind]
        label = word.format(f"{curvature.get(kind, 0.0):.3g}".replace("-", "−"))
        right.plot(slices.t.numpy(), change.numpy(), line, color=colour, linewidth=width, label=label)
    change_axis(left, slices.random.numpy().flatten())
    change_axis(right, np.concatenate([change.numpy() for change in slices.named.values()]))
    plain(left, "step, 1 = as long as the network's own filters", "change of the loss")
    plain(right, "step, length in parameter space", "")
    for axes in (left, right):
        axes.axhline(0, color=INK, linewidth=0.7, zorder=1)
        axes.axvline(0, color=INK, linewidth=0.7, zorder=1)
        axes.grid(color=FAINT, alpha=0.18)
        axes.legend(
            frameon=False, fontsize=9, labelcolor=INK, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3,
            columnspacing=1.4, handlelength=2.2,
        )  # fmt: skip
    title(figure, *heading)
    return pixels(figure)


def draw_surface(surface: Surface, here: float, heading: Sequence[str]) -> Image:
    """A loss over a plane, from above and as a relief; a star marks the middle, where the loss is `here`."""
    x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
    scale = loss_scale(values)
    figure = new_figure(11.4, 5.4, pad=PAD)
    left, right = figure.add_gridspec(1, 2, width_ratios=(1.12, 1.0))
    axes = figure.add_subplot(left)
    bands = filled(axes, x, y, values, scale)
    axes.plot(0, 0, "*", markersize=15, color="white", markeredgecolor=INK, markeredgewidth=1.1)
    axes.set_aspect("equal")
    plain(axes, "first direction", "second direction")
    colour_bar(figure, bands, axes, scale, "loss")
    relief(figure.add_subplot(right, projection="3d"), x, y, values, scale, here)
    title(figure, *heading)
    return pixels(figure)


def relief(axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, scale: Scale, here: float) -> None:
    """The same seen from the side; heights are those of the colour bar."""
    height = scale.height(values)
    xs, ys = np.meshgrid(x, y)
    axes.plot_surface(
        xs, ys, height, cmap=MAP, vmin=0, vmax=1, rstride=1, cstride=1, linewidth=0.15, edgecolor="#ffffff55",
        antialiased=True,
    )  # fmt: skip
    top = float(scale.height(np.array([here]))[0])
    axes.plot([0], [0], [top], "*", markersize=13, color="white", markeredgecolor=INK, zorder=10)
    ticks, texts = scale.ticks()
    axes.set_zticks(scale.height(ticks)[::2], texts[::2], fontsize=7.5)
    axes.tick_params(labelsize=7.5, colors=FAINT, pad=0)
    axes.view_init(elev=33, azim=-58)
    axes.set_box_aspect((1, 1, 0.72), zoom=1.05)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color=PALE, linewidth=0.6)


def draw_path_surface(
    surface: Surface,
    plane: PathPlane,
    losses: Tensor,
    steps: Sequence[int],
    unit: str,
    heading: Sequence[str],
) -> Image:
    """A path in its plane over the loss of the plane.

    The filling of a mark is the loss at the snapshot itself, on the scale of the ground: where the two
    differ, the path is out of the plane.

    Args:
        surface: the loss in the plane.
        plane: the path's coordinates, shares and distances.
        losses: at the points themselves, [T].
        steps: of the points, on the x-axis of the run.
        unit: what that counts.
        heading: of the picture.
    """
    x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
    scale = loss_scale(np.concatenate([values.flatten(), losses.numpy()]))
    figure = new_figure(8.2, 6.4, pad=PAD)
    axes = figure.subplots()
    bands = filled(axes, x, y, values, scale)
    along, across = plane.coordinates.numpy().T
    axes.plot(along, across, "-", color=INK, linewidth=3.4, alpha=0.85, zorder=3)
    axes.plot(along, across, "-", color="white", linewidth=1.5, zorder=4)
    axes.scatter(
        along[1:-1], across[1:-1], c=losses[1:-1].numpy(), cmap=MAP, norm=scale.norm(), s=46,
        edgecolors="white", linewidths=1.3, zorder=5, clip_on=False,
    )  # fmt: skip
    for i, marker, size, name in ((0, "s", 95, "start"), (-1, "*", 300, "end")):
        label = f"{name}, {steps[i]:,} {unit}"
        for width, colour in ((5.0, INK), (2.4, "white")):  # two rims: seen on any ground
            axes.scatter(along[i], across[i], marker=marker, s=size, facecolors="white", edgecolors=colour,
                         linewidths=width, zorder=6, clip_on=False)  # fmt: skip
        axes.scatter(along[i], across[i], marker=marker, s=size, c=[losses[i].item()], cmap=MAP,
                     norm=scale.norm(), linewidths=0, zorder=7, clip_on=False)  # fmt: skip
        axes.plot([], [], marker, markersize=size**0.5, color="white", markeredgecolor=INK, label=label)
    first, second = (float(share) for share in plane.shares)
    plain(axes, f"axis 1: {first:.1%} of the variance", f"axis 2: {second:.1%} of the variance")
    colour_bar(figure, bands, axes, scale, "loss")
    figure.legend(loc="outside lower right", ncols=2, fontsize=9, labelcolor=INK, frameon=False)
    title(figure, *heading)
    return pixels(figure)


def draw_spectrum(spectrum: Spectrum, heading: Sequence[str]) -> Image:
    """Density of the eigenvalues of a Hessian on a logarithmic scale, and both of its ends."""
    figure = new_figure(7.4, 4.9, pad=PAD)
    axes = figure.subplots()
    grid, density = spectrum.density.grid.numpy(), spectrum.density.density.numpy()
    floor = max(density.max() * 1e-7, 1e-300)
    shown = np.maximum(density, floor)
    for sign, colour, word in ((-1, ORANGE, "bends down"), (1, BLUE, "bends up")):
        side = sign * grid >= 0
        if side.any():
            axes.fill_between(
                grid[side], floor, shown[side], color=colour, alpha=0.30, linewidth=0, label=word
            )
            axes.plot(grid[side], shown[side], color=colour, linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(floor, 3 * density.max())
    ends = [*spectrum.top, *spectrum.bottom]
    axes.plot(ends, [floor * 1.6] * len(ends), "|", color=INK, markersize=11, markeredgewidth=1.4,
              label="largest and lowest eigenvalues")  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(color=FAINT, alpha=0.18)
    plain(axes, "eigenvalue of the Hessian", "density")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right")
    title(figure, *heading)
    return pixels(figure)


def draw_game(surfaces: dict[str, Surface], heading: Sequence[str]) -> Image:
    """Both players' losses over one direction of each, and where the two push together.

    The first of the players moves along x, the second along y.
    """
    figure = new_figure(13.0, 4.6, pad=PAD)
    panels = figure.subplots(1, 3)
    names = list(surfaces)
    for axes, name in zip(panels, names, strict=False):
        surface = surfaces[name]
        x, y, values = (t.numpy() for t in (surface.x, surface.y, surface.values))
        scale = loss_scale(values)
        bands = filled(axes, x, y, values, scale)
        colour_bar(figure, bands, axes, scale, "loss")
        axes.set_title(f"loss of the {name}", fontsize=10.5, color=INK)
    _field(panels[2], names, *(surfaces[name] for name in names))
    for axes in panels:
        axes.plot(0, 0, "*", markersize=14, color="white", markeredgecolor=INK, markeredgewidth=1.1, zorder=6)
        axes.set_box_aspect(1)
        plain(axes, f"direction of the {names[0]}", f"direction of the {names[1]}")
    title(figure, *heading)
    return pixels(figure)


def _field(axes, names: Sequence[str], first: Surface, second: Surface) -> None:
    """Each player goes down its own loss: stream lines of both at once, thicker where they go faster."""
    x, y = first.x.numpy(), first.y.numpy()
    across = -np.gradient(first.values.numpy(), x, axis=1)
    upward = -np.gradient(second.values.numpy(), y, axis=0)
    fine = np.isfinite(across) & np.isfinite(upward)
    across, upward = np.where(fine, across, 0.0), np.where(fine, upward, 0.0)
    length = np.hypot(across, upward)
    width = 0.6 + 1.6 * np.sqrt(length / max(float(length.max()), 1e-300))
    axes.streamplot(x, y, across, upward, color=BLUE, linewidth=width, density=1.25, arrowsize=1.1)
    axes.contour(x, y, across, [0.0], colors=ORANGE, linewidths=2.0, linestyles="--")
    axes.contour(x, y, upward, [0.0], colors=INK, linewidths=2.2, linestyles=":")
    axes.plot([], [], "--", color=ORANGE, linewidth=2.0, label=f"no slope for the {names[0]}")
    axes.plot([], [], ":", color=INK, linewidth=2.2, label=f"no slope for the {names[1]}")
    axes.legend(
        fontsize=8.5, labelcolor=INK, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2
    )
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
