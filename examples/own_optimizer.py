"""An optimizer of your own: any class with the interface of torch.optim.

python examples/own_optimizer.py optimizer._target_=own_optimizer.Lion optimizer.lr=1e-4

Its keywords are its options. It is tried on the parameters, and its state saved and read, before the run.
"""

import torch

from core.cli.command import launch


class Lion(torch.optim.Optimizer):
    """Every component moves by the learning rate, along the sign of an average (arXiv:2302.06675)."""

    def __init__(self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every parameter that has a gradient; the average is kept in `state`, which is saved."""
        for group in self.param_groups:
            now, later = group["betas"]
            for p in group["params"]:
                if p.grad is not None:
                    average = self.state[p].setdefault("average", torch.zeros_like(p))
                    p.sub_(average.lerp(p.grad, 1 - now).sign(), alpha=group["lr"])
                    average.lerp_(p.grad, 1 - later)


if __name__ == "__main__":
    launch("rl", by_id="env")
