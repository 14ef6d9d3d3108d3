"""Update schemes of two players that differentiate gradients again: consensus and the symplectic adjustment.

    w = (discriminator's parameters, generator's),  v(w) = (dL_D/dD, dL_G/dG),  J = dv/dw

Where v turns, its Jacobian J has an antisymmetric part, and no learning rate makes plain steps along v
converge fast. Both schemes add a term made of J and v that points inwards. J is never formed: products with
it are gradients of scalar products.

Both closures are evaluated once per update, with graphs to the parameters of both players. Differentiating
twice makes an update of a small GAN take 3 times (consensus) to 5 times (adjustment) a plain one's time.

Each player's term goes to its `GradientStep` as one more named loss, linear in the parameters, whose gradient
is the term: so loss scaling, gradient surgery and the mean over ranks treat it as they treat any loss. (Each
rank corrects with the Jacobian of its own batch.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from core.checks import Finite, checked
from core.curvature.kernels import require_differentiable, twice_differentiable
from core.gradients import Metrics
from core.optim.schemes.schemes import Move, check_scheme
from core.state import StateDict


@dataclass(frozen=True, kw_only=True)
@checked
class Consensus:
    """Simultaneous steps of two players who both also want the gradients to become small.

        w <- w - h (v + gamma J^T v),      J^T v = d(1/2 |v|^2)/dw

    On the bilinear game the factor is 1 - h gamma + ih. The term makes every point with v = 0 attractive,
    saddles of a player's own loss among them, so gamma should be no larger than the turning asks for.

    Attributes:
        gamma: weight of the term.

    Source: Mescheder et al. 2017, arXiv:1705.10461, algorithm 2.
    """

    gamma: Annotated[float, Ge(0), Finite]

    needs_joint_graph = True
    changes_gradients = True
    at_one_point = True

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Both gradients and both terms at the same point, then both moves."""
        check_scheme(self, type(discriminator.step.optimizer), type(generator.step.optimizer))
        players = _Player(discriminator), _Player(generator)
        field = [v for player in players for v in _differentiable(player.loss, player.parameters)]
        for player, term in zip(players, _pull_back(field, players), strict=True):
            player.compute([self.gamma * t for t in term])
        return _apply(players)


@dataclass(frozen=True, kw_only=True)
@checked
class SymplecticAdjustment:
    """Simultaneous steps with the turning part of the game's Jacobian straightened out (SGA).

        w <- w - h (v + gamma A^T v),      A = (J - J^T) / 2

    A player's own second derivatives are symmetric and cancel in A; what is left are the mixed ones. With
    E = L_G - L_D, differentiated for one player's parameters and then for the other's,

        (A^T v)_D = 1/2 d<dE/dG, v_G>/dD,    (A^T v)_G = -1/2 d<dE/dD, v_D>/dG

    with v held fixed in the products. Unlike consensus it leaves a game without turning alone, so it does not
    make a player's own maxima attractive. On a pure rotation (bilinear game) the two are the same.

    Attributes:
        gamma: weight of the term; the paper's lambda, which is 1 there.
        align: whether the term changes its sign where it would push towards an unstable point and away from a
            stable one: sign(<v, H> <A^T v, H> / d + 1/10) with H = J^T v, d the number of parameters. Costs
            one more pass.

    Source: Balduzzi et al. 2018, arXiv:1802.05642, algorithm 1.
    """

    gamma: Annotated[float, Ge(0), Finite]
    align: bool

    needs_joint_graph = True
    changes_gradients = True
    at_one_point = True

    def __call__(self, discriminator: Move, generator: Move, state: StateDict) -> Metrics:
        """Both gradients and both terms at the same point, then both moves."""
        check_scheme(self, type(discriminator.step.optimizer), type(generator.step.optimizer))
        players = _Player(discriminator), _Player(generator)
        d, g = players
        v_d, cross_d = d.differentiate(g.parameters)
        v_g, cross_g = g.differentiate(d.parameters)
        # Gradient of E by the discriminator's and by the generator's parameters.
        by_d = [cross - own for cross, own in zip(cross_g, v_d, strict=True)]
        by_g = [own - cross for own, cross in zip(v_g, cross_d, strict=True)]
        terms = (
            _gradient(0.5 * _dot(by_g, _detached(v_g)), d.parameters),
            _gradient(-0.5 * _dot(by_d, _detached(v_d)), g.parameters),
        )
        weight = self.gamma * (_alignment([*v_d, *v_g], terms, players) if self.align else 1.0)
        for player, term in zip(players, terms, strict=True):
            player.compute([weight * t for t in term])
        return _apply(players)


class _Player:
    """One player's losses at the current parameters, evaluated once, with their graph."""

    def __init__(self, move: Move) -> None:
        step = move.step
        half = step.precision != "float32"
        dtype = getattr(torch, step.precision) if half else None
        with torch.autocast(step.device.type, dtype, enabled=half), twice_differentiable():
            (closure,) = move.closures  # the losses of micro-batches have no common graph
            losses, self.metrics = closure()
        self.step = step
        self.losses = dict(losses) if isinstance(losses, Mapping) else {"loss": losses}
        self.loss = reduce(torch.add, self.losses.values())
        self.parameters = step.parameters

    def differentiate(self, others: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Gradient of this player's loss for its own parameters and for the other's, with graph."""
        gradient = _differentiable(self.loss, [*self.parameters, *others])
        return gradient[: len(self.parameters)], gradient[len(self.parameters) :]

    def compute(self, term: list[Tensor]) -> None:
        """The gradient of the losses plus `term`, into `.grad`."""
        linear = {"adjustment": _dot(self.parameters, _detached(term))}
        self.step.compute(lambda: (self.losses | linear, self.metrics))


def _apply(players: Sequence[_Player]) -> Metrics:
    """Move both players; their metrics."""
    metrics: Metrics = {}
    for player in players:
        player.step.apply()
        metrics |= player.metrics
    return metrics


def _pull_back(
    field: Sequence[Tensor], players: tuple[_Player, _Player]
) -> tuple[list[Tensor], list[Tensor]]:
    """J^T v for each player's parameters."""
    first, second = (player.parameters for player in players)
    product = _gradient(0.5 * _dot(field, field), [*first, *second])
    return product[: len(first)], product[len(first) :]


def _alignment(
    field: Sequence[Tensor], terms: tuple[list[Tensor], list[Tensor]], players: tuple[_Player, _Player]
) -> Tensor:
    """Balduzzi's sign, 0-d: +1 unless the term points against the field's way to (or from) a fixed point."""
    slope = [h for part in _pull_back(field, players) for h in part]
    towards = _dot(_detached(field), slope) * _dot([t for part in terms for t in part], slope)
    return torch.sign(towards / sum(h.numel() for h in slope) + 0.1)


def _differentiable(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradient that can be differentiated again; zeros for parameters that the loss does not reach."""
    gradient = torch.autograd.grad(
        loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )
    require_differentiable(gradient)
    return list(gradient)


def _gradient(value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradient without a graph; zeros where there is none. What `value` was computed from stays usable."""
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    return list(
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    )


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Scalar product of two lists of tensors, 0-d."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach() for t in tensors]
