"""The run once more: its own training code from one of its checkpoints, in a directory that is thrown away.

Nothing that a run does besides training is done: no evaluation, no picture, no probe, no checkpoint, no
logger. What it logs at its points is compared with what the run had logged there.
"""

import importlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from core.cli.job import RootConfig, check
from core.cli.rollback import with_remedy
from core.config import ConfigError, Tree, build
from core.errors import described
from core.gradients import GradientStep, Metrics
from core.replay.ears import Ears
from core.replay.saved import Saved, checkpoints
from core.run import checkpoint
from core.run.callbacks import Callbacks
from core.run.config import RunConfig
from core.run.diagnosis import Diagnosis
from core.run.interrupts import Stopped
from core.run.rollback import Rollbacks
from core.run.run import Run
from core.run.tensorboard import read_scalars
from core.seeding import seed_globally

NEVER = 10**18  # on any x-axis
UNLIKE = ("time/",)  # tags that no two runs have alike


@dataclass
class Compared:
    """What came out as it had been logged, and what did not.

    Attributes:
        points: how many values were compared.
        first: step and tag of the first one that is another; None where all are equal to the bit.
        checkpoint: name of a checkpoint of the step that was arrived at; empty where there is none.
        equal: whether its networks and optimizers have the same bits.
    """

    points: int = 0
    first: tuple[int, str] | None = None
    checkpoint: str = ""
    equal: bool = True

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.first is None and self.equal

    @property
    def known(self) -> bool:
        """Whether there was anything to compare with."""
        return bool(self.points or self.checkpoint)


@dataclass
class Taken:
    """A run that was taken to a step again.

    Attributes:
        start: name of the checkpoint that it began from; empty = from its beginning.
        begun: x-axis value of that.
        step: x-axis value that it was taken to.
        unit: what the x-axis counts.
        ears: what was heard.
        said: lines that the run has printed on its way.
        raised: what ended it before; empty where nothing did.
        compared: with what it had logged.
        lost_state: what could not be brought back from the checkpoint, in words; empty where all could.
        graphs: whether the run had called compiled graphs, which round otherwise than the modules do here.
    """

    start: str
    begun: int
    step: int = 0
    unit: str = "steps"
    ears: Ears | None = None
    said: list[str] = field(default_factory=list)
    raised: str = ""
    compared: Compared = field(default_factory=Compared)
    lost_state: str = ""
    graphs: bool = False


class Arrived(Exception):  # noqa: N818  (an order, not an error)
    """The run is where it was to be taken to."""


class Again(Run):
    """A run that only trains, as far as a step.

    Args:
        until: x-axis value; the iteration that reaches it is the last.
        searching: as in `take`.
        taken: where everything goes that is seen.
        directory, cfg, options, diagnosis, callbacks, rollbacks: as in `Run`.
    """

    def __init__(
        self,
        until: int,
        searching: bool,
        taken: Taken,
        directory: Path,
        cfg: RunConfig,
        options: Tree,
        diagnosis: Diagnosis,
        callbacks: Callbacks,
        rollbacks: Rollbacks,
    ) -> None:
        self._until, self._searching, self._taken = until, searching, taken
        self._under_way = False
        super().__init__(directory, cfg, options, {}, diagnosis, {}, callbacks, rollbacks=rollbacks)

    def say(self, line: str) -> None:
        """Keep what is said once the run is under way."""
        if self._under_way:
            self._taken.said.append(line)

    def start(self, **given: Any) -> None:
        """Begin, or go on from the checkpoint, and listen."""
        without = {"evaluate": None, "draw": None, "probes": None, "rules": (), "dashboard": None}
        super().start(**{**given, **without})
        lost = [str(lack) for owner in self.state.values() if (lack := getattr(owner, "not_restored", ""))]
        self._taken.lost_state = "; ".join(lost)
        self._taken.unit, self._taken.begun, self._taken.step = self.unit, self.step, self.step
        if lost:
            raise Arrived
        networks: Mapping[str, nn.Module] = given.get("modules") or {}
        self._taken.ears = Ears(networks, self._steps, [*self.state.values()], self._searching)
        self._taken.ears.begin_iteration(self.step)
        self._under_way = True

    def finish_step(self, step: int, metrics: Metrics) -> None:
        """End an iteration; the last one ends the training."""
        assert self._taken.ears is not None
        self._taken.ears.end_iteration(step)
        self._taken.step = step
        super().finish_step(step, metrics)
        if step >= self._until:
            raise Arrived
        self._taken.ears.begin_iteration(step)

    def finish(self, measure: object, curves: object = None) -> None:
        """The training has ended."""
        raise Arrived

    def differs_from(self, state: Mapping[str, Any]) -> bool:
        """Whether networks or optimizers have other bits than in a checkpoint."""
        parameters = [p for step in self._steps for p in step.parameters]
        for name, owner in self.state.items():
            mine, theirs = owner.state_dict(), state.get(name)
            if isinstance(owner, GradientStep):
                mine, theirs = mine["optimizer"], (theirs or {}).get("optimizer")
            elif not isinstance(owner, nn.Module):  # of what else there is, whatever holds parameters
                kept = {path: t for path, t in tensors(mine) if any(t is p or same(t, p) for p in parameters)}
                found = dict(tensors(theirs))
                mine, theirs = kept, {path: found.get(path) for path in kept}
            if not same(mine, theirs):
                return True
        return False


def take(
    directory: Path,
    options: Tree,
    start: Saved | None,
    until: int,
    *,
    searching: bool = True,
    logged: int = NEVER,
) -> Taken:
    """Take a run from one of its checkpoints to a step again.

    Args:
        directory: of the run; nothing in it is changed.
        options: its own, resolved.
        start: the checkpoint; None = from the beginning.
        until: x-axis value.
        searching: for the first number that is not finite, after which nothing is heard any more.
        logged: x-axis value up to which the curves are those of this way; a rollback takes another one.

    Raises:
        ConfigError: it cannot be built any more, or the checkpoint is damaged.
    """
    graphs = options.get("compile", "off") != "off"
    taken = Taken(start.path.name if start else "", 0, graphs=graphs)
    options = _plain(with_remedy(options, start.remedies) if start else options)
    with tempfile.TemporaryDirectory(prefix="gradsight-replay-") as folder:
        place = Path(folder)
        if start is not None:
            (place / "checkpoints").mkdir()
            (place / "checkpoints" / "last.pt").symlink_to(start.path.resolve())
            check({**options, **dict.fromkeys(_root(options).BEGINNING)})
        else:
            check(options)
        cfg, module = _entry(options)
        seed_globally(options["seed"])
        run = _run(cfg, options, place, until, taken, searching)
        with _quiet_ending(taken):
            try:
                module.train(cfg, run)
            except ConfigError as error:  # of the checkpoint, where it really is
                raise ConfigError(str(error).replace(str(place), str(directory))) from error
            finally:
                run.close()
        taken.compared = compared(directory, place, taken, logged)
        _compare_states(directory, run, taken)
    return taken


def compared(directory: Path, again: Path, taken: Taken, logged: int) -> Compared:
    """The points that were logged again, against those that the run had logged."""
    before, now = read_scalars(directory), read_scalars(again)
    found = Compared()
    pairs = sorted(
        (step, tag, value)
        for tag, points in now.items()
        if not tag.startswith(UNLIKE) and tag in before
        for step, value in points.items()
        if step in before[tag] and taken.begun < step <= min(taken.step, logged)
    )
    found.points = len(pairs)
    for step, tag, value in pairs:
        known = before[tag][step]
        if value != known and not (math.isnan(value) and math.isnan(known)):
            found.first = step, tag
            break
    return found


def tensors(state: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a state, by the keys that lead to them."""
    if isinstance(state, torch.Tensor):
        yield path, state.detach()
    elif isinstance(state, Mapping | list | tuple):
        parts = state.items() if isinstance(state, Mapping) else enumerate(state)
        for key, part in parts:
            yield from tensors(part, f"{path}/{key}")


def same(mine: Any, theirs: Any) -> bool:
    """Whether two states are equal to the bit, whatever device they are on."""
    if isinstance(mine, torch.Tensor):
        if not isinstance(theirs, torch.Tensor) or mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return False
        return bool(torch.equal(mine.detach().cpu().nan_to_num(), theirs.cpu().nan_to_num()))
    if isinstance(mine, Mapping):
        return (
            isinstance(theirs, Mapping)
            and {*mine} == {*theirs}
            and all(same(value, theirs[key]) for key, value in mine.items())
        )
    if isinstance(mine, list | tuple):
        return isinstance(theirs, list | tuple) and len(mine) == len(theirs) and all(map(same, mine, theirs))
    return bool(mine == theirs)


def _compare_states(directory: Path, run: Again, taken: Taken) -> None:
    """Compare with a checkpoint of the very step that was arrived at, if there is one."""
    if taken.ears is None or taken.raised:
        return
    for saved in checkpoints(directory):
        same_way = saved.rollbacks == len(run.rollbacks.done)
        if saved.step == taken.step and same_way and saved.path.name != taken.start:
            taken.compared.checkpoint = saved.path.name
            taken.compared.equal = not run.differs_from(checkpoint.load(saved.path))


def _plain(options: Tree) -> Tree:
    """The options without what is not training: services, progress, graphs in which no module is called."""
    return options | {"logger": {}} | ({"compile": "off"} if "compile" in options else {})


def _run(cfg: RootConfig, options: Tree, place: Path, until: int, taken: Taken, searching: bool) -> Again:
    never = RunConfig(
        interval=cfg.logging.interval,
        eval_interval=NEVER,
        draw_interval=NEVER,
        checkpoint_interval=NEVER,
        progress=False,
        snapshots=0,
    )
    diagnosis = Diagnosis(None, "report", options)
    # Those before the checkpoint decide which random numbers follow; here nothing leads to another one.
    rollbacks = Rollbacks(cfg.max_rollbacks if cfg.on_finding == "rollback" else 0)
    callbacks = Callbacks(cfg.callbacks)
    return Again(until, searching, taken, place, never, options, diagnosis, callbacks, rollbacks)


@contextmanager
def _quiet_ending(taken: Taken) -> Iterator[None]:
    """However the training ends, that is what was to be seen; only what came from outside goes on."""
    try:
        yield
    except Arrived:
        return
    except ConfigError:
        raise
    except Stopped as stop:  # by a signal: nothing is left to be shown
        raise SystemExit(stop.status) from stop
    except FloatingPointError as error:  # the run's own word for it
        taken.raised = str(error).partition(";")[0]
    except Exception as error:
        taken.raised = described(error)


def _root(options: Tree) -> type[RootConfig]:
    return cast(type[RootConfig], type(_entry(options)[0]))


def _entry(options: Tree) -> tuple[RootConfig, ModuleType]:
    cfg = cast(RootConfig, build(options))
    return cfg, importlib.import_module(type(cfg).__module__)
