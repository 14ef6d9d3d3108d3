"""Two optimizers in one: Muon takes only matrices, and every real network has biases too."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite, checked
from core.optim.factory import OptimizerComponent, build_optimizer, refuse_own_lr
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class SplitConfig:
    """Options of `Split`; conf/optimizer/muon.yaml gives the defaults.

    Attributes:
        lr: learning rate of both.
        matrices: the optimizer of parameters with two dimensions; without a rate of its own.
        others: that of all others; likewise.
        exclude: name patterns of matrices that go to `others` too (an embedding, the output layer).
    """

    lr: Annotated[float, Ge(0), Finite]
    matrices: OptimizerComponent
    others: OptimizerComponent
    exclude: tuple[str, ...]

    def __post_init__(self) -> None:
        refuse_own_lr(self.matrices, "matrices")
        refuse_own_lr(self.others, "others")


class Split(torch.optim.Optimizer):
    """Steps the matrices with one optimizer and everything else with another; looks like one from outside.

    Args:
        cfg: options.
        named_parameters: trainable parameters by name.
        lr: replaces `cfg.lr`; None keeps it.

    Raises:
        ValueError: there is no matrix, and not all parameters are scalars, or a pattern of `exclude` matches
            none.

    Source: Jordan 2024, kellerjordan.github.io/posts/muon: hidden matrices by Muon, the rest by AdamW. One
    rate for both: Liu et al. 2025, arXiv:2502.16982, section 2.2 (Muon's adjust_lr_fn=match_rms_adamw).
    """

    def __init__(
        self, cfg: SplitConfig, named_parameters: Iterable[tuple[str, Tensor]], lr: float | None = None
    ) -> None:
        named = list(named_parameters)
        matrices = [(name, p) for name, p in named if p.dim() == 2]
        for pattern in cfg.exclude:
            if not any(fnmatchcase(name, pattern) for name, _ in matrices):
                raise ValueError(f"optimizer.exclude: the pattern {pattern} matches no matrix's name")
        matrices = [
            (name, p)
            for name, p in matrices
            if not any(fnmatchcase(name, pattern) for pattern in cfg.exclude)
        ]
        if not matrices and any(p.dim() for _, p in named):  # a lone scalar is a player that can have none
            raise ValueError("optimizer.matrices: there is no parameter of two dimensions to optimize")
        inside = {id(p) for _, p in matrices}
        others = [(name, p) for name, p in named if id(p) not in inside]
        super().__init__([p for _, p in named], {})
        lr = cfg.lr if lr is None else lr
        parts = {"matrices": (cfg.matrices, matrices), "others": (cfg.others, others)}
        self.parts = {name: build_optimizer(part, of, lr) for name, (part, of) in parts.items() if of}
        self._share_groups()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both; a closure is called once, before them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> StateDict:
        """The states of both."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from `state_dict`."""
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])
        self._share_groups()

    def _share_groups(self) -> None:
        """Offer the parts' own groups: a schedule that writes a learning rate writes it there."""
        self.param_groups = [group for part in self.parts.values() for group in part.param_groups]
