"""A loss on a frozen batch, as a function of a module's parameters: what probes differentiate.

Measuring must change nothing: the module's buffers (running statistics) are copied for every evaluation, and
the random numbers of dropout come from a fork of the global generators, the same at every evaluation.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

Forward = Callable[..., Tensor]  # the module's forward, at the parameters that are asked about


class Objective:
    """Mean loss over the samples of a frozen batch.

        objective = Objective(model, lambda forward, x, y: cross_entropy(forward(x), y), (images, labels))

    Args:
        module: the network; its trainable parameters are what the loss depends on.
        loss: called with the module's forward and the batch; returns the mean over the samples, 0-d. It must
            draw no random numbers of its own.
        batch: tensors [B, ...], not modified.
    """

    def __init__(self, module: nn.Module, loss: Callable[..., Tensor], batch: Sequence[Tensor]) -> None:
        self.module = module
        self.loss = loss
        self.batch = tuple(batch)
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.names = list(named)
        self.parameters = list(named.values())

    @property
    def samples(self) -> int:
        """B, samples in the batch."""
        return len(self.batch[0])

    def __call__(self, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss, 0-d, with a graph that can be differentiated twice.

        Args:
            parameters: by name; None = the module's own as they now are.
        """
        devices = [p.device for p in self.parameters[:1] if p.device.type == "cuda"]
        with torch.enable_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(0)
            return self.on(self.batch, parameters)

    def on(self, batch: Sequence[Tensor], parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The mean loss over other samples; can be mapped by `torch.func`."""
        buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        tensors = {**buffers, **dict(parameters or {})}

        def forward(*args: Tensor) -> Tensor:
            return functional_call(self.module, tensors, args)

        return self.loss(forward, *batch)
