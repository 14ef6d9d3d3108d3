"""Perturbed gradient descent: a little noise where the gradient is small, so that a saddle lets go."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from core.checks import Finite, checked
from core.gradients.norms import global_norm
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class PerturbedSGDConfig:
    """Options of `PerturbedSGD`; conf/optimizer/perturbed_sgd.yaml gives the defaults.

    Attributes:
        lr: learning rate.
        radius: of the ball that the noise is drawn from, in units of the parameters.
        threshold: a gradient norm at or below it counts as small.
        interval: steps after a perturbation without another.
        seed: of the noise.
    """

    lr: Annotated[float, Ge(0), Finite]
    radius: Annotated[float, Gt(0), Finite]
    threshold: Annotated[float, Gt(0), Finite]
    interval: Annotated[int, Ge(1)]
    seed: Annotated[int, Ge(0)]


class PerturbedSGD(torch.optim.SGD):
    """Gradient descent that leaves strict saddles.

    After a step whose gradient was small, unless one of the last `interval` steps was perturbed, the
    parameters move to a uniformly random point of a ball around them. Jin et al. perturb before the gradient
    is taken; here the next step sees the gradient there, which saves an evaluation and changes nothing else.
    Near a minimum the noise comes again and again: it rests only up to `radius`.

    Args:
        cfg: options.
        named_parameters: trainable parameters by name, on one device.
        lr: replaces `cfg.lr`; None keeps it.

    Source: Jin et al. 2017, arXiv:1703.00887, algorithm 2.
    """

    def __init__(
        self,
        cfg: PerturbedSGDConfig,
        named_parameters: Iterable[tuple[str, Tensor]],
        lr: float | None = None,
    ) -> None:
        parameters = [p for _, p in named_parameters]
        super().__init__(parameters, lr=cfg.lr if lr is None else lr)
        self.cfg = cfg
        device = parameters[0].device
        self.generator = torch.Generator(device).manual_seed(cfg.seed)
        self.waited = torch.full((), cfg.interval + 1, device=device)  # steps since the last perturbation

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """A step of gradient descent, and the noise when it is due.

        On an accelerator noise is drawn every step and multiplied by 0 or 1, so that the host need not wait.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = global_norm([p.grad for p in parameters if p.grad is not None])
        super().step()
        due = (norm <= self.cfg.threshold) & (self.waited > self.cfg.interval)
        self.waited = torch.where(due, 1, self.waited + 1)
        if due.device.type != "cpu" or due:
            noise = uniform_in_ball(parameters, self.cfg.radius, self.generator)
            torch._foreach_add_(parameters, [x * due for x in noise])
        return loss

    def state_dict(self) -> StateDict:
        """The groups, the noise's generator, and the steps since it last came."""
        own = {"generator": self.generator.get_state(), "waited": self.waited.clone()}
        return super().state_dict() | {"perturbation": own}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue from `state_dict`."""
        own = state_dict["perturbation"]
        super().load_state_dict({key: v for key, v in state_dict.items() if key != "perturbation"})
        self.generator.set_state(own["generator"].cpu())
        self.waited = own["waited"].to(self.waited.device, copy=True)


def uniform_in_ball(like: Sequence[Tensor], radius: float, generator: torch.Generator) -> list[Tensor]:
    """A point drawn uniformly from the ball around 0 in the space of all these tensors together.

    A normal vector has a uniform direction; in d dimensions the distance from the centre is radius u^(1/d).

    Args:
        like: tensors that give shapes, dtypes and the generator's device.
        radius: of the ball, > 0.
        generator: what the point is drawn from.
    """
    noise = [torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) for x in like]
    u = torch.rand((), generator=generator, device=like[0].device)
    length = radius * u ** (1 / sum(x.numel() for x in like)) / global_norm(noise)
    return [direction * length.to(direction.dtype) for direction in noise]
