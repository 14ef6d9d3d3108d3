"""What a report is made of: the record of a run, and what its trainer knows about runs of that kind."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.config import Tree
from core.diagnosis.findings import Finding
from core.numbers import number
from core.report.charts import Chart
from core.run.directory import count_field

Curve = dict[int, float]
BOOKKEEPING = ("seed", "updates", "wall_s", "cpu_s", "train_s")  # in every `summary.json`


@dataclass(frozen=True)
class Fact:
    """One number of the result.

    Attributes:
        value: the number as text.
        label: what it is.
        note: what to compare it with, or how it was measured.
        amount: the number itself, for the difference of two runs; None where there is none.
    """

    value: str
    label: str
    note: str = ""
    amount: float | None = None


@dataclass(frozen=True)
class Bars:
    """Counts of several classes, drawn as bars; class i has `counts[i]`."""

    heading: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Topic:
    """A section of the page: its charts, and the names of its pictures."""

    heading: str
    charts: tuple[Chart, ...]
    pictures: tuple[str, ...] = ()


def summary_facts(record: "Record") -> Iterable[Fact]:
    """Every number of `summary.json` that is neither effort nor seed."""
    told = (*BOOKKEEPING, count_field(record.unit))
    for name, value in record.summary.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in told:
            yield Fact(number(value), name.replace("_", " "), "", float(value))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a trainer knows about its runs and the report does not; the defaults fit a run of any trainer.

    Attributes:
        name: of this kind of run, such as "Reinforcement learning".
        command: that starts such a run where none was noted; empty = the trainer's package; None = none does.
        unit: what the x-axis counts, in the plural; empty = what `summary.json` calls it.
        length: the option with the run's length on the x-axis.
        efforts: entries of `summary.json` about time and effort, with their labels, to compare two runs.
        players: names of the gradient steps in the order of their colours; any others follow.
        children: options that make a run for each of their names, in a sub-directory of that name.
        title: one line that says what ran on what.
        subject: what the run was trained on; empty where that is not known.
        facts: the numbers of the result, the best known first; the effort follows by itself.
        bars: a result that is several counts.
        outcome: charts of how good the result is over the run.
        overview: charts that TensorBoard's overview has beside the result and the gradients.
        gradients: charts that follow those of the gradient steps.
        topics: sections of this kind of run alone.
        losses: charts of what was minimised.
        captions: what a picture shows, by its name; pictures come in this order.
    """

    name: str = "Run"
    command: str | None = ""
    unit: str = ""
    length: str = ""
    efforts: Mapping[str, str] = field(default_factory=dict)
    players: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    title: Callable[["Record"], str] = lambda record: record.directory.resolve().name
    subject: Callable[["Record"], str] = lambda record: ""
    facts: Callable[["Record"], Iterable[Fact]] = summary_facts
    bars: Callable[["Record"], Bars | None] = lambda record: None
    outcome: tuple[Chart, ...] = ()
    overview: tuple[Chart, ...] = ()
    gradients: tuple[Chart, ...] = ()
    topics: tuple[Topic, ...] = ()
    losses: tuple[Chart, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)


KindOf = Callable[[str], Kind]  # from the `_target_` of a run's options


def unknown(target: str) -> Kind:
    """The kind of a run of which nothing is known but that it has gradient steps."""
    return Kind()


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run directory holds.

    Attributes:
        directory: the run directory.
        kind: what the trainer knows about its runs.
        status: finished, stopped, failed, running, or unfinished (it was killed and wrote no summary).
        options: the resolved configuration.
        command: what was typed in front of the overrides, quoted for a shell.
        flags: what was typed between it and them: the folder of the user's own YAML files.
        overrides: what was typed on the command line.
        summary: `summary.json`; empty while there is none.
        curves: {tag: {step: value}}, steps ascending.
        media: files of pictures and videos, by name; those of the landscape begin with `landscape/`.
        findings: what the diagnosis found, the worst first; None where no diagnosis was made.
        landscape: {picture: {name: value}} of `landscape.json`; the key "" holds what concerns all pictures.
        started: local date and time of the first event file; empty without one.
    """

    directory: Path
    kind: Kind
    status: str
    options: Tree
    command: str
    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    summary: dict[str, object]
    curves: dict[str, Curve]
    media: dict[str, Path]
    findings: tuple[Finding, ...] | None
    landscape: dict[str, dict[str, object]]
    started: str

    @property
    def package(self) -> str:
        """The package of the trainer."""
        return str(self.options["_target_"]).split(".")[0]

    @property
    def unit(self) -> str:
        """What the x-axis counts, in the plural."""
        return self.kind.unit or str(self.summary.get("unit", "steps"))

    @property
    def step(self) -> int:
        """How far the run has come on the x-axis."""
        logged = max((max(curve) for curve in self.curves.values() if curve), default=0)
        reached = self.summary.get(count_field(str(self.summary.get("unit"))))
        return max(logged, reached) if isinstance(reached, int) else logged

    @property
    def total(self) -> int | None:
        """How far the run was to go on the x-axis."""
        total = self.options.get(self.kind.length)
        return total if isinstance(total, int) else None

    @property
    def players(self) -> tuple[str, ...]:
        """Names of the gradient steps in the order of their colours; ("",) for a run with one."""
        tag = "gradient/norm"  # a whole part of the tag: natural_gradient/norm would be another thing
        found = {t.removesuffix(tag).rstrip("/") for t in self.curves if f"/{t}".endswith(f"/{tag}")}
        known = [name for name in self.kind.players if name in found]
        return (*known, *sorted(found.difference(known)))

    def colour(self, player: str) -> int:
        """The colour of a player's curves."""
        return 1 + self.players.index(player) % 4

    def last(self, tag: str) -> tuple[float, int] | None:
        """The last finite value of a curve and its step; None without one."""
        finite = [(v, s) for s, v in self.curves.get(tag, {}).items() if math.isfinite(v)]
        return finite[-1] if finite else None

    def layers(self, player: str) -> list[tuple[str, float | None, float | None]]:
        """Layers in the order of the network, each with its last gradient norm and its last update ratio."""
        start = f"{player}/layer/" if player else "layer/"
        names = [
            tag.removeprefix(start).removesuffix("/gradient_norm")
            for tag in self.curves
            if tag.startswith(start) and tag.endswith("/gradient_norm")
        ]
        rows = []
        for name in sorted(names, key=natural):
            norm, ratio = (self.last(f"{start}{name}/{what}") for what in ("gradient_norm", "update_ratio"))
            rows.append((name, norm and norm[0], ratio and ratio[0]))
        return rows


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which layer 10 comes after layer 9, and a weight before its bias."""
    parts = re.split(r"(\d+)", name.replace(".bias", ".~bias"))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
