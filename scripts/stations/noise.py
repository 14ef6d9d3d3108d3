"""Noise and batch size: four times the samples halve the noise; when that pays changes in training."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from core.descend.batches import Minibatch
from core.descend.objective_descent import ObjectiveDescent
from core.descend.objectives import DigitsMLP
from core.draw.palette import Look
from core.gradients import GradientStep
from core.noise import noise_statistics
from core.numbers import number

from .station import CPU, Station

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (1, 4, 16, 64, 256)
DRAWN = 100  # batches of each size
BATCH = 64  # of a training step
STEPS, EVERY, RATE = 300, 10, 3e-3
WHEN = ("before training", f"after {STEPS} steps")


def misses(descent: ObjectiveDescent, size: int) -> float:
    """How far a batch's gradient is from the full one, root mean square, in lengths of the full one."""
    random = torch.Generator().manual_seed(size)
    full = descent.gradient()
    orders = [torch.randperm(len(descent.data.x), generator=random)[:size] for _ in range(DRAWN)]
    apart = torch.stack([descent.gradient(order) - full for order in orders])
    return float(apart.square().sum(1).mean().sqrt() / full.norm())


def noise_scale(descent: ObjectiveDescent) -> float:
    """tr(Sigma) / |g|^2 over all samples, whose mean g is the full gradient itself."""
    noise = noise_statistics(descent.frozen()).noise
    return float(noise.variance / descent.gradient().square().sum())


def station(batch: int = BATCH) -> Station:
    """The same at the start and after some training."""
    descent = ObjectiveDescent(DigitsMLP(), Minibatch(size=batch), None, 1, CPU)
    step = GradientStep(descent.named, torch.optim.Adam(descent.named, lr=RATE))
    total = len(descent.data.x)
    measured = {WHEN[0]: [misses(descent, size) for size in SIZES]}
    scales = [noise_scale(descent)]
    for i in range(STEPS):
        step(descent.next())
        if (i + 1) % EVERY == 0:
            scales.append(noise_scale(descent))
    measured[WHEN[1]] = [misses(descent, size) for size in SIZES]
    scale = dict(zip(WHEN, (scales[0], scales[-1]), strict=True))

    def draw(look: Look, left: "Axes", right: "Axes") -> None:
        left.set_title("error of a gradient over its length")
        right.set_title("batch size at which noise = signal")
        sizes = np.geomspace(SIZES[0], SIZES[-1], 60)
        hues = look.colours(WHEN)
        for when, hue in hues.items():
            left.loglog(sizes, np.sqrt(scale[when] * (1 / sizes - 1 / total)), color=hue, linewidth=1.2)
            left.loglog(SIZES, measured[when], "o", color=hue, label=when)
        left.axhline(1, color=look.ink, linewidth=0.8, linestyle=":")
        left.set_xlabel("samples of a batch; lines: the law")
        left.legend()
        right.semilogy(range(0, STEPS + 1, EVERY), scales, color=look.ink, linewidth=1.5)
        for at, (when, hue) in zip((0, STEPS), hues.items(), strict=True):
            right.plot(at, scale[when], "o", color=hue, markersize=9, zorder=5)
        right.set_xlabel("step")

    before, after = (measured[when] for when in WHEN)
    return Station(
        title="Noise and batch size",
        idea="The gradient of a batch is the full gradient and noise. More samples average the noise away, "
        "but slowly: by the square root of their number. The noise scale is the batch size at which both "
        "are equally long; far above it more samples are wasted, far below it steps are mostly noise. It "
        "grows while one trains, as the full gradient shrinks and the samples still disagree.",
        law="E|g_B − g|² = tr Σ (1/B − 1/N);  noise scale = tr Σ / |g|²",
        source="McCandlish et al. 2018, arXiv:1812.06162, eq. 2.9",
        sentence=f"A gradient of {SIZES[2]} samples of digits misses the full one by {number(before[2])} of "
        f"its length, one of {SIZES[3]}, four times as many, by {number(before[3])}; noise and signal are "
        f"equal at {scale[WHEN[0]]:.0f} samples {WHEN[0]}, and at {scale[WHEN[1]]:,.0f} {WHEN[1]}, when "
        f"{SIZES[3]} samples miss by {number(after[3])}.",
        command="python scripts/descend.py objective=digits_mlp batch=minibatch batch.size=64 probe=noise",
        draw=draw,
    )
