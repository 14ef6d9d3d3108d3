"""A network of your own for actor and critic: a residual block in place of the hidden layers.

python examples/own_network.py policy.network._target_=own_network.Residual policy.network.width=32

What the class must have stands in gradrl.policies.own_network.Network.
"""

from torch import Tensor, nn

from core.cli.command import launch


class Residual(nn.Module):
    """Features of an observation.

    Args:
        shape: of one input: (D,) here, (C, H, W) for images.
        width: F, numbers that it becomes.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.first = nn.Linear(shape[0], width)
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, D] to [B, F]; the last layer, from there to actions or a value, is put behind it."""
        hidden = self.first(inputs)
        return hidden + self.block(hidden)


if __name__ == "__main__":
    launch("rl", by_id="env")
