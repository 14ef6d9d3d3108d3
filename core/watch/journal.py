"""The run directory of a watched loop: the files of a trainer's, for TensorBoard, `report` and `compare`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent

import torch
from torch import nn

from core.config import ConfigError, Tree
from core.form import Maybe
from core.gradients.measured import Measured
from core.report.dashboard import dashboard_of
from core.run.attempts import Attempts
from core.run.clocks import Clocks
from core.run.dashboard import Dashboard, Page
from core.run.diagnosis import Diagnosis
from core.run.directory import (
    Lock,
    git_state,
    holds_run,
    read_summary,
    refuse_collection,
    versions,
    write_summary,
)
from core.run.event_file import cut_off, cut_off_line
from core.run.files import to_yaml, write_media, write_text
from core.run.good import NAME
from core.run.gradient_charts import GradientCharts, with_curves
from core.run.listing import target_of
from core.run.saved import check_noted
from core.run.tensorboard import Writer, curves_until
from core.state import StateDict
from core.watch.keeping import Keeping
from core.watch.models import is_lazy
from core.watch.report import WATCHED

Watched = tuple[Mapping[str, nn.Module], Mapping[str, torch.optim.Optimizer]]
LAST = {"loss/train": "loss", "loss/no_grad": "loss_without_gradient"}  # in the summary, by tag
TARGET = "core.watch.watch.Watch"  # what tells a watched loop's directory from a trainer's


class Journal:
    """Writes what a Watch has measured.

    Args:
        directory: of the run; made where it does not exist.
        resume: whether it may hold a run, which goes on.
        watched: models and optimizers by name, whose last good state is kept.
        attempt: is told where that fails.

    Raises:
        ConfigError: the directory is in use, cannot be written, holds a run or those of a sweep or a study;
            or, where one is to go on, one that is none of a watched loop, or whose files are damaged.
    """

    def __init__(self, directory: Path, resume: bool, watched: Watched, attempt: Attempts) -> None:
        if holds_run(directory) and not resume:
            raise ConfigError(
                f"{directory} already holds a run: choose another directory, or continue that run with "
                "resume=True and load_state_dict"
            )
        if not resume:
            refuse_collection(directory)
        if resume and (target := target_of(directory)) != TARGET:
            of = f"of another command, of {target}" if target else "whose config.yaml names no class"
            raise ConfigError(
                f"{directory} holds a run {of}: resume=True is for the directory of a watched loop"
            )
        if resume:
            _require_whole(directory)
        self.directory = directory
        self.resume, self._loaded = resume, False
        self._keeping, self._attempt = Keeping(directory, *watched), attempt
        self._lock = Lock(directory)
        self._writer: Writer | None = None
        self._players: Sequence[Measured] = ()
        self._options: Tree = {}
        self._page = Page(Dashboard())
        self._charts = GradientCharts(())
        self._clocks = Clocks()
        self._last: dict[str, float] = {}
        self._script = ""
        self._point: tuple[int, set[str]] = (-1, set())
        self._gone = False  # the directory, and that has been told

    @property
    def wall_s(self) -> float:
        """Seconds since this journal was opened."""
        return self._clocks.seconds()["wall_s"]

    def begin(self, players: Sequence[Measured], options: Tree) -> None:
        """Take in what is watched; again when that has changed, and then the charts begin anew."""
        self._players, self._options = players, options
        self._charts = GradientCharts(players)
        self._script = str(options["script"])
        if self._lock.held and (self._loaded or not self.resume):
            write_text(self.directory / "config.yaml", to_yaml(options))

    def add(self, step: int, player: Measured, tags: Mapping[str, float]) -> None:
        """Take in one player's point for the charts; raises as `write`."""
        self.require_there()
        self._charts.add(step, player, tags, self.writer(step))

    def writer(self, step: int) -> Writer:
        """Of the events; opened by the first point, so that a resumed run takes back what lies beyond it.

        Raises:
            ConfigError: the run is to go on, and nothing of it has been loaded: all would be taken back; or
                the directory is no longer there.
        """
        if self._writer is None:
            self._require_loaded()
            self.require_there()
            dashboard = dashboard_of(WATCHED)(self._options, [player.name for player in self._players])
            self._page = Page(dashboard)
            self._writer = Writer(self.directory, step if self.resume else None)
            if self.resume:
                self._page.add(curves_until(self.directory, step - 1))
            else:
                facts = {"directory": f"`{self.directory}`", "script": f"`{self._script}`"}
                self._writer.text("about", dashboard.card("", facts), 0)
                self._writer.text("config", indent(to_yaml(self._options), "    "), 0)
        return self._writer

    def write(self, step: int, values: Mapping[str, float], diagnosis: Diagnosis, changed: bool) -> None:
        """Write one point, and the findings where they have changed.

        Of a second point at the same step only curves are written that the first one lacks.

        Raises:
            ConfigError: the directory is no longer there.
        """
        self.require_there()
        step_before, tags = self._point
        values = {tag: v for tag, v in values.items() if step != step_before or tag not in tags}
        self._point = step, {*values}
        self._last |= {name: values[tag] for tag, name in LAST.items() if tag in values}
        writer = self.writer(step)
        if step != step_before:
            values["time/steps_per_s"] = step / max(self.wall_s, 1e-9)
        shown = with_curves(values, self._players)
        writer.scalars(shown, step)
        if (layout := self._page.add(shown)) is not None:
            writer.layout(layout, step)
        if changed:
            writer.text("findings", diagnosis.table(), step)
            diagnosis.write(self.directory, step)
        if step not in (0, step_before):
            self._attempt(NAME, lambda: self._keeping.logged(step, sound=diagnosis.sound) or {})

    def close(self, step: int, unit: str, status: str, diagnosis: Diagnosis, fault: str) -> bool:
        """Write the summary and the pictures, and release the directory.

        The summary says what ended the watch before the training, if a fault did.

        Returns:
            Whether they were written; not where the directory is gone, and that has been told before.

        Raises:
            ConfigError: as `writer` and `write`; then the directory is released, and the run is what it was.
        """
        try:
            if self._gone:
                return False
            self.require_there()
            self._require_loaded()
            diagnosis.write(self.directory, step)
            own = {"status": status, "script": self._script, "device": _device(self._charts)}
            made = {"versions": versions(), "git": git_state(), **self._clocks.seconds()}
            reached = {**self._last, **diagnosis.summary(), "unit": unit, unit: step}
            unwatched = {"watch_fault": fault} if fault else {}
            write_summary(self.directory, {**own, **unwatched, **made, **reached})
            for tag, media in self._charts.draw(unit).items():
                data, _ = write_media(self.directory / "media", tag.replace("/", "_"), media)
                self.writer(step).media(tag, media, data, step)
            return True
        finally:
            if self._writer is not None:
                self._writer.close()
            self._lock.release()

    def state_dict(self) -> StateDict:
        """What the charts show."""
        return self._charts.state_dict()

    def state_form(self) -> Maybe:
        """What `state_dict` must look like; None from a loop without a directory."""
        return Maybe(self._charts.state_form())

    def load_state_dict(self, state: StateDict | None) -> None:
        """Continue.

        Raises:
            ConfigError: the directory is no longer there.
        """
        self.require_there()
        if state is not None:
            self._charts.load_state_dict(state)
        self._loaded = True
        write_text(self.directory / "config.yaml", to_yaml(self._options))

    def require_there(self) -> None:
        """Check that nobody has taken the directory away meanwhile: it is not made anew.

        Raises:
            ConfigError: it is gone, another one has its place, or its files were removed.
        """
        if not self._lock.held or not (self._writer is None or self._writer.there):
            self._gone = True
            raise ConfigError(
                f"{self.directory} was removed, moved or emptied meanwhile: nothing more is written there"
            )

    def _require_loaded(self) -> None:
        if self.resume and not self._loaded:
            raise ConfigError(
                f"{self.directory} holds a run, and load_state_dict was not called: nothing is written"
            )


def _require_whole(directory: Path) -> None:
    """Refuse to go on over damaged files, which would be written anew; tell what has lost its end."""
    summary = read_summary(directory)
    check_noted(directory)
    if summary is not None and (cut := cut_off(directory)) is not None:
        print(cut_off_line(cut), flush=True)


def options_of(
    models: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], loss: object
) -> Tree:
    """What a loop consists of, as far as it can be seen from outside, as the options of a run."""
    tree: Tree = {"_target_": TARGET, "script": Path(sys.argv[0]).name, "seed": torch.initial_seed()}
    if loss is not None:
        tree["loss"] = getattr(loss, "__name__", type(loss).__name__)
    for name, model in models.items():
        node = tree.setdefault(name, {}) if name else tree
        parameters = list(model.parameters())
        count = None if any(map(is_lazy, parameters)) else sum(p.numel() for p in parameters)
        node["model"] = {"_target_": _path(model), "parameters": count}
    for name, optimizer in optimizers.items():
        node = tree.setdefault(name, {}) if name else tree
        group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
        known = {key: _plain(value) for key, value in group.items() if _plain(value) is not None}
        node["optimizer"] = {"_target_": _path(optimizer), **known}
    return tree


def _plain(value: object) -> object:
    """A number, text or list of them; None for anything else."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else None
    if isinstance(value, tuple | list):
        parts = [_plain(part) for part in value]
        return None if None in parts else parts
    return value if isinstance(value, bool | int | float | str) else None


def _path(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _device(charts: GradientCharts) -> str:
    return next((str(player.parameters[0].device) for player in charts.players if player.parameters), "")
