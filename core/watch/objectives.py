"""What a frozen batch opens: noise of single samples, curvature, units, and where a NaN is born."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from core.checks import require
from core.curvature.probe import CurvatureProbe
from core.gradients import Objective
from core.gradients.graph import nodes
from core.gradients.measured import Measured
from core.gradients.probe import Probe
from core.gradients.unit_health import UnitHealth
from core.landscape.keep import keep
from core.landscape.subject import Subject
from core.landscape.views import VIEWS, ViewConfig
from core.noise.probe import NoiseProbe
from core.own_module import attempt
from core.run.probes import Probes
from core.seeding import seed_for
from core.watch.arguments import refuse_lazy
from core.watch.models import Models, unwrapped

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

    def add(self, objective: Objective, players: Sequence[Measured], models: Models) -> None:
        """Take in one objective; a probe that its network does not allow is left out, and that is said.

        Args:
            objective: it is called once.
            players: one of them moves its parameters.
            models: all that are watched.

        Raises:
            ValueError: no player moves any; the loss fails, or is none that can be measured.
        """
        owner = _owner_of(objective, players)
        if owner is None:
            raise ValueError("no optimizer moves a parameter of this objective's model")
        _refuse_loss(objective, models)
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


def objective_of(models: Models, name: str, loss: Callable[..., Tensor], batch: object) -> Objective:
    """The objective of one of the models; it has not been called.

    Raises:
        TypeError: the loss cannot be called, or the batch is no sequence of tensors.
        ValueError: there is no model of that name, or a layer of it is lazy; the batch is empty, or its
            tensors differ in length.
    """
    require(name in models, "model", name, f"one of {', '.join(map(repr, models))}")
    if not callable(loss):
        raise TypeError(f"loss must be a function of forward and batch, got {type(loss).__name__}")
    tensors = list(batch) if isinstance(batch, list | tuple) else []
    if not tensors or not all(isinstance(x, Tensor) and x.dim() for x in tensors):
        raise TypeError(
            "batch must be a tuple of tensors [B, ...], in the order in which the loss takes them"
        )
    if len({len(x) for x in tensors}) > 1 or not len(tensors[0]):
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(f"batch must be tensors [B, ...] with one B >= 1, got the shapes {shapes}")
    refuse_lazy("objective", [models[name]])
    module = unwrapped(models[name])
    return Objective(getattr(module, "_orig_mod", module), loss, tensors)


def _refuse_loss(objective: Objective, models: Models) -> None:
    """Call it once, at copies of the parameters: what measures it puts others in their place, too.

    Raises:
        ValueError: it fails, returns something else than one real number, or what it depends on is not what
            its forward computes with; one line.
    """
    copies = {
        name: p.detach().clone().requires_grad_()
        for name, p in zip(objective.names, objective.parameters, strict=True)
    }
    value = attempt("the objective's loss", lambda: objective(copies))
    if not isinstance(value, Tensor) or value.dim() or value.is_complex():
        tensor = isinstance(value, Tensor)
        came = f"a tensor of {tuple(value.shape)}, {value.dtype}" if tensor else type(value).__name__
        raise ValueError(
            f"the objective's loss must return one number, the mean over the samples; got {came}"
        )
    if not value.requires_grad:
        raise ValueError(
            "the objective's loss depends on no parameter: it must come out of forward(...), without "
            "detach(), no_grad() or argmax()"
        )
    reached = {id(value), *(id(getattr(node, "variable", None)) for node in nodes([value]))}
    if reached.isdisjoint(map(id, copies.values())):
        if not reached.isdisjoint(map(id, objective.parameters)):
            raise ValueError(
                "the objective's loss calls the model itself: call the forward that it is given, which may "
                "compute with other parameters"
            )
        others = [name for name, m in models.items() if not reached.isdisjoint(map(id, m.parameters()))]
        if others:
            raise ValueError(
                f"the objective's loss depends on no parameter of its model, but on those of {others[0]!r}: "
                "call the forward that it is given, or name that model"
            )


def _owner_of(objective: Objective, players: Sequence[Measured]) -> Measured | None:
    """The player that moves most of an objective's parameters; None where none does."""
    own = {id(p) for p in objective.parameters}
    shares = [sum(id(p) in own for p in player.parameters) for player in players]
    return players[shares.index(max(shares))] if shares and max(shares) else None
