"""Pictures of a game: histograms of logits, eigenvalues of its Jacobian, its vector field along a path."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.curvature.arnoldi import ComplexRitz
from core.draw.figure import few_numbers, legend, new_figure, picture
from core.draw.palette import Look
from core.numbers import number, ticks
from gradgan.measurements.vector_field import Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAR = 10.0  # times the median modulus, from where an eigenvalue would press all others into one spot
CONVERGED = 0.05  # of the largest modulus: residuals below it are drawn full


@picture
def logit_histogram(
    look: Look, train: Tensor, held_out: Tensor | None, fake: Tensor, *, threshold: bool
) -> "Figure":
    """What the discriminator says of training, held-out and generated samples.

    A discriminator that knows its training samples by heart gives held-out ones the logits of generated ones.

    Args:
        look: the colours to draw it in.
        train: logits [N], on the CPU; those that are not finite are left out and counted in the legend.
        held_out: [M], or None.
        fake: [L].
        threshold: whether the loss takes a sample with a logit above 0 for real, or only compares logits.
    """
    parts = [
        (name, logits.detach().double(), colour, line)
        for name, logits, colour, line in (
            ("training", train, look.blue, "-"),
            ("held out", held_out, look.green, "--"),
            ("generated", fake, look.orange, ":"),
        )
        if logits is not None
    ]
    everything = torch.cat([logits[logits.isfinite()] for _, logits, _, _ in parts] or [torch.zeros(1)])
    low, high = (everything.min().item(), everything.max().item()) if len(everything) else (0.0, 0.0)
    margin = 0.02 * (high - low) or 0.5 * max(1.0, abs(high))
    # Fewer samples, fewer bins: noise would hide the shape.
    bins = min(max(round(2 * len(train) ** 0.5), 10), 60)
    edges = np.linspace(low - margin, high + margin, bins + 1)

    made = new_figure(4.4, "What the discriminator says")
    axes = made.subplots()
    for name, logits, colour, line in parts:
        finite = logits[logits.isfinite()]
        lost = f", {len(logits) - len(finite)} not finite" if len(finite) < len(logits) else ""
        if not len(finite):
            axes.plot([], [], color=colour, linestyle=line, label=f"{name}: none finite")
            continue
        mean = finite.mean().item()
        density, _ = np.histogram(finite.numpy(), bins=edges, density=True)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.18)
        label = f"{name}: mean {number(mean)}{lost}"
        axes.stairs(density, edges, color=colour, linestyle=line, linewidth=1.8, label=label)
        axes.axvline(mean, color=colour, linestyle=line, linewidth=1.0, alpha=0.8)
    if threshold:
        axes.axvline(0, color=look.ink, linewidth=0.8)
    axes.set_xlim(edges[0], edges[-1])
    said = "above 0 the sample is taken for real" if threshold else "only differences count"
    axes.set(xlabel=f"logit: {said}", ylabel="density")
    few_numbers(axes)
    legend(made, axes.get_legend_handles_labels()[0])
    return made


@picture
def eigenvalue_picture(look: Look, ritz: ComplexRitz) -> "Figure":
    """Eigenvalues of the Jacobian of dw/dt = -v(w) in the complex plane.

    Left of the axis the game attracts, right of it it repels, and what is far from the real axis turns. Full
    points are within 5 % of the largest modulus of an eigenvalue, hollow ones are still on their way. Where
    the largest is far from the others, both axes are logarithmic beyond the median modulus.
    """
    made = new_figure(5.6, "Eigenvalues of the game's Jacobian", "hollow: not yet converged")
    axes = made.subplots()
    real, imaginary = ritz.values.real.numpy(), ritz.values.imag.numpy()
    largest = float(ritz.values.abs().max()) or 1.0
    converged = ritz.residuals.numpy() <= CONVERGED * largest
    for attracts, colour, word in ((True, look.blue, "attracts"), (False, look.orange, "repels")):
        chosen = (real < 0) == attracts
        for full in (True, False):
            some = chosen & (converged == full)
            face = colour if full else "none"
            label, mark = (word if full else None), ("o" if attracts else "s")
            style = {"facecolors": face, "edgecolors": colour, "label": label, "marker": mark, "s": 46}
            axes.scatter(real[some], imaginary[some], zorder=3, **style)
    limit = 1.15 * largest
    axes.axvspan(0, limit, color=look.orange, alpha=0.07, linewidth=0)
    axes.axvline(0, color=look.faint, linewidth=0.8)
    axes.axhline(0, color=look.faint, linewidth=0.8)
    middle = float(ritz.values.abs().quantile(0.5))
    note = ""
    if 0 < FAR * middle < largest:
        powers = 10.0 ** np.arange(math.ceil(math.log10(middle)), math.floor(math.log10(limit)) + 1)
        powers = powers[:: -(-len(powers) // 2)] if len(powers) > 2 else powers  # at most two on each side
        marked = [*-powers[::-1], 0.0, *powers]
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("symlog", linthresh=middle)
            axis.set_ticks(marked, ticks(marked))
        note = f"; logarithmic beyond ±{middle:.2g}"
    axes.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel=f"real part{note}",
        ylabel="imaginary part: rotation",
    )
    few_numbers(axes)
    legend(made, axes.get_legend_handles_labels()[0])
    return made


@picture
def path_picture(look: Look, path: Path) -> "Figure":
    """Direction and length of the field on the straight line from former parameters to the present ones."""
    made = new_figure(5.2, "The field on the way", "a sign change of the cosine at 1 attracts, a bump turns")
    upper, lower = made.subplots(2, 1, sharex=True)
    shares = path.shares.numpy()
    upper.plot(shares, path.cosines.numpy(), color=look.blue, marker="o", markersize=3)
    upper.axhline(0, color=look.faint, linewidth=0.8)
    upper.set(ylim=(-1.05, 1.05), ylabel="cosine with the line")
    lower.plot(shares, path.norms.numpy(), color=look.blue, marker="o", markersize=3)
    lower.set(ylabel="norm of the field", xlabel="0: parameters at the last drawing, 1: now")
    if path.norms.max() > FAR * path.norms.min():
        lower.set_yscale("log")
    for axes in (upper, lower):
        axes.axvline(1, color=look.faint, linewidth=0.8, linestyle="--")
        few_numbers(axes)
    return made
