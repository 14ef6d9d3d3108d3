"""Losses on data that need no download: each a small network, what it learns from, and what it is to learn.

Everything is in float64, so that a minimum can be distinguished from a plateau. A quarter of the samples is
held out, the same whatever the seed.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, Protocol

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from core.checks import Finite, checked, require

Forward = Callable[[Tensor], Tensor]
HELD_OUT = 0.25


class Data(NamedTuple):
    """Samples [N, features], float64, and their classes [N]; those to learn from first."""

    x: Tensor
    y: Tensor
    held_out_x: Tensor
    held_out_y: Tensor

    def to(self, device: torch.device) -> "Data":
        """The same on another device."""
        return Data(*(part.to(device) for part in self))


class Supervised(Protocol):
    """A loss on data."""

    def load(self) -> Data:
        """The data, on the CPU."""
        ...

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """The network with its first weights, float64."""
        ...

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """The mean over the samples, 0-d."""
        ...

    def classes(self, output: Tensor) -> Tensor:
        """The classes that the network's outputs [N, ...] name, [N]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """Logistic regression with two weights and no bias: a convex loss of real data that can be drawn.

        L(w) = mean_i log(1 + exp(-s_i w . x_i)),   s_i = +-1

    Images of two of scikit-learn's digits, seen by their first two principal components. It has one minimum,
    unless a line separates the two digits without error: then the loss falls without end.

    Attributes:
        digits: the two classes; different, each in 0..9.
    """

    digits: tuple[int, int] = (1, 2)

    domain = ((-2.6, 3.2), (-3.0, 2.4))  # what a picture shows

    def __post_init__(self) -> None:
        ok = len(set(self.digits)) == 2 and all(0 <= digit <= 9 for digit in self.digits)
        require(ok, "digits", list(self.digits), "two different digits, each in 0..9")

    def load(self) -> Data:
        """Two numbers for every image."""
        x, y = _digits()
        chosen = (y == self.digits[0]) | (y == self.digits[1])
        data = _split(x[chosen], (y[chosen] == self.digits[1]).long())
        mean = data.x.mean(0)
        _, _, axes = torch.linalg.svd(data.x - mean, full_matrices=False)
        # The sign of a principal component is arbitrary: its largest entry is made positive.
        signs = axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
        project = (signs * axes[:2]).T
        return data._replace(x=(data.x - mean) @ project, held_out_x=(data.held_out_x - mean) @ project)

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """Two weights on the wrong side, always the same."""
        network = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            network.weight.copy_(torch.tensor([[-2.0, 1.0]]))
        return network

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, nats."""
        return softplus((1 - 2 * y) * forward(x)[:, 0]).mean()

    def at(self, weights: Tensor, data: Data) -> Tensor:
        """The loss [...] at weights [..., 2], for a picture."""
        rows = weights.reshape(-1, 2)
        sign = (1 - 2 * data.y).to(rows)
        parts = [softplus(sign * (part @ data.x.T)).mean(1) for part in rows.split(4096)]
        return torch.cat(parts).reshape(weights.shape[:-1])

    def classes(self, output: Tensor) -> Tensor:
        """1 where the output is positive."""
        return (output[:, 0] > 0).long()


class CrossEntropy:
    """Of a network with an output for each class."""

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, nats."""
        return cross_entropy(forward(x), y)

    def classes(self, output: Tensor) -> Tensor:
        """Those of the largest outputs."""
        return output.argmax(1)


@dataclass(frozen=True, kw_only=True)
@checked
class DigitsMLP(CrossEntropy):
    """Scikit-learn's 1,797 images of 8x8 pixels and ten classes; tanh between the layers, cross-entropy.

    Attributes:
        hidden_sizes: units of each hidden layer.
    """

    hidden_sizes: Annotated[tuple[int, ...], Ge(1)] = (32,)

    def load(self) -> Data:
        """Pixels in [-1, 1]."""
        return _split(*_digits())

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """Weights as Glorot and Bengio 2010 draw them, biases 0."""
        return _layers((64, *self.hidden_sizes, 10), nn.Tanh, 1.0, random)


@dataclass(frozen=True, kw_only=True)
@checked
class Moons(CrossEntropy):
    """Two interleaved half-moons in the plane; tanh between the layers, cross-entropy.

    Attributes:
        hidden_sizes: units of each hidden layer.
        samples: points to learn from; the same number is held out.
        noise: standard deviation added to both coordinates.
    """

    hidden_sizes: Annotated[tuple[int, ...], Ge(1)] = (16, 16)
    samples: Annotated[int, Ge(2)] = 500
    noise: Annotated[float, Ge(0), Finite] = 0.2

    def load(self) -> Data:
        """Points of both moons."""
        from sklearn.datasets import make_moons

        x, y = (
            torch.from_numpy(part) for part in make_moons(2 * self.samples, noise=self.noise, random_state=0)
        )
        half = self.samples
        return Data(x[:half], y[:half], x[half:], y[half:])

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """Weights as Glorot and Bengio 2010 draw them, biases 0."""
        return _layers((2, *self.hidden_sizes, 2), nn.Tanh, 1.0, random)


@dataclass(frozen=True, kw_only=True)
@checked
class DeepLinear(CrossEntropy):
    """A product of matrices on the digits, half the squared error: what depth alone does to a gradient.

        dL/dW_1 = (W_n ... W_2)^T (W_n ... W_1 x - y) x^T

    Each factor stretches a gradient by about `gain`, so that it vanishes or explodes as gain^depth. All
    weights zero is a saddle (of depth 2 strict, beyond it flat); every other critical point is one too, or a
    global minimum.

    Attributes:
        depth: matrices.
        width: units between them.
        gain: standard deviation of the initial weights times the root of their number of inputs.

    Source: Saxe et al. 2014, arXiv:1312.6120; Kawaguchi 2016, arXiv:1605.07110, theorem 2.3.
    """

    depth: Annotated[int, Ge(1)] = 10
    width: Annotated[int, Ge(1)] = 16
    gain: Annotated[float, Ge(0), Finite] = 1.0

    def load(self) -> Data:
        """Pixels in [-1, 1]."""
        return _split(*_digits())

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """Normal weights with variance gain^2 / inputs, no biases."""
        sizes = (64, *[self.width] * (self.depth - 1), 10)
        return _layers(sizes, None, self.gain, random, like="inputs")

    def loss(self, forward: Forward, x: Tensor, y: Tensor) -> Tensor:
        """Half the squared distance from the class's unit vector."""
        # torch's one_hot looks at the data, which torch.func.vmap cannot follow.
        target = (y[:, None] == torch.arange(10, device=y.device)).to(x)
        return 0.5 * (forward(x) - target).square().sum(1).mean()


@dataclass(frozen=True, kw_only=True)
@checked
class DeepSigmoid(CrossEntropy):
    """Many sigmoid layers on the digits, cross-entropy: each shrinks a gradient by a factor of at most 1/4.

    Attributes:
        depth: hidden layers.
        width: units of each.
        gain: of the initial weights, times Glorot's.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward networks".
    """

    depth: Annotated[int, Ge(1)] = 6
    width: Annotated[int, Ge(1)] = 32
    gain: Annotated[float, Ge(0), Finite] = 1.0

    def load(self) -> Data:
        """Pixels in [-1, 1]."""
        return _split(*_digits())

    def make(self, data: Data, random: torch.Generator) -> nn.Module:
        """Weights as Glorot and Bengio draw them, times `gain`, biases 0."""
        return _layers((64, *[self.width] * self.depth, 10), nn.Sigmoid, self.gain, random)


def _layers(
    sizes: Sequence[int],
    activation: type[nn.Module] | None,
    gain: float,
    random: torch.Generator,
    like: Literal["both", "inputs"] = "both",
) -> nn.Sequential:
    """Linear layers; normal weights of variance gain^2 over the inputs, or over the mean of both sides."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs, bias=activation is not None, dtype=torch.float64)
        fan = inputs if like == "inputs" else (inputs + outputs) / 2
        with torch.no_grad():
            drawn = torch.randn(layer.weight.shape, generator=random, dtype=torch.float64)
            layer.weight.copy_(drawn * gain / math.sqrt(fan))
            if layer.bias is not None:
                layer.bias.zero_()
        layers.append(layer)
        if activation is not None:
            layers.append(activation())
    return nn.Sequential(*(layers if activation is None else layers[:-1]))


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Pixels in [-1, 1], [1797, 64], and classes."""
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    return torch.from_numpy(pixels) / 8 - 1, torch.from_numpy(digits)


def _split(x: Tensor, y: Tensor) -> Data:
    """Hold a quarter out, drawn once and for all: the digits come sorted by writer."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    kept = len(x) - round(HELD_OUT * len(x))
    first, rest = order[:kept], order[kept:]
    return Data(x[first], y[first], x[rest], y[rest])
