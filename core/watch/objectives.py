"""What a frozen batch opens: noise of single samples, curvature, units, and where a NaN is born."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from core.curvature.probe import CurvatureProbe
from core.gradients import Objective
from core.gradients.measured import Measured
from core.gradients.probe import Probe
from core.gradients.unit_health import UnitHealth
from core.landscape.keep import keep
from core.landscape.subject import Subject
from core.landscape.views import VIEWS, ViewConfig
from core.noise.probe import NoiseProbe
from core.run.probes import Probes
from core.seeding import seed_for

SPACING = (50, 500)  # steps between two measurements: half of what has been done, but within these


class Frozen:
    """Measures objectives at a spacing that grows with the run.

    Args:
        say: prints a line about what cannot be measured.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.pairs: list[tuple[Objective, Measured]] = []
        self.for_diagnosis = Probes(None, 0, lambda: self.pairs)
        self._probes: list[dict[str, Probe]] = []
        self._next = 0

    def add(self, objective: Objective, owner: Measured) -> None:
        """Take in one objective; a probe that its network does not allow is left out, and that is said."""
        self.pairs.append((objective, owner))
        allowed: dict[str, Probe] = {}
        for name, probe in _all_probes().items():
            if (reason := _refusal(probe, objective.module)) is None:
                allowed[name] = probe
            else:
                self.say(f"{name} is not measured: {reason}")
        self._probes.append(allowed)

    @torch.enable_grad()
    def measure(self, step: int) -> dict[str, float]:
        """What is due, by tag."""
        if step < self._next or not self.pairs:
            return {}
        least, most = SPACING
        self._next = step + max(least, min(step // 2, most))
        values: dict[str, float] = {}
        for (objective, owner), probes in zip(self.pairs, self._probes, strict=True):
            for name, probe in list(probes.items()):
                generator = torch.Generator().manual_seed(seed_for(0, "probe", name, owner.name, step))
                try:
                    found = probe(objective, owner, generator)
                except Exception as error:  # a kernel without a second derivative, or the user's own loss
                    del probes[name]
                    self.say(f"{name} is no longer measured: {' '.join(str(error).split())[:300]}")
                    continue
                values |= {f"{owner.monitor.prefix}{tag}": value for tag, value in found.items()}
        return values


def draw_landscape(
    directory: Path,
    objectives: Sequence[tuple[Objective, Measured]],
    step: int,
    views: Sequence[str],
    grid: int,
) -> list[Path]:
    """Draw the loss around the parameters as they now are; where the pictures are."""
    by_player = {owner.name: objective for objective, owner in objectives}
    count = min(objective.samples for objective in by_player.values())
    subject = Subject(
        directory=directory,
        checkpoint="last",
        objectives=by_player,
        batch=f"{count:,} samples of the loop's own",
        step=step,
        unit="steps",
    )
    cfg = ViewConfig(grid=grid, span=1.0, seed=0)
    wanted = [(player, view) for player in by_player for view in views]
    return [keep(subject, f"{p}_{v}".lstrip("_"), VIEWS[v](subject, p, cfg), cfg.seed) for p, v in wanted]


def _all_probes() -> dict[str, Probe]:
    return {"unit_health": UnitHealth(), "noise": NoiseProbe(), "curvature": CurvatureProbe()}


def _refusal(probe: Probe, network: nn.Module) -> str | None:
    try:
        probe.check(network)
    except ValueError as error:
        return str(error)
    return None


def owner_of(objective: Objective, players: Sequence[Measured]) -> Measured | None:
    """The player that moves most of an objective's parameters; None where none does."""
    own = {id(p) for p in objective.parameters}
    shares = [sum(id(p) in own for p in player.parameters) for player in players]
    return players[shares.index(max(shares))] if shares and max(shares) else None
