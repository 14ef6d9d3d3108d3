"""What the discriminator says over the plane, and where it pushes each generated point, along a training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.history import History
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.measurements.vector_field import unchanged
from gradgan.trainer import Trainer

GRID = 41  # points along each axis
FRAMES = 40  # moments of a training that are kept, at most
REACH = 1.6  # times the largest coordinate of a real sample


@dataclass(frozen=True)
class Moment:
    """One moment of a training, in the units of the networks.

    Attributes:
        updates: of the discriminator so far.
        logits: of the discriminator over the grid, rows along the second axis, [GRID, GRID]; where the loss
            only compares them, less the middle between real and generated samples.
        points: generated, [N, 2].
        push: -dL_i/dx_i at each of them: where a step of gradient descent on the loss of this sample alone
            would move it, [N, 2].
    """

    updates: int
    logits: Tensor
    points: Tensor
    push: Tensor


class SampleField:
    """Records moments of the training of an unconditional generator of points in the plane.

    Args:
        trainer: whose players they are.
        real: samples of the data, [N, 2]; as many points are generated.
        z: their latents, [N, latent_size].
    """

    def __init__(self, trainer: Trainer, real: Batch, z: Tensor) -> None:
        self.trainer, self.real, self.z = trainer, real, z
        limit = REACH * float(real.x.abs().max())
        self.line = torch.linspace(-limit, limit, GRID)
        self._history = History(self._row(), FRAMES)

    def record(self) -> None:
        """Append the present moment, unless it is there already."""
        row = self._row()
        if row[0] != self._history.rows()[1][-1, 0]:
            self._history.add(row)

    def moments(self) -> list[Moment]:
        """All that are kept, the last one being that of the last call of `record`."""
        count, size = len(self.z), GRID * GRID
        found = []
        for row in self._history.rows()[1]:
            updates, logits, points, push = row.split([1, size, 2 * count, 2 * count])
            place = logits.view(GRID, GRID), points.view(count, 2), push.view(count, 2)
            found.append(Moment(int(updates), *place))
        return found

    def state_dict(self) -> StateDict:
        """All moments that are kept."""
        return self._history.state_dict()

    def state_form(self) -> StateDict:
        """Any number of moments."""
        return self._history.state_form()

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._history.load_state_dict(state)

    def _row(self) -> Tensor:
        """A moment, flat, on the CPU."""
        trainer = self.trainer
        grid = torch.cartesian_prod(self.line, self.line).flip(1).to(self.real.x.device)
        with unchanged(trainer.generator, trainer.discriminator):
            with torch.no_grad():
                logits = trainer.discriminator(grid, None)
            points, gradient, _ = sample_gradients(trainer, self.real, self.z)
            if not trainer.game.loss.has_threshold:  # only differences of logits count
                with torch.no_grad():
                    means = [trainer.discriminator(x, None).mean() for x in (self.real.x, points)]
                logits = logits - (means[0] + means[1]) / 2
        updates = torch.tensor([float(trainer.discriminator_updates)])
        parts = updates, logits.flatten(), points.flatten(), -gradient.flatten()
        return torch.cat([part.detach().float().cpu() for part in parts])


def sample_gradients(trainer: Trainer, real: Batch, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Generated samples, and the gradients of each one's own loss: by the sample, and by its logit, [N].

    A relativistic loss compares each with the real sample of the same place.
    """
    loss, discriminator = trainer.game.loss, trainer.discriminator
    with torch.enable_grad():
        samples = trainer.generator(z, real.labels).detach().requires_grad_()
        logits = discriminator(samples, real.labels)
        real_logits = discriminator(*real).detach() if loss.generator_uses_real else None
        total = loss.generator(logits, real_logits) * len(samples)
        by_logit, by_sample = torch.autograd.grad(total, [logits, samples])
    return samples.detach(), by_sample, by_logit
