"""What a monitor measures at sampled steps: raw numbers, and the quantities computed from them.

A sampled step stores what needs the tensors (norms, dot products); the ratios and cosines of all sampled
steps are then computed together, which costs a tenth of computing them one by one.
"""

import math

import torch
from torch import Tensor

from core.form import Floats, Many
from core.gradients.measure.noise_scale import NoiseScale, noise_of_two_gradients
from core.state import StateDict, copied

QUANTITIES = ("weight_norm", "update_ratio", "update_cosine", "effective_lr", "cosine")


class SampledQuantities:
    """Sums of the sampled quantities of one window, per layer and joint.

    Args:
        sizes: number of elements of every layer, [L], in the dtype and on the device of the norms.

    Attributes:
        sums: [5, L + 1], of QUANTITIES; the last column is of all layers taken as one vector.
        counts: how many samples are in each sum.
    """

    def __init__(self, sizes: Tensor) -> None:
        self.sizes = sizes
        self.sums = torch.zeros(len(QUANTITIES), len(sizes) + 1, dtype=sizes.dtype, device=sizes.device)
        self.counts = torch.zeros_like(self.sums)
        self._noise_scale = NoiseScale(device=sizes.device)
        self._updates: list[Tensor] = []  # [5, L] each: norms of weight, update, gradient; dots; rates
        self._pairs: list[Tensor] = []  # [4, L] each: dots, norms of the two gradients, samples

    @property
    def noise_scale(self) -> NoiseScale:
        """The noise scale with all pairs so far included."""
        self.fold()
        return self._noise_scale

    def add_update(
        self, weights: Tensor, updates: Tensor, gradients: Tensor, dots: Tensor, rates: Tensor
    ) -> None:
        """One update: norms [L] of weights, update and gradient; update . gradient; effective rates."""
        self._updates.append(torch.stack([weights, updates, gradients, dots, rates]))

    def add_pair(self, dots: Tensor, norms: Tensor, previous: Tensor, samples: float | None) -> None:
        """Two consecutive gradients: dot products and norms [L], -1 for the norm of one that is missing.

        `samples` is the number of samples that each is the mean of (for unequal ones their `pair_size`); None
        = the pair says nothing about the noise.
        """
        number = torch.full_like(norms, math.nan if samples is None else samples)
        self._pairs.append(torch.stack([dots, norms, previous, number]))

    def fold(self) -> None:
        """Compute the quantities of all sampled steps since the last call."""
        if self._updates:
            self._fold_updates(torch.stack(self._updates).unbind(1))
            self._updates.clear()
        if self._pairs:
            self._fold_pairs(torch.stack(self._pairs).unbind(1))
            self._pairs.clear()

    def state_dict(self) -> StateDict:
        """Sums, and the samples that are not yet in them: rounding depends on which are added together."""
        return {
            "sums": self.sums.clone(),
            "counts": self.counts.clone(),
            "noise_scale": self._noise_scale.state_dict(),
            "updates": copied(self._updates),
            "pairs": copied(self._pairs),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like."""
        sums, layers = Floats(tuple(self.sums.shape)), len(self.sizes)
        return {
            "sums": sums,
            "counts": sums,
            "noise_scale": {"averages": Floats(tuple(self._noise_scale.averages.shape))},
            "updates": Many(Floats((5, layers))),
            "pairs": Many(Floats((4, layers))),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self.sums.copy_(state["sums"])
        self.counts.copy_(state["counts"])
        self._noise_scale.load_state_dict(state["noise_scale"])
        self._updates = copied(state["updates"], self.sums.device)
        self._pairs = copied(state["pairs"], self.sums.device)

    def _fold_updates(self, rows: tuple[Tensor, ...]) -> None:
        weights, updates, gradients, dots, rates = rows  # [N, L] each
        weight, update, gradient = (x.norm(dim=1) for x in (weights, updates, gradients))
        # A skipped step has no update and no rate: NaN instead of 0 and of the last one's.
        taken = gradient.isfinite()
        update = torch.where(taken, update, math.nan)
        updates = torch.where(taken[:, None], updates, math.nan)
        rates = torch.where(taken[:, None], rates, math.nan)
        shares = torch.where(rates.isfinite(), self.sizes, 0.0)
        rate = (rates.nan_to_num() * shares).sum(1) / shares.sum(1)
        layers = [weights, updates / weights, dots / (gradients * updates), rates]
        joint = [weight, update / weight, dots.sum(1) / (gradient * update), rate]
        for i, (layer, whole) in enumerate(zip(layers, joint, strict=True)):
            self._add(i, layer, whole)

    def _fold_pairs(self, rows: tuple[Tensor, ...]) -> None:
        dots, norms, previous, samples = rows
        missing = norms == -1.0
        norm, previous_norm = torch.where(missing, 0.0, norms).norm(dim=1), previous.norm(dim=1)
        cosines = torch.where(missing, math.nan, dots / (norms * previous))
        joint = dots.sum(1)
        self._add(4, cosines, joint / (norm * previous_norm))
        noise = noise_of_two_gradients(norm, previous_norm, joint, 1)
        self._noise_scale.update(noise._replace(variance=samples[:, 0] * noise.variance))

    def _add(self, quantity: int, layers: Tensor, joint: Tensor) -> None:
        """Add those numbers that are finite: [N, L] and [N]."""
        values = torch.cat([layers, joint[:, None]], dim=1)
        usable = values.isfinite()
        self.sums[quantity] += torch.where(usable, values, 0.0).sum(0)
        self.counts[quantity] += usable.sum(0)
