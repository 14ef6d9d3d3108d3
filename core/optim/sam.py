"""Sharpness-aware minimisation: the gradient is taken where the loss nearby is worst."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from core.checks import Finite, checked
from core.gradients.norms import global_norm
from core.optim.factory import OptimizerComponent, build_optimizer, refuse_own_lr
from core.state import StateDict

ETA = 0.01  # ASAM's floor under |w|: without it a weight at zero would never be moved


@dataclass(frozen=True, kw_only=True)
@checked
class SAMConfig:
    """Options of `SAM`; conf/optimizer/sam.yaml gives the defaults.

    Attributes:
        lr: learning rate of the base optimizer.
        base: the optimizer that makes a step of the gradient; without a rate of its own.
        rho: radius of the neighbourhood, in units of the parameters (of |w|, when adaptive).
        adaptive: measure the radius relative to each weight's size (ASAM, whose authors use rho = 0.5).
    """

    lr: Annotated[float, Ge(0), Finite]
    rho: Annotated[float, Gt(0), Finite]
    adaptive: bool
    base: OptimizerComponent

    def __post_init__(self) -> None:
        refuse_own_lr(self.base, "base")


class SAM(torch.optim.Optimizer):
    """Steps with the gradient at w + e, where e climbs as far as rho allows.

        SAM:   e = rho g / |g|
        ASAM:  e = rho T^2 g / |T g|,   T = diag(|w| + 0.01)

    Two gradients per step, so twice the time.

    Args:
        cfg: options.
        named_parameters: trainable parameters by name.
        lr: replaces `cfg.lr`; None keeps it.

    Source: Foret et al. 2021, arXiv:2010.01412, algorithm 1; Kwon et al. 2021, arXiv:2102.11600, eq. 8.
    """

    def __init__(
        self, cfg: SAMConfig, named_parameters: Iterable[tuple[str, Tensor]], lr: float | None = None
    ) -> None:
        named = list(named_parameters)
        self.cfg = cfg
        self.base = build_optimizer(cfg.base, named, cfg.lr if lr is None else lr)
        super().__init__([p for _, p in named], {})
        self._share_base()

    # torch's closure may be missing; without one there is no second gradient.
    @torch.no_grad()
    def step(self, closure: Callable[[], float]) -> float:  # type: ignore[override]
        """Climb with the gradient in `.grad`, take the gradient there, come back, step.

        Args:
            closure: puts the gradient at the parameters as they then are into `.grad`, and returns the loss.
                Whatever it raises, the parameters are back before that, to the bit.

        Returns:
            The loss at w + e.
        """
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        kept = [p.clone() for p in parameters]
        self._climb(parameters)
        try:
            with torch.enable_grad():
                loss = closure()
        finally:
            torch._foreach_copy_(parameters, kept)
        self.base.step()
        return loss

    def state_dict(self) -> StateDict:
        """The state of the base optimizer: SAM has none of its own."""
        return self.base.state_dict()

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from `state_dict`."""
        self.base.load_state_dict(state_dict)
        self._share_base()

    def _climb(self, parameters: list[Tensor]) -> None:
        """Add e to the parameters; a gradient of zero climbs nowhere."""
        climb = [
            (p.grad.to_dense() if p.grad.is_sparse else p.grad) for p in parameters if p.grad is not None
        ]
        sizes = torch._foreach_add(torch._foreach_abs(parameters), ETA) if self.cfg.adaptive else None
        if sizes is not None:
            climb = list(torch._foreach_mul(climb, sizes))
        norm = global_norm(climb)
        if sizes is not None:
            climb = list(torch._foreach_mul(climb, sizes))
        scale = torch.where(norm > 0, self.cfg.rho / norm, 0.0)
        for parameter, direction in zip(parameters, climb, strict=True):
            parameter.add_(direction * scale.to(direction.dtype))

    def _share_base(self) -> None:
        """The base optimizer's groups and state are ours: a schedule writes learning rates into them."""
        self.defaults = self.base.defaults
        self.param_groups = self.base.param_groups
        self.state = self.base.state
