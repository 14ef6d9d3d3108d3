"""Networks of agents as a user brings them, each with one thing wrong, and three that fit."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Plain(nn.Module):
    """A network that fits, for vectors."""

    def __init__(self, shape, width=6):
        super().__init__()
        self.layer = nn.Linear(shape[0], width)

    def forward(self, inputs):
        return self.layer(inputs).tanh()


class Spectral(Plain):
    """Its weights move a little with every pass, until the power iteration stands still."""

    def __init__(self, shape):
        super().__init__(shape, 32)
        self.layer = spectral_norm(self.layer)


class Pixels(nn.Module):
    """A network that fits, for images; its last layer takes its shape from the first input."""

    def __init__(self, shape):
        super().__init__()
        channels, _, _ = shape
        self.layers = nn.Sequential(nn.Conv2d(channels, 3, 8, 4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))

    def forward(self, inputs):
        return self.layers(inputs)


class NoModule:
    def __init__(self, shape): ...


class NoShape(nn.Module):
    """Its constructor does not take the shape."""


class NeedsMore(Plain):
    def __init__(self, shape, depth): ...


class NoForward(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(shape[0], 6)


class OneNumber(Plain):
    def forward(self, inputs):
        return super().forward(inputs).mean(-1)


class Fails(Plain):
    def forward(self, inputs):
        return super().forward(inputs) @ torch.ones(3, 3)


class Returns(Plain):
    def forward(self, inputs):
        return super().forward(inputs), {}


class Double(Plain):
    def forward(self, inputs):
        return super().forward(inputs).double()


class Detached(Plain):
    def forward(self, inputs):
        return super().forward(inputs).detach()


class PlainList(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layers = [nn.Linear(shape[0], 6)]

    def forward(self, inputs):
        return self.layers[0](inputs)


class BatchNorm(Plain):
    def __init__(self, shape):
        super().__init__(shape)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, inputs):
        return self.norm(super().forward(inputs))


class Dropout(Plain):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(inputs), 0.5, self.training)


def function(shape):
    return nn.Linear(shape[0], 6)
