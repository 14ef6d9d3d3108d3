"""`UnitHealth`: signs of life of a network on a frozen batch, cheap enough to be on by default.

It measures units that no sample activates, saturated units, and how the terms of a
loss share the gradient. It costs one forward pass, and one backward pass for each term of the loss.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from core.checks import checked
from core.gradients.equal_units import equal_units
from core.gradients.graph import refuse_reentrant
from core.gradients.measured import Measured
from core.gradients.objective import Objective, own_randomness
from core.gradients.unit_axes import Axes, Register, UnitAxes

# Ends of the range of activations that have one: |tanh x| > 0.97 where its slope is below 0.06; the sigmoid's
# slope has fallen as far below its largest one at the same multiple, sigmoid(2 x) = (1 + tanh x) / 2.
ENDS = {
    nn.Tanh: (-0.97, 0.97),
    nn.Hardtanh: (-0.97, 0.97),
    nn.Sigmoid: (0.015, 0.985),
    nn.Softsign: (-0.97, 0.97),
}
LARGE = 10.0  # root mean square of inputs below which nothing is unusual
AT_AN_END = 0.95  # share of the samples at which a saturated unit stands at an end


@dataclass(frozen=True, kw_only=True)
@checked
class UnitHealth:
    """Measures units and loss terms of one `GradientStep`; changes nothing.

    Attributes:
        interval: optimizer steps between two measurements.
        max_samples: samples looked at, drawn from the batch without replacement.
    """

    interval: Annotated[int, Ge(1)] = 250
    max_samples: Annotated[int, Ge(2)] = 256

    def check(self, network: nn.Module) -> None:
        """Any network will do."""

    def __call__(self, objective: Objective, step: Measured, generator: torch.Generator) -> dict[str, float]:
        """Measure once, at the parameters as they now are.

        Args:
            objective: the loss on a frozen batch; with `terms`, their gradients are compared.
            step: the `GradientStep` of these parameters.
            generator: draws the samples.

        Returns:
            layer/<module>/dead_units: share of a ReLU's units that are 0 for every sample;
            layer/<module>/saturated_units: share of a tanh's or sigmoid's units at an end of their range for
                95 % of the samples and more. Both in [0, 1]; a unit is a feature or a channel.
            input/rms: root mean square of what the network is first called with, left out below 10.
            input/variation: 0 where all its rows are the same, left out elsewhere.
            layer/<parameter>/equal_units: 1 where all its rows are the same; left out elsewhere.
            loss_share/<term>: length of its gradient over the sum of all terms' lengths;
            loss_cosine/<a>_vs_<b>: of two terms that reach a common parameter.
        """
        batch = _subset(objective, self.max_samples, generator)
        inputs: list[Tensor] = []
        with own_randomness(objective), watched(objective.module) as units, _met(objective.module, inputs):
            if objective.terms is None or step.precision != "float32":
                with torch.no_grad():
                    objective.on(batch)
                shares: dict[str, Tensor] = {}
            else:
                shares = term_shares(objective.terms_on(batch), step.parameters)
        found = shares | {tag: share for unit in units for tag, share in unit.tags().items()}
        equal = equal_units(step.names, step.parameters)
        equal |= remarkable_inputs(*inputs) if inputs else {}
        if not found:
            return equal
        values = torch.stack([value.double() for value in found.values()]).tolist()
        return equal | {tag: value for tag, value in zip(found, values, strict=True) if value == value}


class Units:
    """What one activation layer has shown; several calls (real and generated samples) count as one batch.

    Args:
        name: of the module.
        module: the activation.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.ends = ENDS.get(type(module))
        self._samples = 0
        self._count: Tensor | None = None  # [units] samples at an end, or awake

    def see(self, output: Tensor, axes: Axes | None) -> None:
        """Take in an output.

        Args:
            output: of any shape.
            axes: which of its axes count units; None = channels, axis 1, where there are three axes to five,
                else the last.
        """
        if axes is None:
            axes = (1 - output.dim(),) if output.dim() in (3, 4, 5) else (-1,)
        by_unit = output.detach().movedim(axes, tuple(range(-len(axes), 0)))
        by_unit = by_unit.reshape(-1, by_unit.shape[-len(axes) :].numel())
        if self.ends is None:
            seen = ~(by_unit <= 0)  # what is not a number is not dead
        else:
            low, high = self.ends
            seen = (by_unit < low) | (by_unit > high)
        count = seen.sum(0)
        if self._count is not None and self._count.shape != count.shape:
            return
        self._count = count if self._count is None else self._count + count
        self._samples += len(by_unit)

    def tags(self) -> dict[str, Tensor]:
        """The share of dead or of saturated units, 0-d."""
        if self._count is None:
            return {}
        if self.ends is None:
            return {f"layer/{self.name}/dead_units": (self._count == 0).double().mean()}
        at_an_end = self._count >= AT_AN_END * self._samples
        return {f"layer/{self.name}/saturated_units": at_an_end.double().mean()}


@contextmanager
def watched(module: nn.Module, register: Register = nn.Module.register_forward_hook) -> Iterator[list[Units]]:
    """Look at every activation that can die or saturate while the module is called.

    Args:
        module: the network.
        register: lets a hook see the calls of one module.
    """
    units, handles, unit_axes = [], [], UnitAxes()
    for name, part in module.named_modules():
        handles += unit_axes.watch(part, register)
        relu = isinstance(part, nn.ReLU | nn.ReLU6) or (
            isinstance(part, nn.LeakyReLU) and part.negative_slope == 0
        )
        if relu or type(part) in ENDS:
            seen = Units(name, part)
            units.append(seen)
            handles.append(
                register(part, lambda _, inputs, output, seen=seen: seen.see(output, unit_axes.of(output)))
            )
    try:
        yield units
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _met(module: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Keep the first tensor of numbers that the network is called with."""

    def hook(_: nn.Module, given: tuple[object, ...]) -> None:
        first = next((x for x in given if isinstance(x, Tensor) and x.is_floating_point()), None)
        if first is not None and not inputs:
            inputs.append(first.detach())

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def remarkable_inputs(x: Tensor) -> dict[str, float]:
    """What is unusual about inputs [B, ...]: a root mean square of 10 and more, or rows all the same."""
    if x.dim() < 2 or len(x) < 2:
        return {}
    rms = x.double().square().mean().sqrt().item()
    found = {"input/rms": rms} if rms >= LARGE else {}
    return found | ({"input/variation": 0.0} if bool((x == x[:1]).all()) else {})


def term_shares(terms: dict[str, Tensor], parameters: list[Tensor]) -> dict[str, Tensor]:
    """Shares and cosines of the gradients of several losses, 0-d each, by tag.

    Args:
        terms: losses with a common graph.
        parameters: that they are differentiated by.
    """
    for loss in terms.values():
        refuse_reentrant(loss)
    gradients = {
        name: torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for name, loss in terms.items()
        if loss.requires_grad
    }
    return shares_of(gradients)


def shares_of(gradients: Mapping[str, tuple[Tensor | None, ...]]) -> dict[str, Tensor]:
    """As `term_shares`, of gradients by term, None where it does not reach; nothing of a single term."""
    if len(gradients) < 2:
        return {}
    lengths = {name: _dot(own, own).sqrt() for name, own in gradients.items()}
    total = torch.stack([*lengths.values()]).sum()
    found = {f"loss_share/{name}": length / total for name, length in lengths.items()}
    for first, second in itertools.combinations(gradients, 2):
        pairs = zip(gradients[first], gradients[second], strict=True)
        if any(a is not None and b is not None for a, b in pairs):
            dot = _dot(gradients[first], gradients[second])
            # Exactly 0 where a graph reaches a parameter through nothing but zeros: no common one either.
            cosine = torch.where(dot == 0, torch.nan, dot / (lengths[first] * lengths[second]))
            found[f"loss_cosine/{first}_vs_{second}"] = cosine
    return found


def _dot(first: tuple[Tensor | None, ...], second: tuple[Tensor | None, ...]) -> Tensor:
    products = [
        (a.double() * b.double()).sum()
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    ]
    return torch.stack(products).sum() if products else torch.zeros((), dtype=torch.float64)


def _subset(objective: Objective, most: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """At most `most` of the samples."""
    if objective.samples <= most:
        return objective.batch
    order = torch.randperm(objective.samples, generator=generator, device=generator.device)[:most]
    return tuple(part[order.to(part.device)] for part in objective.batch)
