"""What a `GradientStep` writes down about its gradients: cheap norms every step, the rest sampled.

Nothing here reads a number back from the device while training. Rows collect in a ring on the device;
`drain` turns the window since the last call into one value per quantity, when the run logs a point.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.checks import require
from core.gradients.norms import accumulation_dtype, layer_norms
from core.gradients.view import GradientView
from core.state import StateDict

RING = 256  # rows kept before they are folded into sums; bounds the memory, changes no number


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What the monitor measures.

    Attributes:
        sample_interval: steps between two samples of what needs extra passes over memory (cosine with the
            previous gradient, update ratio). They cost 10 % of a small network's step each time.
        max_layer_scalars: parameters up to which every one gets curves of its own; the heat map has all.
    """

    sample_interval: int = 10
    max_layer_scalars: int = 32

    def __post_init__(self) -> None:
        require(self.sample_interval >= 2, "sample_interval", self.sample_interval, "an integer >= 2")
        require(self.max_layer_scalars >= 0, "max_layer_scalars", self.max_layer_scalars, "an integer >= 0")


class Monitor:
    """Window statistics of one `GradientStep`, per parameter ("layer") and in total.

    Args:
        names: parameter names, in order.
        parameters: the parameters, same order, on one device.
        cfg: what to measure.
        prefix: put in front of every tag, for example "generator/".
    """

    def __init__(
        self, names: Sequence[str], parameters: Sequence[Tensor], cfg: MonitorConfig, prefix: str = ""
    ) -> None:
        self.names = list(names)
        self.parameters = list(parameters)
        self.cfg = cfg
        self.prefix = prefix
        device = self.parameters[0].device
        kind = {"dtype": accumulation_dtype(device), "device": device}
        layers = len(self.names)
        self.steps = 0  # steps observed since the beginning; decides which are sampled
        self.row = 0
        self.before = torch.zeros(RING, layers, **kind)  # gradient norms as backward left them
        self.after = torch.zeros(RING, layers, **kind)  # the same after the transforms
        self.sums = torch.zeros(2, layers, **kind)
        self.totals = torch.zeros(2, **kind)  # joint norm before, after
        self.counts = torch.zeros(3, **kind)  # finite steps, skipped steps, clipped steps
        self.nonfinite = torch.zeros(layers, **kind)
        self.sampled = torch.zeros(2, layers + 1, **kind)  # cosine and update ratio; the last column is joint
        self.sampled_counts = torch.zeros(2, **kind)
        self.previous: list[Tensor] | None = None

    def observe_gradient(self, gradients: GradientView, index: Sequence[int] | None) -> None:
        """Record the norms backward left, and the cosine with the previous gradient when it is sampled.

        Args:
            gradients: the view, before any transform.
            index: position of each gradient among the parameters; None when none is missing.
        """
        if self.row == RING:
            self._fold()
        self._write(self.before[self.row], gradients.norms, index)
        phase = (self.steps + 1) % self.cfg.sample_interval
        if phase == 0:
            if self.previous is None:
                self.previous = [torch.zeros_like(p) for p in self.parameters]
            torch._foreach_zero_(self.previous)
            torch._foreach_copy_(_pick(self.previous, index), _dense(gradients.values))
        elif phase == 1 and self.previous is not None and self.steps:
            self._observe_cosine(gradients, _pick(self.previous, index), index)

    def observe_transformed(self, gradients: GradientView, index: Sequence[int] | None) -> None:
        """Record the norms that the optimizer will see."""
        self._write(self.after[self.row], gradients.norms, index)
        self.row += 1

    def before_update(self) -> list[Tensor] | None:
        """A copy of the parameters when this step's update is sampled, else None."""
        if (self.steps + 1) % self.cfg.sample_interval:
            return None
        return [p.detach().clone() for p in self.parameters]

    def after_update(self, copy: list[Tensor] | None) -> None:
        """End the step; with a copy from `before_update`, record |update| / |parameter|."""
        self.steps += 1
        if copy is None:
            return
        with torch.no_grad():
            weights = layer_norms(copy)
            updates = layer_norms(torch._foreach_sub(copy, self.parameters))
            joint = torch.linalg.vector_norm(updates) / torch.linalg.vector_norm(weights)
            # A parameter that is still zero (a fresh bias) has no ratio; it counts 0 instead of infinity.
            ratios = torch.where(weights > 0, updates / weights, 0.0)
            self._sample(1, ratios, joint)

    def drain(self) -> dict[str, float]:
        """Means over the window since the last call, by tag; empty when no step was taken. Syncs once."""
        self._fold()
        packed = torch.cat(
            [self.sums.flatten(), self.totals, self.counts, self.nonfinite, self.sampled.flatten(),
             self.sampled_counts]
        )  # fmt: skip
        values = packed.tolist()
        layers = len(self.names)
        cut = [0]
        for size in (2 * layers, 2, 3, layers, 2 * (layers + 1), 2):
            cut.append(cut[-1] + size)
        sums, totals, counts, nonfinite, sampled, sampled_counts = (
            values[a:b] for a, b in itertools.pairwise(cut)
        )
        for tensor in (
            self.sums,
            self.totals,
            self.counts,
            self.nonfinite,
            self.sampled,
            self.sampled_counts,
        ):
            tensor.zero_()
        finite, skipped, clipped = counts
        if finite + skipped == 0:
            return {}
        tags = {"gradient/skipped": skipped / (finite + skipped)}
        if finite:
            tags["gradient/norm"] = totals[0] / finite
            tags["gradient/norm_clipped"] = totals[1] / finite
            tags["gradient/clipped"] = clipped / finite
            tags |= self._per_layer("gradient_norm", sums[:layers], finite)
        if skipped:
            tags |= {
                f"layer/{name}/nonfinite": n / skipped
                for name, n in zip(self.names, nonfinite, strict=True)
                if n
            }
        if sampled_counts[0]:
            tags["gradient/cosine"] = sampled[layers] / sampled_counts[0]
        if sampled_counts[1]:
            ratios = sampled[layers + 1 :]
            tags["gradient/update_ratio"] = ratios[layers] / sampled_counts[1]
            tags |= self._per_layer("update_ratio", ratios[:layers], sampled_counts[1])
        return {self.prefix + tag: value for tag, value in tags.items() if math.isfinite(value)}

    def state_dict(self) -> StateDict:
        """Everything the half-filled window holds."""
        self._fold()
        names = ("sums", "totals", "counts", "nonfinite", "sampled", "sampled_counts")
        state: StateDict = {name: getattr(self, name).clone() for name in names}
        previous = None if self.previous is None else [p.clone() for p in self.previous]
        return state | {"steps": self.steps, "previous": previous}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue a window saved by `state_dict`."""
        self.row = 0
        for name in ("sums", "totals", "counts", "nonfinite", "sampled", "sampled_counts"):
            getattr(self, name).copy_(state[name])
        self.steps = state["steps"]
        previous = state["previous"]
        self.previous = None if previous is None else [
            p.to(own.device, copy=True) for p, own in zip(previous, self.parameters, strict=True)
        ]  # fmt: skip

    def _per_layer(self, quantity: str, values: Sequence[float], count: float) -> dict[str, float]:
        return {f"layer/{name}/{quantity}": v / count for name, v in zip(self.names, values, strict=True)}

    def _write(self, row: Tensor, norms: Tensor, index: Sequence[int] | None) -> None:
        if index is None:
            row.copy_(norms)
        else:
            row.zero_()
            row[list(index)] = norms

    def _observe_cosine(
        self, gradients: GradientView, previous: list[Tensor], index: Sequence[int] | None
    ) -> None:
        dots = torch.stack(
            [torch.dot(a.flatten(), b.flatten().to(a.dtype))
             for a, b in zip(_dense(gradients.values), previous, strict=True)]
        ).to(self.sums.dtype)  # fmt: skip
        old = layer_norms(previous)
        joint = dots.sum() / (gradients.norm * torch.linalg.vector_norm(old))
        cosines = torch.zeros_like(self.sampled[0, :-1])
        per_layer = torch.where(gradients.norms * old > 0, dots / (gradients.norms * old), 0.0)
        cosines[list(index) if index is not None else slice(None)] = per_layer
        self._sample(0, cosines, joint)

    def _sample(self, which: int, per_layer: Tensor, joint: Tensor) -> None:
        """Add one sample, unless a non-finite number came in: that step is counted as skipped already."""
        row = torch.cat([per_layer, joint.reshape(1)])
        usable = row.isfinite().all()
        self.sampled[which] += torch.where(usable, row, 0.0)
        self.sampled_counts[which] += usable

    def _fold(self) -> None:
        """Add the ring's rows to the sums and start it anew."""
        if self.row == 0:
            return
        before, after = self.before[: self.row], self.after[: self.row]
        norm, norm_after = (torch.linalg.vector_norm(rows, dim=1) for rows in (before, after))
        finite = norm.isfinite()
        keep = finite[:, None]
        self.sums[0] += torch.where(keep, before, 0.0).sum(0)
        self.sums[1] += torch.where(keep, after, 0.0).sum(0)
        self.totals[0] += torch.where(finite, norm, 0.0).sum()
        self.totals[1] += torch.where(finite, norm_after, 0.0).sum()
        self.counts[0] += finite.sum()
        self.counts[1] += (~finite).sum()
        self.counts[2] += (finite & (norm_after < norm * (1 - 1e-5))).sum()
        self.nonfinite += (~before.isfinite()).sum(0)
        self.row = 0


def _pick(tensors: list[Tensor], index: Sequence[int] | None) -> list[Tensor]:
    return tensors if index is None else [tensors[i] for i in index]


def _dense(values: Sequence[Tensor]) -> list[Tensor]:
    return [v.to_dense() if v.is_sparse else v for v in values]
