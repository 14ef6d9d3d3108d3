"""A loss on a frozen batch, as a function of a module's parameters: probes differentiate it.

A measurement must not change anything: the module's buffers (running statistics) are copied for every
evaluation, and the random numbers of dropout come from a fork of the global generators, the same at every
evaluation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result")
Forward = Callable[..., Tensor]  # the module's forward, at the parameters that are asked about


def frozen(module: nn.Module) -> Forward:
    """The module's forward, changing none of its buffers (running statistics)."""

    def forward(*args: Tensor) -> Tensor:
        buffers = {name: b.clone() for name, b in module.named_buffers()}
        return functional_call(module, buffers, args)

    return forward


@contextmanager
def own_randomness(objective: "Objective", seed: int = 0) -> Iterator[Callable[[], bool]]:
    """Seed the global generators and restore them afterwards; yields a function: was a number drawn?"""
    devices = [p.device for p in objective.parameters[:1] if p.device.type == "cuda"]
    drawn = False
    # By hand: torch.manual_seed takes 1 ms where CUDA is not yet initialised, three gradients of a small
    # network, and seeds devices that torch.random.fork_rng would not restore.
    saved = _states(devices)
    try:
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        before = _states(devices)
        with torch.enable_grad():
            yield lambda: drawn
        drawn = not all(map(torch.equal, before, _states(devices)))
    finally:
        torch.set_rng_state(saved[0])
        for device, state in zip(devices, saved[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


def _states(devices: Sequence[torch.device]) -> list[Tensor]:
    """States of the global generators of the CPU and the devices."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


class Objective:
    """Mean loss over the samples of a frozen batch.

        objective = Objective(model, lambda forward, x, y: cross_entropy(forward(x), y), (images, labels))

    Args:
        module: the network; its trainable parameters are what the loss depends on.
        loss: called with the module's forward and the batch; returns the mean over the samples, 0-d. It must
            draw no random numbers of its own.
        batch: tensors [B, ...], not modified.
        terms: called likewise; returns by name the losses that `loss` is the sum of. None = it is one.
        batch_names: of the tensors, for messages.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[..., Tensor],
        batch: Sequence[Tensor],
        terms: Callable[..., dict[str, Tensor]] | None = None,
        batch_names: Sequence[str] = (),
    ) -> None:
        self.module = module
        self.loss = loss
        self.batch = tuple(batch)
        self.terms = terms
        self.batch_names = tuple(batch_names)
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
        with own_randomness(self):
            return self.on(self.batch, parameters)

    def on(self, batch: Sequence[Tensor], parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """The mean loss over other samples; can be mapped by `torch.func`."""
        return self._called(self.loss, batch, parameters)

    def terms_on(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """The terms of the mean loss over some samples; the whole under one name where there is one."""
        if self.terms is None:
            return {"loss": self.on(batch)}
        return self._called(self.terms, batch, None)

    def _called(
        self, loss: Callable[..., Result], batch: Sequence[Tensor], parameters: Mapping[str, Tensor] | None
    ) -> Result:
        buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        tensors = {**buffers, **dict(parameters or {})}
        if not tensors:  # nothing to exchange: a fifth of a small network's time saved
            return loss(self.module, *batch)

        def forward(*args: Tensor) -> Tensor:
            return functional_call(self.module, tensors, args)

        return loss(forward, *batch)
