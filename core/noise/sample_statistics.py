"""What the gradients of single samples say about a batch's gradient: signal, noise, and three tests of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.gradients.measure.noise_scale import NoiseEstimate
from core.gradients.norms import accumulation_dtype, global_norm
from core.gradients.objective import Objective
from core.noise.ghost import Share, compare_with_largest, factors, outer_norms, row_norms, sample_pass
from core.noise.per_sample import (
    as_rows,
    check_without_randomness,
    require_mean_of_samples,
    sample_gradients,
)

Gradients = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class NoiseStatistics:
    """Statistics of the gradients g_i of B samples with mean g; 0-d tensors on the device.

    The three tests ask whether B samples were enough. Each is the standard error of g in some directions,
    relative to its length: below a threshold theta the test is passed, and the batch with it. They belong
    together like the sides of a right triangle, norm^2 = inner product^2 + orthogonality^2. All three use
    |g|^2 as measured, so that noise alone gives about 1.

    Attributes:
        samples: B.
        noise: unbiased |G|^2 and tr(Sigma); gives the noise scale and the signal-to-noise ratio.
        norm_test: sqrt(tr(Sigma) / (B |g|^2)), error of the whole vector; typical threshold 0.5 to 0.9.
        inner_product_test: sqrt(Var(g_i . g) / (B |g|^4)), error along g: is it a direction of descent?
        orthogonality_test: sqrt(sum_i |g_i - (g_i . g / |g|^2) g|^2 / ((B - 1) B |g|^2)), error across g.
        layer_signal_to_noise: by parameter name, mean over its components j of g_j^2 / Var_j - 1 / B, an
            estimate of G_j^2 / Sigma_jj from which the noise in g_j^2 is taken off; components that do not
            vary (dead units) are left out, NaN if all of them.

    Sources: Byrd et al. 2012, Math. Program. 134 (norm test); Bollapragada et al. 2018, arXiv:1710.11258,
        section 2 (inner-product and orthogonality tests); Liu et al. 2020, arXiv:2001.07384 (GSNR, there
        without the 1 / B).
    """

    samples: int
    noise: NoiseEstimate
    norm_test: Tensor
    inner_product_test: Tensor
    orthogonality_test: Tensor
    layer_signal_to_noise: dict[str, Tensor]


def noise_statistics(source: Objective | Gradients, *, chunk_size: int | None = None) -> NoiseStatistics:
    """All statistics of one batch.

    Linear layers cost little more than a gradient and need no memory for B of them (see `ghost`), and
    convolutions work a chunk at a time; what else has parameters goes through `torch.func.vmap`.

    Args:
        source: a loss on a batch; or gradients by parameter name, [B, *shape], if they are at hand.
        chunk_size: samples whose gradients are held at once, >= 1; None = all. For an objective only.

    Raises:
        ValueError: fewer than two samples; or as in `per_sample_norms`.
    """
    if not isinstance(source, Objective):
        _require_two(len(next(iter(source.values()))))
        means = {name: g.mean(0) for name, g in source.items()}
        return _statistics(means, _moments_of_rows([source], means))
    _require_two(source.samples)
    require(chunk_size is None or chunk_size >= 1, "chunk_size", chunk_size, "an integer >= 1 or null")
    seen = sample_pass(source, with_gradient=True)
    if seen.drawn:
        check_without_randomness(source, noise_statistics)
    if seen.drawn and seen.others:
        # vmap draws other masks than the batch did, so that the two cannot be put together.
        return _from_vmap_alone(source, chunk_size)
    moments = {n: _moments_of_shares(shares, seen.gradient[n], source.samples, chunk_size)
               for n, shares in seen.shares.items()}  # fmt: skip
    if seen.others:
        others = _moments_of_rows(sample_gradients(source, seen.others, chunk_size), seen.gradient)
        require_mean_of_samples(
            [seen.gradient[name] for name in seen.others],
            [m.sums for m in others.values() if m.sums is not None],
            [m.norms for m in others.values()],
        )
        moments |= others
    moments = {name: moments[name] for name in source.names}
    if not seen.drawn:
        compare_with_largest(source, torch.stack([m.norms for m in moments.values()]))
    return _statistics(seen.gradient, moments)


@dataclass(frozen=True)
class _Moments:
    """Of one parameter's per-sample gradients g_i."""

    norms: Tensor  # |g_i|, [B]
    dots: Tensor  # g_i . g with the mean gradient, [B]
    squares: Tensor  # sum_i g_i^2 for every component, shaped as the parameter
    sums: Tensor | None = None  # sum_i g_i, where it is not B g by construction


def _require_two(samples: int) -> None:
    require(samples >= 2, "samples", samples, "at least 2, because one gradient has no variance")


def _moments_of_shares(shares: Sequence[Share], mean: Tensor, size: int, chunk_size: int | None) -> _Moments:
    """Of a parameter of linear or convolution layers."""
    if not shares:
        nothing = mean.new_zeros(size, dtype=accumulation_dtype(mean.device))
        return _Moments(nothing, nothing, torch.zeros_like(mean))
    if len(shares) > 1 or not shares[0].outer:
        rows = ({"": (delta.mT @ inputs).flatten(1)} for inputs, delta in factors(shares, chunk_size))
        return _moments_of_rows(rows, {"": mean})[""]
    # g_i = delta_i a_i^T: everything follows without forming it.
    delta, entered = shares[0].delta, shares[0].entered
    if shares[0].role == "bias":
        dots, squares = delta @ mean, delta.square().sum(0)
    else:
        dots = ((entered @ mean.T) * delta).sum(1)
        squares = delta.square().T @ entered.square()
    return _Moments(outer_norms(shares[0]), dots.to(accumulation_dtype(mean.device)), squares)


def _moments_of_rows(chunks: Iterable[Gradients], means: Gradients) -> dict[str, _Moments]:
    """Of gradients that are there, a chunk [b, ...] at a time."""
    exact = accumulation_dtype(next(iter(means.values())).device)
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    norms: dict[str, list[Tensor]] = {}
    dots: dict[str, list[Tensor]] = {}
    for chunk in chunks:
        for name, gradients in chunk.items():
            rows = as_rows(gradients)
            sums[name] = sums.get(name, 0) + rows.sum(0)
            squares[name] = squares.get(name, 0) + rows.square().sum(0)
            norms.setdefault(name, []).append(row_norms(rows))
            dots.setdefault(name, []).append((rows @ means[name].flatten()).to(exact))
    return {
        name: _Moments(
            torch.cat(norms[name]),
            torch.cat(dots[name]),
            squares[name].view_as(means[name]),
            sums[name].view_as(means[name]),
        )
        for name in sums
    }


def _from_vmap_alone(objective: Objective, chunk_size: int | None) -> NoiseStatistics:
    """Two passes over all per-sample gradients: their mean under their own dropout masks, then the rest."""
    sums = {name: torch.zeros_like(p) for name, p in zip(objective.names, objective.parameters, strict=True)}
    for chunk in sample_gradients(objective, chunk_size=chunk_size):
        for name, gradients in chunk.items():
            sums[name] += gradients.sum(0)
    means = {name: total / objective.samples for name, total in sums.items()}
    return _statistics(means, _moments_of_rows(sample_gradients(objective, chunk_size=chunk_size), means))


def _statistics(means: Gradients, moments: Mapping[str, _Moments]) -> NoiseStatistics:
    samples = len(next(iter(moments.values())).norms)
    length = global_norm([means[name] for name in moments]).square()  # |g|^2
    total = global_norm([m.norms for m in moments.values()]).square()  # sum_i |g_i|^2
    # Rounding can make a variance of zero negative.
    variance = ((total - samples * length) / (samples - 1)).clamp(min=0)
    dots = torch.stack([m.dots for m in moments.values()]).sum(0)
    along = (dots / length - 1).square().sum() / (samples - 1)  # Var(g_i . g) / |g|^4
    across = (variance / length - along).clamp(min=0)
    return NoiseStatistics(
        samples=samples,
        noise=NoiseEstimate(length - variance / samples, variance),
        norm_test=(variance / length / samples).sqrt(),
        inner_product_test=(along / samples).sqrt(),
        orthogonality_test=(across / samples).sqrt(),
        layer_signal_to_noise={n: _mean_ratio(means[n], m.squares, samples) for n, m in moments.items()},
    )


def _mean_ratio(mean: Tensor, squares: Tensor, samples: int) -> Tensor:
    """Mean of g_j^2 / Var_j - 1 / B over the components that vary by more than rounding errors, 0-d."""
    variance = (squares - samples * mean.square()) / (samples - 1)
    varies = variance > 64 * torch.finfo(mean.dtype).eps * squares / samples
    ratio = torch.where(varies, mean.square() / variance, 0.0)
    return ratio.sum() / varies.sum() - 1 / samples
