"""What a `GradientStep` measures of its gradients: norms at every step, everything else at sampled steps.

No number is read back from the device during training. The norms of every step are kept in a ring on the
device; when the run logs a point, `drain` turns the window since the last call into one value per quantity.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import checked
from core.form import Floats, Many, Maybe, Number
from core.gradients.measure.effective_lr import effective_lrs
from core.gradients.measure.exponents import Exponents
from core.gradients.measure.noise_scale import NoiseScale, noise_of_two_batch_sizes, pair_size
from core.gradients.measure.sampled import QUANTITIES, SampledQuantities
from core.gradients.norms import GradientView, accumulation_dtype, layer_dots, layer_norms
from core.state import StateDict, copied

RING = 256  # steps whose norms are kept before they are added up; it bounds the memory and changes no number
ACCUMULATED = ("layer_sums", "layer_counts", "totals", "counts")


@dataclass(frozen=True, kw_only=True)
@checked
class MonitorConfig:
    """What the monitor measures.

    Attributes:
        sample_interval: steps between two samples of what needs extra passes over memory (cosines, update
            ratio, weight norm, effective learning rate, noise scale).
        histogram_interval: steps between two counts of the gradients' binary exponents.
        max_layer_scalars: largest number of parameters for which each one has curves of its own; the heat map
            always shows all.
    """

    sample_interval: Annotated[int, Ge(2)] = 50
    histogram_interval: Annotated[int, Ge(2)] = 500
    max_layer_scalars: Annotated[int, Ge(0)] = 32


class Monitor:
    """Window statistics of one `GradientStep`, per parameter ("layer") and in total.

    Args:
        names: parameter names, in order.
        parameters: the parameters, same order, on one device.
        cfg: what to measure.
        prefix: put in front of every tag, for example "generator/".
        sampled: whether a step, counted from 1, is sampled; None = every `sample_interval`-th. Never two in a
            row: the gradient after a sampled one is compared with it.
        transformed: whether anything stands between the gradient and the optimizer; without it no layer has
            curves of what that did.

    Attributes:
        steps: steps observed since the beginning; decides which are sampled.
        exponents: counts of the gradients' binary exponents, by layer.
    """

    def __init__(
        self,
        names: Sequence[str],
        parameters: Sequence[Tensor],
        cfg: MonitorConfig,
        prefix: str = "",
        sampled: Callable[[int], bool] | None = None,
        transformed: bool = True,
    ) -> None:
        self.names = list(names)
        self.parameters = list(parameters)
        self.cfg = cfg
        self.prefix = prefix
        self.transformed = transformed
        self.steps = 0
        self._due = sampled or (lambda step: step % cfg.sample_interval == 0)
        device = self.parameters[0].device
        self.exponents = Exponents(len(self.names), device)
        kind = {"dtype": accumulation_dtype(device), "device": device}
        layers = len(self.names)
        # [L] norms as backward left them, and transformed; -1 where there was no gradient.
        self._ring: list[tuple[Tensor, Tensor]] = []
        self._before = torch.zeros(layers, **kind)
        self._layer_sums = torch.zeros(2, layers, **kind)  # norms before, after
        self._layer_counts = torch.zeros(4, layers, **kind)  # finite, clipped, non-finite, detached
        self._totals = torch.zeros(2, **kind)  # joint norm before, after
        self._counts = torch.zeros(3, **kind)  # finite steps, skipped steps, clipped steps
        self._sampled = SampledQuantities(torch.tensor([p.numel() for p in self.parameters], **kind))
        self._previous: list[Tensor] | None = None  # the last sampled gradient
        self._previous_norms = torch.zeros(layers, **kind)
        self._previous_samples: int | None = None  # that it is the mean of
        self._weights: list[Tensor] | None = None  # the parameters before the last sampled update
        self._missing: tuple[list[int], Tensor] | None = None  # positions, on the host and on the device

    @property
    def sampling(self) -> bool:
        """Whether the next step is a sampled one."""
        return self._due(self.steps + 1)

    @property
    def noise_scale(self) -> NoiseScale:
        """Estimated from pairs of consecutive minibatches, or from micro-batches and ranks."""
        return self._sampled.noise_scale

    def observe_gradient(self, gradients: GradientView, samples: int | None) -> None:
        """Begin a step: the norms backward left, and what is sampled of the gradient.

        Args:
            gradients: the view, before any transform.
            samples: how many samples the gradient is the mean of; None = do not estimate the noise from pairs
                of consecutive gradients.
        """
        if len(self._ring) == RING:
            self._fold()
        self._before = self._spread(gradients.norms, gradients.index)
        if self.sampling:
            self._remember(gradients)
            self._previous_samples = samples
        elif self.steps and self._due(self.steps) and self._previous is not None:
            self._observe_pair(gradients, samples)
        if (self.steps + 1) % self.cfg.histogram_interval == 0:
            self.exponents.add(_dense(gradients.values), gradients.index, gradients.norm.isfinite())

    def observe_transformed(self, gradients: GradientView) -> None:
        """Record the norms that the optimizer will see."""
        self._ring.append((self._before, self._spread(gradients.norms, gradients.index)))
        if self.sampling:
            taken = gradients.norm.isfinite()
            self._previous_norms = torch.where(taken, self._previous_norms, math.nan)

    def observe_parts(self, norm: Tensor, part_norms: list[Tensor], parts: int, samples: int) -> None:
        """Estimate the noise from what the gradient is the mean of: micro-batches, ranks, or both.

        Args:
            norm: joint norm of the mean gradient.
            part_norms: joint norms of this rank's parts.
            parts: parts on all ranks together.
            samples: samples of all parts together.
        """
        square = torch.stack(part_norms).square().mean()
        if parts > len(part_norms):
            torch.distributed.all_reduce(square)
            square = square * (len(part_norms) / parts)
        noise = noise_of_two_batch_sizes(square.sqrt(), max(samples // parts, 1), norm, samples)
        self.noise_scale.update(noise)

    def observe_undone(self, gradients: GradientView) -> None:
        """This step will be undone: the optimizer met this non-finite gradient at a point it tried."""
        _, after = self._ring.pop()
        self._ring.append((self._spread(gradients.norms, gradients.index), after))
        if self.sampling and self._previous is not None:
            self._previous_norms = torch.full_like(
                self._previous_norms, math.nan
            )  # nothing moved, so there is no update to measure

    def observe_nothing(self, skipped: int) -> None:
        """No gradient to look at: there is none, or a loss scaler has skipped so many steps unseen."""
        self._counts[1] += skipped
        # What is kept is not of the step before any more.
        self._previous_norms = torch.full_like(self._previous_norms, math.nan)

    def before_update(self) -> None:
        """Keep the parameters when this step's update is sampled."""
        if self.sampling:
            if self._weights is None:
                self._weights = [torch.empty_like(p) for p in self.parameters]
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self.parameters)

    @torch.no_grad()
    def after_update(self, optimizer: torch.optim.Optimizer) -> None:
        """End the step; when it is sampled, measure what the parameters really moved."""
        sampling = self.sampling
        self.steps += 1
        if not sampling or self._weights is None or self._previous is None:
            return
        weights = layer_norms(self._weights)
        torch._foreach_sub_(self._weights, self.parameters)  # what was subtracted from the parameters
        dots = layer_dots(self._previous, self._weights)
        rates = effective_lrs(optimizer, self.parameters)
        if rates is None:
            rates = torch.full_like(weights, math.nan)
        self._sampled.add_update(weights, layer_norms(self._weights), self._previous_norms, dots, rates)

    def drain(self) -> dict[str, float]:
        """Means since the last call, by tag; empty if no step was taken. Synchronises once."""
        self._fold()
        values = self._read()
        finite, skipped, clipped = values["counts"].tolist()
        if finite + skipped == 0:
            return {}
        layer_finite, layer_clipped, nonfinite, detached = values["layer_counts"]
        before, after = values["totals"].tolist()
        tags = {"gradient/skipped": skipped / (finite + skipped)}
        if finite:
            tags |= {"gradient/norm": before / finite, "gradient/norm_clipped": after / finite}
            tags["gradient/clipped"] = clipped / finite
        tags |= self._per_layer("gradient_norm", values["layer_sums"][0] / layer_finite)
        if self.transformed:
            tags |= self._per_layer("gradient_norm_clipped", values["layer_sums"][1] / layer_finite)
            tags |= self._per_layer("clipped", layer_clipped / layer_finite)
        # Only where they are not 0: a curve that is always 0 says nothing.
        tags |= self._per_layer("nonfinite", torch.where(nonfinite > 0, nonfinite / skipped, math.nan))
        steps = finite + skipped
        tags |= self._per_layer("detached", torch.where(detached > 0, detached / steps, math.nan))
        for quantity, row in zip(QUANTITIES, values["sampled"] / values["sampled_counts"], strict=True):
            tags[f"gradient/{quantity}"] = row[-1].item()
            tags |= self._per_layer(quantity, row[:-1])
        noise_scale = self.noise_scale.value()
        if noise_scale is not None:
            tags["gradient/noise_scale"] = noise_scale
        return {self.prefix + tag: value for tag, value in tags.items() if math.isfinite(value)}

    def state_dict(self) -> StateDict:
        """The half-filled window; the ring is saved as it is, so that sums are rounded in the same order."""
        state: StateDict = {name: getattr(self, f"_{name}").clone() for name in ACCUMULATED}
        return state | {
            "ring": copied(self._ring),
            "steps": self.steps,
            "previous_norms": self._previous_norms.clone(),
            "previous": copied(self._previous),
            "previous_samples": self._previous_samples,
            "samples": self._sampled.state_dict(),
            "exponents": self.exponents.state_dict(),
        }

    def state_form(self) -> StateDict:
        """What `state_dict` must look like; sums are in the precision of the device that took them."""
        norms = Floats(tuple(self._before.shape))
        form: StateDict = {name: Floats(tuple(getattr(self, f"_{name}").shape)) for name in ACCUMULATED}
        return form | {
            "ring": Many((norms, norms)),
            "steps": 0,
            "previous_norms": norms,
            "previous": Maybe([p.detach() for p in self.parameters]),
            "previous_samples": Maybe(Number(1, whole=True), absent=True),  # missing from before it was saved
            "samples": self._sampled.state_form(),
            "exponents": self.exponents.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Continue a window saved by `state_dict`."""
        device = self._before.device
        for name in ACCUMULATED:
            getattr(self, f"_{name}").copy_(state[name])
        self._ring = copied(state["ring"], device)
        self.steps = state["steps"]
        self._previous_norms = copied(state["previous_norms"], device)
        self._previous = copied(state["previous"], device)
        self._previous_samples = state.get("previous_samples")  # None from before it was saved: no estimate
        self._sampled.load_state_dict(state["samples"])
        self.exponents.load_state_dict(state["exponents"])

    def _read(self) -> dict[str, Tensor]:
        """All sums, on the host after one transfer; sets them to zero."""
        sums = {name: getattr(self, f"_{name}") for name in ACCUMULATED}
        sums |= {"sampled": self._sampled.sums, "sampled_counts": self._sampled.counts}
        packed = torch.cat([part.flatten() for part in sums.values()]).cpu()
        pieces = packed.split([part.numel() for part in sums.values()])
        values = {name: x.view_as(part) for (name, part), x in zip(sums.items(), pieces, strict=True)}
        for part in sums.values():
            part.zero_()
        return values

    def _per_layer(self, quantity: str, values: Tensor) -> dict[str, float]:
        return {f"layer/{name}/{quantity}": v for name, v in zip(self.names, values.tolist(), strict=True)}

    def _spread(self, norms: Tensor, index: list[int] | None) -> Tensor:
        """The norms, one for every parameter: -1 where there is no gradient."""
        if index is None:
            return norms
        if self._missing is None or self._missing[0] != index:
            self._missing = (index, torch.tensor(index, device=norms.device))
        return torch.full_like(self._before, -1.0).index_copy(0, self._missing[1], norms)

    def _remember(self, gradients: GradientView) -> None:
        """Keep this gradient for the next step's cosine and this one's update."""
        if self._previous is None:
            self._previous = [torch.zeros_like(p) for p in self.parameters]
        if gradients.index is not None:
            torch._foreach_zero_(self._previous)
        torch._foreach_copy_(_pick(self._previous, gradients.index), _dense(gradients.values))
        self._previous_norms = torch.where(self._before == -1.0, 0.0, self._before)

    def _observe_pair(self, gradients: GradientView, samples: int | None) -> None:
        """Compare with the gradient of the step before: their cosine, and the noise in their difference."""
        assert self._previous is not None
        index = gradients.index
        dots = layer_dots(_dense(gradients.values), _pick(self._previous, index))
        dots = torch.where(self._before == -1.0, 0.0, self._spread(dots, index)) if index else dots
        before = self._previous_samples
        size = None if samples is None or before is None else pair_size(before, samples)
        self._sampled.add_pair(dots, self._before, self._previous_norms, size)

    def _fold(self) -> None:
        """Add the rows of the ring and the sampled numbers to the sums, and empty both."""
        self._sampled.fold()
        if not self._ring:
            return
        before, after = (torch.stack(rows) for rows in zip(*self._ring, strict=True))
        present = before != -1.0
        norm, norm_after = (torch.where(present, rows, 0.0).norm(dim=1) for rows in (before, after))
        finite = norm.isfinite() & norm_after.isfinite()
        # A transform may hide an infinity (Value), or spread it over all layers: what arrived comes first.
        culprits = torch.where(norm.isfinite()[:, None], after, before)
        counted = present & finite[:, None]
        self._layer_sums[0] += torch.where(counted, before, 0.0).sum(0)
        self._layer_sums[1] += torch.where(counted, after, 0.0).sum(0)
        self._layer_counts[0] += counted.sum(0)
        self._layer_counts[1] += (counted & _shrunk(before, after)).sum(0)
        self._layer_counts[2] += (~culprits.isfinite()).sum(0)
        self._layer_counts[3] += (~present).sum(0)
        self._totals[0] += torch.where(finite, norm, 0.0).sum()
        self._totals[1] += torch.where(finite, norm_after, 0.0).sum()
        self._counts[0] += finite.sum()
        self._counts[1] += (~finite).sum()
        self._counts[2] += (finite & _shrunk(norm, norm_after)).sum()
        self._ring.clear()


def _shrunk(before: Tensor, after: Tensor) -> Tensor:
    """Whether a norm has become smaller by more than rounding."""
    return after < before * (1 - 1e-5)


def _pick(tensors: list[Tensor], index: Sequence[int] | None) -> list[Tensor]:
    return tensors if index is None else [tensors[i] for i in index]


def _dense(values: Sequence[Tensor]) -> list[Tensor]:
    return [v.to_dense() if v.is_sparse else v for v in values]
