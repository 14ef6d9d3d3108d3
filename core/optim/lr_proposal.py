"""A learning rate proposed from the gradient itself: how far a step may go, and how noisy its direction is.

Three pieces of evidence, all taken on a copy of the network:

- range test: the rate grows from step to step until the loss explodes; the loss falls fastest at a rate that
  works.
- sharpness: above 2 / lambda_max (more with momentum) SGD's sharpest direction grows. Other optimizers are
  stable by the eigenvalues of what they precondition, which their first updates do not know yet: they have
  no such bound here.
- noise: a gradient that is mostly noise deserves a shorter step than the noiseless bound.

The proposal is the rate of the range test, or the bound shortened by the noise where that is smaller.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from core.checks import require
from core.curvature import Hessian, stability, twice_differentiable
from core.gradients import GradientStep, Objective
from core.noise import noise_statistics

LOWEST, HIGHEST = 1e-7, 10.0  # ends of the range test
STEPS = 80  # of the range test: ten per decade
PROBING = 1e-6  # rate of an optimizer that is only looked at


@dataclass(frozen=True, kw_only=True)
class RateProposal:
    """A learning rate and the evidence for it; None where a piece could not be measured.

    Attributes:
        lr: the proposal.
        steepest: rate at which the loss fell fastest in the range test.
        exploding: rate at which it exploded.
        stable: largest rate at which SGD is stable on the full batch; None for any other optimizer.
        sharpness: the eigenvalue behind it.
        noise_scale: B_simple, samples.
        noise_factor: what the noise takes off the stable rate at the training's batch size, in (0, 1].
        batch_size: samples of a training step.
    """

    lr: float
    steepest: float | None
    exploding: float | None
    stable: float | None
    sharpness: float | None
    noise_scale: float | None
    noise_factor: float
    batch_size: int

    def lines(self) -> list[str]:
        """The evidence as text, one line for each piece."""
        undetermined = "undetermined"
        steepest = (
            f"{self.steepest:.1e}  the loss falls fastest at this rate" if self.steepest else undetermined
        )
        exploding = f" and explodes at {self.exploding:.1e}" if self.exploding else ""
        stable = undetermined
        if self.stable is not None:
            stable = f"{self.stable:.1e}  the largest stable rate, at a sharpness of {self.sharpness:.3g}"
        noise = undetermined
        if self.noise_scale is not None:
            noise = (
                f"x {self.noise_factor:.2f}   of the stable rate remains with {self.batch_size:,} samples a "
                f"step (noise scale {self.noise_scale:,.0f})"
            )
        return [
            f"range test  {steepest}{exploding}",
            f"sharpness   {stable}",
            f"noise       {noise}",
            f"proposal    {self.lr:.1e}",
        ]


MakeStep = Callable[[nn.Module, float], GradientStep]


def propose_lr(
    objective: Objective, make_step: MakeStep, batch_size: int, generator: torch.Generator
) -> RateProposal:
    """Propose a learning rate for a network, a loss and an optimizer.

    Parameter groups that have a rate of their own are held where they are meanwhile: what they gain at it is
    no evidence for a rate of the others.

    Args:
        objective: the loss on a frozen batch that stands for the training data; is not changed.
        make_step: builds the `GradientStep` of training (optimizer, clipping) over a copy of the objective's
            module, with a given learning rate.
        batch_size: samples of a training step.
        generator: on the CPU; draws minibatches and Lanczos' start.

    Raises:
        ValueError: no evidence could be measured, or every group has its own rate; the message says
            which.

    Sources: Smith 2017, arXiv:1506.01186, section 3.3 (range test); Cohen et al. 2021, arXiv:2103.00065, and
        2022, arXiv:2207.14484 (stability); McCandlish et al. 2018, arXiv:1812.06162, eq. 2.6 (noise; for Adam
        with the square root, appendix E).
    """
    require(batch_size >= 1, "batch_size", batch_size, "an integer >= 1")
    devices = [p.device for p in objective.parameters[:1] if p.device.type == "cuda"]
    if all(_own_rates(objective, make_step)):
        raise ValueError("optimizer.lr=auto has nothing to choose: every parameter group has its own lr")
    with torch.random.fork_rng(devices):  # dropout draws from the global generators
        rates, losses = range_test(objective, make_step, batch_size, generator)
        steepest, exploding = read_range_test(rates, losses)
        stable, sharpness = _stable_rate(objective, make_step, generator)
    noise_scale = _noise_scale(objective)
    factor = 1.0
    if noise_scale is not None:
        plain = isinstance(make_step(copy.deepcopy(objective.module), PROBING).optimizer, torch.optim.SGD)
        factor = (1 + noise_scale / batch_size) ** (-1.0 if plain else -0.5)
    bounds = [rate for rate in (steepest, stable and stable * factor) if rate]
    if not bounds:
        raise ValueError(
            f"optimizer.lr=auto finds no rate: the loss falls at none from {LOWEST:g} to {HIGHEST:g}, and "
            "its sharpness is not known; set optimizer.lr to a number"
        )
    return RateProposal(
        lr=min(bounds),
        steepest=steepest,
        exploding=exploding,
        stable=stable,
        sharpness=sharpness,
        noise_scale=noise_scale,
        noise_factor=factor,
        batch_size=batch_size,
    )


def range_test(
    objective: Objective, make_step: MakeStep, batch_size: int, generator: torch.Generator
) -> tuple[list[float], list[float]]:
    """Train a copy at rates that grow from 1e-7 to 10 until the loss explodes.

    Returns:
        The rates, and the loss on the whole frozen batch after the step at each: one finite number per rate
        but the last, which may be infinite.
    """
    own = _own_rates(objective, make_step)
    trial = _copied(objective)
    step = make_step(trial.module, LOWEST)
    first = trial().item()
    rates, losses = [], []
    for i in range(STEPS):
        rate = LOWEST * (HIGHEST / LOWEST) ** (i / (STEPS - 1))
        step.set_lr_scale(rate / LOWEST)
        _hold(step, own)
        rates.append(rate)
        try:
            _train(trial, step, batch_size, generator)
        except FloatingPointError:  # SkipNonFinite has seen enough
            losses.append(math.inf)
            break
        loss = trial().item()
        losses.append(loss if math.isfinite(loss) else math.inf)
        # Exploded: as far above the start as the best is below it, and visibly so.
        best = min([first, *losses])
        if losses[-1] > first + max(first - best, 0.1 * abs(first), 1e-3):
            break
    return rates, losses


def read_range_test(rates: list[float], losses: list[float]) -> tuple[float | None, float | None]:
    """The rate at which the loss fell fastest, and the one at which it exploded; None where there is none.

    The fall is the mean over five steps: that of one is the luck of a minibatch.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    exploded = len(rates) < STEPS or len(finite) < len(losses)
    exploding = rates[-1] if exploded else None
    falls = {i: losses[i + 2] - losses[i - 3] for i in range(3, len(finite) - 2)}
    if not falls:
        return None, exploding
    steepest = min(falls, key=falls.__getitem__)
    # Rounding is relative to the losses it happened to, not to the one that exploded in the end.
    noise = 1e-6 * max(map(abs, losses[steepest - 3 : steepest + 3]))
    return (rates[steepest] if falls[steepest] < -noise else None), exploding


def _stable_rate(
    objective: Objective, make_step: MakeStep, generator: torch.Generator
) -> tuple[float | None, float | None]:
    """Largest stable rate of SGD and the largest eigenvalue behind it; None of any other optimizer."""
    trial = _copied(objective)
    step = make_step(trial.module, PROBING)
    if not isinstance(step.optimizer, torch.optim.SGD):
        return None, None
    _hold(step, _own_rates(objective, make_step))
    try:
        with twice_differentiable(trial.module):
            found = stability(step.optimizer, Hessian(trial(), trial.parameters), generator)
    except (RuntimeError, FloatingPointError):  # a kernel without second derivative, or one that overflows
        return None, None
    return _sensible(PROBING / found.ratio if found.ratio else math.nan), found.sharpness


def _own_rates(objective: Objective, make_step: MakeStep) -> list[bool]:
    """Of every parameter group, whether its rate is its own: the same whatever the optimizer's is."""
    low, high = (make_step(copy.deepcopy(objective.module), rate).base_lrs for rate in (LOWEST, PROBING))
    return [float(a) == float(b) for a, b in zip(low, high, strict=True)]


def _hold(step: GradientStep, own: list[bool]) -> None:
    """Keep the groups that have a rate of their own from moving."""
    for group, is_own in zip(step.optimizer.param_groups, own, strict=True):
        if is_own:
            group["lr"] = 0.0


def _sensible(rate: float) -> float | None:
    """The rate, or None where there is no finite positive one."""
    return rate if math.isfinite(rate) and rate > 0 else None


def _noise_scale(objective: Objective) -> float | None:
    """The simple noise scale in samples; None where samples have no gradients of their own."""
    try:
        scale = noise_statistics(objective, chunk_size=32).noise.scale.item()
    except ValueError:
        return None
    return scale if math.isfinite(scale) else None


def _copied(objective: Objective) -> Objective:
    """The same objective over a copy of its module."""
    return Objective(copy.deepcopy(objective.module), objective.loss, objective.batch)


def _train(objective: Objective, step: GradientStep, batch_size: int, generator: torch.Generator) -> None:
    """One step on a minibatch of the frozen batch."""
    size = min(batch_size, objective.samples)
    rows = torch.randperm(objective.samples, generator=generator)[:size]
    batch = [part[rows.to(part.device)] for part in objective.batch]
    step(lambda: (objective.on(batch), {}), samples=size)
