"""Planted faults on settings that the rules were not tuned on: `suite=elsewhere`.

The faults in even places of `FAULTS`, counted from 0, are there to calibrate rules on (`calibration`); those
in odd places were looked at once, after the last change of a rule (`held_out`). The table was written before
the first run.

A fault does *harm* where the run loses over a fifth of what the healthy one learns; only such runs count. It
is *named* when a warning or error with one of its kinds begins within a fifth of the run, *late* when after
that, and *on top* when it stands first. A remedy *restores* half when the run repeated with the overrides of
the first finding of a right kind gets back half of the score that was lost. A fault that is *refused*, with a
line before any run, counts nowhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.launch import compose_tree
from core.config import ConfigError, Tree, config_dir
from core.diagnosis.remedies import applied
from core.numbers import number

from .diagnosis import ACT, LATE, Outcome, outcome
from .elsewhere_faults import FAULTS, OTHERS, SEEDS, SETTINGS, half
from .faults import Setting
from .table import chosen

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

HARM, HALF = 0.2, 0.5
GROUPS = {"rl": "agents", "gan": "games", "descend": "descents"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One fault with one seed.

    Attributes:
        lost: share of what the healthy run learns that this one does not.
        at: share of the run at which a right finding first began; None without one.
        right: the first right one in the order in which they stand.
        top: the first of all in that order, None without one.
        restored: share of the lost score that its remedy brings back; None without a remedy.
    """

    fault: str
    seed: int
    lost: float
    at: float | None
    right: dict | None
    top: dict | None
    restored: float | None

    @property
    def harmful(self) -> bool:
        """Whether it counts."""
        return self.lost > HARM

    @property
    def named(self) -> bool:
        """Whether it was named in time."""
        return self.at is not None and self.at <= LATE


def run(cfg: "BenchConfig") -> None:
    """Make all runs, print a line for each, then the rates of each half and kind of run."""
    folder = Path(cfg.folder or "runs/elsewhere")
    quiet = {**SETTINGS, **OTHERS}
    names = chosen(cfg.rows, FAULTS, quiet)
    verdicts = [v for name in names if name in FAULTS for v in judged(name, folder)]
    alarms = [a for name in names if name not in FAULTS for a in listened(name, quiet, folder)]
    print("\n".join(summary(verdicts, alarms)))


def judged(name: str, folder: Path) -> Iterator[Verdict]:
    """A fault with every seed: harmful, named, restored?"""
    fault = FAULTS[name]
    setting = SETTINGS[fault.setting]
    overrides = (*setting.overrides, *fault.overrides)
    for seed in SEEDS:
        well = outcome(
            setting.kind, setting.overrides, seed, folder / "healthy" / fault.setting / f"seed{seed}"
        )
        try:
            broken = outcome(setting.kind, overrides, seed, folder / name / f"seed{seed}")
        except ConfigError as error:
            print(f"{name:<28} {seed}  refused   {error}", flush=True)
            continue
        alarms = [f for f in broken.findings if f["severity"] in ACT]
        rights = [f for f in alarms if set(f["kinds"]) & set(fault.kinds)]
        right = rights[0] if rights else None
        lost, restored = _lost(well, broken, setting), None
        if right is not None and right["remedy"] and lost > HARM:
            command = applied(overrides, right["remedy"])
            same = _composed(setting.kind, command) == _composed(setting.kind, setting.overrides)
            place = folder / name / f"seed{seed}-remedy"
            repaired = well if same else outcome(setting.kind, command, seed, place)
            restored = 1.0 - _lost(well, repaired, setting) / lost
        verdict = Verdict(
            fault=name,
            seed=seed,
            lost=lost,
            at=min((f["first_step"] / broken.total for f in rights), default=None),
            right=right,
            top=alarms[0] if alarms else None,
            restored=restored,
        )
        print(line(verdict), flush=True)
        yield verdict


def listened(row: str, settings: dict[str, Setting], folder: Path) -> Iterator[tuple[str, ...]]:
    """What is found wrong with a healthy run; both seeds of a setting with faults, one of another."""
    name = row.removeprefix("healthy/")
    seeds = SEEDS if name in SETTINGS else SEEDS[list(OTHERS).index(name) % 2 :][:1]
    for seed in seeds:
        setting = settings[name]
        found = outcome(setting.kind, setting.overrides, seed, folder / "healthy" / name / f"seed{seed}")
        wrong = tuple(f["name"] for f in found.findings if f["severity"] in ACT)
        print(f"{row:<28} {seed}  score {number(found.score)}  {', '.join(wrong) or 'quiet'}", flush=True)
        yield wrong


def summary(verdicts: Sequence[Verdict], alarms: Sequence[tuple[str, ...]]) -> list[str]:
    """The rates of each half: all, and each kind of run; then the false alarms."""
    lines = []
    for title in ("calibration", "held_out"):
        mine = [v for v in verdicts if v.harmful and half(v.fault) == title]
        lines += [rates(f"{title}, all", mine)] * bool(mine)
        for kind, group in GROUPS.items():
            own = [v for v in mine if SETTINGS[FAULTS[v.fault].setting].kind == kind]
            lines += [rates(f"{title}, {group}", own)] * bool(own)
    if alarms:
        lines.append(f"healthy runs with a warning: {_share(sum(map(bool, alarms)), len(alarms))}")
    return lines


def rates(title: str, harmful: Sequence[Verdict]) -> str:
    """How many harmful ones are named in time, late, on top, and restored."""
    of = len(harmful)
    late = sum(v.right is not None and not v.named for v in harmful)
    tried = [v.restored for v in harmful if v.restored is not None]
    return (
        f"{title}: {of} harmful; named in time {_share(sum(v.named for v in harmful), of)}, late {late}, "
        f"on top {_share(sum(v.right is not None and v.right is v.top for v in harmful), of)}; "
        f"remedies that restore half {_share(sum(r >= HALF for r in tried), len(tried))}"
    )


def line(v: Verdict) -> str:
    """One verdict in words."""
    said = "NOT NAMED" if v.right is None else f"{v.right['name']} at {v.at:.0%}"
    top = "nothing" if v.top is None else v.top["name"]
    above = "" if v.right is v.top and v.right is not None else f" (on top: {top})"
    remedy = " ".join(v.right["remedy"]) if v.right else ""
    restored = "" if v.restored is None else f"; {remedy} restores {v.restored:.0%}"
    harm = f"lost {v.lost:.0%}" if v.harmful else "harmless"
    return f"{v.fault:<28} {v.seed}  {harm:<9} {said}{above}{restored}"


def _composed(kind: str, overrides: Sequence[str]) -> Tree:
    """The configuration: equal ones give equal runs, to the bit."""
    return compose_tree(kind, list(overrides), [config_dir()])[0]


def _lost(well: Outcome, other: Outcome, setting: Setting) -> float:
    """Share of what a healthy run learns that the other did not; nothing learnt where it failed."""
    if well.score is None or well.score <= setting.floor:
        raise ConfigError(f"the healthy run scores {well.score}, no more than the floor {setting.floor}")
    score = setting.floor if other.score is None else max(other.score, setting.floor)
    return (well.score - score) / (well.score - setting.floor)


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / max(of, 1):.0%})"
