"""What a network costs: its parameters, and the multiply-adds of one sample."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

UNITS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Size of a network.

    Attributes:
        parameters: numbers in its parameters, a shared tensor counted once.
        multiply_adds: of one sample's forward pass, in matrix products and convolutions; sums, activations
            and resampling that is not a convolution are not counted.
    """

    parameters: int
    multiply_adds: int

    def line(self, name: str) -> str:
        """In words: `generator 1.2 M parameters, 34.5 M multiply-adds a sample`."""
        parameters, multiply_adds = _short(self.parameters), _short(self.multiply_adds)
        return f"{name} {parameters} parameters, {multiply_adds} multiply-adds a sample"


@torch.no_grad()
def cost(module: nn.Module, *inputs: Tensor | None) -> Cost:
    """Count parameters, and run the module once to count multiply-adds.

    Nothing of the module changes: it runs in evaluation mode, so that running statistics and the vectors of
    spectral norm stay, and goes back to the modes it had.

    Args:
        module: called as module(*inputs).
        inputs: tensors [B, ...] with the same B >= 1, on the module's device; the first is not None.
            One sample is enough.

    Returns:
        The counts, multiply-adds per sample.

    Raises:
        ValueError: the first input is None.
    """
    from torch.utils.flop_counter import FlopCounterMode  # late: importing it takes 0.4 s

    first = inputs[0]
    if first is None:
        raise ValueError("cost wants a batch as its first input, got None")
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            # The counter hooks into whatever requires a gradient, also where none is recorded, and fails
            # there on views of a parameter: so nothing does.
            frozen = {name: p.detach() for name, p in module.named_parameters()}
            functional_call(module, frozen, tuple(None if x is None else x.detach() for x in inputs))
    finally:
        for part, training in modes:
            part.training = training
    # torch counts a multiply-add as two operations.
    multiply_adds = counter.get_total_flops() // (2 * len(first))
    return Cost(parameters=sum(p.numel() for p in module.parameters()), multiply_adds=multiply_adds)


def player_costs(
    generator: nn.Module, discriminator: nn.Module, z: Tensor, x: Tensor, labels: Tensor
) -> tuple[str, str]:
    """One line for each player: what it costs; for one latent, one sample and a label that may go unread."""
    return cost(generator, z, labels).line("generator"), cost(discriminator, x, labels).line("discriminator")


def _short(count: int) -> str:
    """Two or three digits and a unit: 34.5 M, 120 k, 7."""
    for size, unit in UNITS:
        if count >= size * 0.9995:  # 999,950 reads 1.0 M, not 1000 k
            value = count / size
            return f"{value:.0f}{unit}" if value >= 99.95 else f"{value:.1f}{unit}"
    return str(count)
