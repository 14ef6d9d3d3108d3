"""What a landscape is drawn of: the losses of a trained run on a frozen batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from core.gradients import Objective
from core.landscape.directions import origin_of
from core.run.snapshots import read_snapshots


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run at one of its checkpoints.

    Attributes:
        directory: of the run.
        checkpoint: "last", "best" or "good".
        objectives: the training loss of every player, by the name of its gradient step ("" for a single one).
        batch: what the frozen batch is, as text.
        step: where the checkpoint stands on the x-axis.
        unit: what the x-axis counts.
        game: of two players, each one's loss as a function of both players' parameters, by player; the names
            of the parameters begin with their owner's name and a dot.
    """

    directory: Path
    checkpoint: str
    objectives: Mapping[str, Objective]
    batch: str
    step: int
    unit: str
    game: Mapping[str, Objective] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Which checkpoint, as text."""
        return f"{self.checkpoint} checkpoint, {self.step:,} {self.unit}"

    def path(self, player: str) -> tuple[Tensor, list[int]]:
        """The snapshots of a player's parameters up to the checkpoint, which is the last point.

        Returns:
            Points float32 [T, d] in the order of the objective's parameters, and their steps.

        Raises:
            ConfigError: a snapshot is damaged.
            ValueError: there are too few, or they are of other parameters.
        """
        objective = self.objectives[player]
        found = [(at, of[player]) for at, of in read_snapshots(self.directory, self.step) if player in of]
        points = []
        for at, parameters in found:
            shapes = {name: parameters[name].shape for name in objective.names if name in parameters}
            if shapes != {n: p.shape for n, p in zip(objective.names, objective.parameters, strict=True)}:
                raise ValueError(f"the snapshot at {at:,} {self.unit} is of other parameters")
            points.append(torch.cat([parameters[name].flatten() for name in objective.names]))
        end = origin_of(objective).cpu().float()
        steps = [at for at, _ in found]
        if points and steps[-1] == self.step:
            points, steps = points[:-1], steps[:-1]
        if len(points) < 2:
            raise ValueError(
                f"{len(points)} snapshots of the parameters lie before this checkpoint and a plane needs 2; "
                "logging.snapshots=24 keeps them while training"
            )
        return torch.stack([*points, end]), [*steps, self.step]
