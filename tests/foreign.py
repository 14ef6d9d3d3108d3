"""Optimizers as other packages have them, each with one peculiarity; none is of torch or of ours."""

import collections
import enum

import torch


class ThreeBetas(torch.optim.Optimizer):
    """Plain descent with the options of a class that has three decay rates."""

    def __init__(self, params, lr=0.25, betas=(0.98, 0.92, 0.99), weight_decay=0.02):
        if len(betas) != 3:
            raise ValueError(f"betas must be three numbers, got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)

    def move(self, p, group):
        p.sub_(p.grad, alpha=group["lr"])


class NoRate(torch.optim.Optimizer):
    """Bets coins: it has no learning rate."""

    def __init__(self, params, alpha=100.0):
        super().__init__(params, {"alpha": alpha})

    def step(self, closure=None): ...


class NeedsGraph(ThreeBetas):
    """Differentiates the gradient again."""

    def move(self, p, group):
        if p.grad.grad_fn is None:
            raise RuntimeError("the gradient has no grad_fn: call backward with create_graph=True")


class NeedsHorizon(ThreeBetas):
    """Wants an option that has no default."""

    def __init__(self, params, horizon, lr=0.25):
        super().__init__(params, lr)
        self.horizon = horizon


class Recent(ThreeBetas):
    """Steps with the sum of its last three gradients, which it keeps in a deque."""

    def move(self, p, group):
        recent = self.state[p].setdefault("recent", collections.deque(maxlen=3))
        recent.append(p.grad.clone())
        p.sub_(sum(recent), alpha=group["lr"])


class Norm(enum.Enum):
    SPECTRAL = 1


class Enumerated(ThreeBetas):
    """Keeps an enum in its groups."""

    def __init__(self, params, lr=0.25):
        super().__init__(params, lr)
        self.param_groups[0]["norm"] = Norm.SPECTRAL


class NoOptimizer:
    """Takes parameters, and that is all."""

    def __init__(self, params, lr=0.1): ...
