"""The game as a vector field: both players' gradients on frozen samples, its Jacobian, a way through it.

    v(w) = (dL_G/dG, dL_D/dD),    w = (generator's parameters, discriminator's)

Gradient descent of both players follows dw/dt = -v(w). Where -v turns around a point, the Jacobian there has
imaginary eigenvalues; where it pulls towards it, their real parts are negative. Measuring changes nothing:
buffers (running statistics, power iterations) are put back.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from core.curvature.arnoldi import ComplexRitz, arnoldi
from core.curvature.kernels import require_differentiable, twice_differentiable
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.game.game import FakeBatch, Game, StepInfo
from gradgan.game.players import latents


class VectorField:
    """v on one batch.

    Penalties and regularizers count with their mean over updates, whether or not they are due.

    Args:
        game: what both players want.
        generator: one player.
        discriminator: the other one.
        real: the frozen batch.
        latent_size: numbers in a latent.
        info: when; its seed fixes the latents and everything else that is drawn.
        states: of the regularizers, by name; only read.
    """

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        discriminator: nn.Module,
        real: Batch,
        latent_size: int,
        info: StepInfo,
        states: Mapping[str, StateDict],
    ) -> None:
        self.game = replace(
            game,
            joint_graph=True,
            penalty=_eager(game.penalty),
            regularizers={name: _eager(part) for name, part in game.regularizers.items()},
        )
        self.players = generator, discriminator
        self.real, self.info, self.states = real, info, states
        random = torch.Generator().manual_seed(info.seed)
        z = latents(len(real.x), latent_size, random, real.x.device)
        self.fake = FakeBatch(generator, z, real.labels, shared=False)
        self.parameters = [[p for p in player.parameters() if p.requires_grad] for player in self.players]

    @property
    def point(self) -> Tensor:
        """w: all parameters in one vector, [d]."""
        return _flat([p.detach() for own in self.parameters for p in own])

    def gradients(self, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """V at the present parameters, each player's part as one vector."""
        discriminator = self.players[1]
        kernels = twice_differentiable(*self.players) if create_graph else nullcontext()
        with unchanged(*self.players), torch.enable_grad(), kernels:
            by_player = [
                self.game.generator_loss(discriminator, self.real, self.fake, self.info),
                self.game.discriminator_loss(discriminator, self.real, self.fake, self.info, self.states),
            ]
            of_generator, of_discriminator = (
                _flat(
                    torch.autograd.grad(
                        torch.stack(list(losses.values())).sum(),
                        own,
                        create_graph=create_graph,
                        materialize_grads=True,
                    )
                )
                for (losses, _), own in zip(by_player, self.parameters, strict=True)
            )
        return of_generator, of_discriminator

    def discriminator_terms(self) -> dict[str, tuple[Tensor | None, ...]]:
        """Gradient of each term of the discriminator's loss, by name; None where it reaches no parameter."""
        with unchanged(*self.players), torch.enable_grad():
            losses, _ = self.game.discriminator_loss(
                self.players[1], self.real, self.fake, self.info, self.states
            )
            return {
                name: torch.autograd.grad(loss, self.parameters[1], retain_graph=True, allow_unused=True)
                for name, loss in losses.items()
            }

    def eigenvalues(self, products: int, random: torch.Generator) -> ComplexRitz:
        """The outermost eigenvalues of the Jacobian of dw/dt = -v(w), from that many products with it.

        Those of J^T are those of J, and J^T u is one more gradient: of the scalar product of v with u.

        Args:
            products: Arnoldi steps, >= 1; one costs about two to three gradients of both players.
            random: draws the start.

        Source: Mescheder et al. 2017, arXiv:1705.10461, section 3; drawn for GANs by Berard et al. 2020,
        arXiv:1906.04848, section 4.
        """
        every = [p for own in self.parameters for p in own]
        v = torch.cat(self.gradients(create_graph=True))
        require_differentiable([v])

        def transposed(u: Tensor) -> Tensor:
            return -_flat(torch.autograd.grad(v @ u, every, retain_graph=True, materialize_grads=True))

        start = torch.randn(len(v), generator=random, dtype=v.dtype).to(v.device)
        return arnoldi(transposed, start, products)

    def path(self, origin: Tensor, points: int) -> "Path":
        """The field along the straight line from `origin` through the present point and beyond.

        Args:
            origin: a former `point`, [d].
            points: places on the line, >= 2.

        Source: Berard et al. 2020, arXiv:1906.04848, section 4.2 (path-angle and path-norm).
        """
        here = self.point
        direction = here - origin
        shares = torch.linspace(0.0, 1.5, points)
        cosines, norms = [], []
        try:
            for share in shares.tolist():
                self._move(torch.lerp(origin, here, share))
                v = -torch.cat(self.gradients())
                norms.append(v.norm())
                cosines.append(torch.nn.functional.cosine_similarity(v, direction, dim=0))
        finally:
            self._move(here)
        return Path(shares, torch.stack(cosines).cpu(), torch.stack(norms).cpu())

    @torch.no_grad()
    def _move(self, point: Tensor) -> None:
        position = 0
        for own in self.parameters:
            for p in own:
                p.copy_(point[position : position + p.numel()].view_as(p))
                position += p.numel()


@dataclass(frozen=True)
class Path:
    """The field -v along a line from one point of a training to a later one.

    Attributes:
        shares: place on the line: 0 the former point, 1 the later one; [P].
        cosines: of -v and the direction of the line, [P]. Plain attraction to the later point steps from 1
            to -1 there; a rotation around it shows a bump, with no change of sign.
        norms: |v|, [P].
    """

    shares: Tensor
    cosines: Tensor
    norms: Tensor


@contextmanager
def unchanged(*players: nn.Module) -> Iterator[None]:
    """Put the buffers of both players back at the end."""
    kept = [
        (part._buffers, name, buffer, buffer.clone())
        for player in players
        for part in player.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for owner, name, buffer, value in kept:
            owner[name] = buffer  # where one was assigned anew
            # Past autograd: a graph through batch norm refers to the running statistics without reading them.
            buffer.data.copy_(value)


def _eager(part: Any) -> Any:
    """The same penalty or regularizer, computed at every update."""
    return replace(part, interval=1) if hasattr(part, "interval") else part


def _flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])
