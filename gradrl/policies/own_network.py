"""A network of the user's own in place of hidden layers and convolutions: `policy.network._target_=`."""

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from core.config import Component
from core.own_module import attempt, seeded, tried
from gradrl.envs.observations import Observation


class Network(Protocol):
    """What `policy.network` names: a class of `torch.nn.Module`, made as `Class(shape, **options)`.

    Actor and critic get one each, with weights of its own, and so does every critic of an agent that learns
    action values. The last layer, from features to what the policy or the value needs, is put behind it. A
    recurrent policy has it before its LSTM.

    Its weights are drawn from torch's global generator, which is seeded for each; it holds parameters, and
    neither batch norm nor dropout: what a policy does in a state must follow from that state alone.
    """

    def __init__(self, shape: tuple[int, ...], **options: object) -> None:
        """Build for inputs [B, *shape].

        Args:
            shape: (D,) for a vector of D numbers: the parts of an observation side by side, and the action
                behind them where a critic values it; (C, H, W) for images, with pixels in [0, 1], where
                critics of action values share one network, and the action and `hidden_sizes` follow.
            options: those that are typed, as `policy.network.NAME=`. A class whose first argument is `cfg`, a
                dataclass, gets that instead, then the shape.
        """
        ...

    def forward(self, inputs: Tensor) -> Tensor:
        """Features [B, F] of inputs [B, *shape], both float32, with a gradient."""
        ...


class OwnNetwork(nn.Module):
    """Rows [..., D] to features [..., F] by a network of the user's own.

    Args:
        component: its class and options.
        shape: of one input of it: the first columns of a row.
        generator: seeds its weights.

    Attributes:
        size: F.

    Raises:
        ValueError: it cannot be made, or does not do what `Network` says; one line.
    """

    def __init__(self, component: Component, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        target = component.target
        what = f"{component.path}={target.__module__}.{target.__qualname__}"
        seed = int(torch.randint(2**62, (), generator=generator))

        def made() -> tuple[object, int]:
            network = attempt(f"{what}({shape})", component, shape)
            return network, tried(what, network, shape).shape[1]

        self.network, self.size = cast(tuple[nn.Module, int], seeded(seed, made))

    def forward(self, rows: Tensor) -> Tensor:
        """Features [..., F] of rows [..., D]."""
        inputs = rows[..., : math.prod(self.shape)].reshape(-1, *self.shape)
        if len(self.shape) == 3:
            inputs = inputs / 255  # of bytes: float32
        return self.network(inputs).reshape(*rows.shape[:-1], self.size)


def observing(component: Component, observation: Observation, generator: torch.Generator) -> OwnNetwork:
    """The user's network for observations: of one image, or of all vectors; a mask is not shown to it.

    Raises:
        ValueError: there are several images, or images beside vectors; or as `OwnNetwork`.
    """
    parts = observation.parts
    images = [part for part in parts if part.kind == "image"]
    if images and len(parts) > 1:
        raise ValueError(
            f"{component.path} takes one image or one vector, and an observation here has {len(images)} "
            f"images and {len(parts) - len(images)} vectors; choose with env.wrappers"
        )
    shape = images[0].shape if images else (sum(math.prod(part.shape) for part in parts),)
    return OwnNetwork(component, shape, generator)
