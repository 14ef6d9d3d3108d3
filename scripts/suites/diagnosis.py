"""Planted faults against what the diagnosis says of them, healthy runs against what it should not say.

Three figures. A fault is *named* when a finding of its row of `faults.FAULTS` appears within a fifth of the
run after the fault began to act. A healthy run is *quiet* when no finding of severity warning or error
appears. A remedy *works* when the run repeated with its overrides ends without the finding, or with one less
severe (what PPO clips is a note in healthy runs too), and scores 80 % or more of the healthy run, both
measured from what a run scores that has learnt nothing.

Runs are made one after the other in this process and kept: a second call goes on where the first ended.
"""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core.cli.launch import compose_tree, status_of
from core.config import ConfigError, config_dir
from core.diagnosis.findings import SEVERITIES
from core.diagnosis.remedies import applied
from core.numbers import number

from .faults import FAULTS, HEALTHY, SEEDS, SETTINGS, Fault
from .table import chosen

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

LATE, RESTORED = 0.2, 0.8
BY_ID = {"rl": "env"}
ACT = ("warning", "error")  # severities that ask for something to be done


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run, as far as this suite looks at it.

    Attributes:
        score: of the final evaluation, None where there was none.
        total: x-axis value of the run's end as it was planned.
        findings: as in findings.json.
    """

    score: float | None
    total: int
    findings: tuple[dict, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One fault with one seed: which finding named it when, and what its remedy did."""

    fault: str
    seed: int
    named: str | None
    at: float | None
    others: tuple[str, ...]
    remedy: tuple[str, ...]
    gone: bool
    restored: float | None

    @property
    def worked(self) -> bool:
        """Whether the remedy removed the finding and brought the score back."""
        return self.gone and self.restored is not None and self.restored >= RESTORED


def run(cfg: "BenchConfig") -> None:
    """Make all runs, print a line for each, then the three figures."""
    folder = Path(cfg.folder or "runs/diagnosis")
    names = chosen(cfg.rows, FAULTS, HEALTHY)
    verdicts = [v for name in names if name in FAULTS for v in scored(name, FAULTS[name], folder)]
    quiet = [q for name in names if name.startswith("healthy/") for q in alarms(name, folder)]
    print("\n".join(summary(verdicts, quiet)))


def scored(name: str, fault: Fault, folder: Path) -> Iterator[Verdict]:
    """The fault with every seed: found, and repaired?"""
    setting = SETTINGS[fault.setting]
    for seed in SEEDS:
        overrides = (*setting.overrides, *fault.overrides)
        broken = outcome(setting.kind, overrides, seed, folder / name / f"seed{seed}")
        named = first(broken, fault)
        remedy, gone, restored = (), False, None
        if named is not None:
            remedy = tuple(named["remedy"])
            repaired = outcome(
                setting.kind, applied(overrides, remedy), seed, folder / name / f"seed{seed}-remedy"
            )
            healthy = outcome(
                setting.kind, setting.overrides, seed, folder / "healthy" / fault.setting / f"seed{seed}"
            )
            gone = not any(as_bad(found, named) for found in repaired.findings)
            restored = regained(healthy.score, repaired.score, setting.floor)
        verdict = Verdict(
            fault=name,
            seed=seed,
            named=None if named is None else named["name"],
            at=None if named is None else named["first_step"] / broken.total - fault.onset,
            others=tuple(f["name"] for f in broken.findings if f is not named and f["severity"] in ACT),
            remedy=remedy,
            gone=gone,
            restored=restored,
        )
        print(line(verdict), flush=True)
        yield verdict


def alarms(row: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """What is found wrong with a healthy run; one seed of each, in turn."""
    name = row.removeprefix("healthy/")
    seed = SEEDS[list(HEALTHY).index(name) % len(SEEDS)]
    setting = HEALTHY[name]
    found = outcome(setting.kind, setting.overrides, seed, folder / "healthy" / name / f"seed{seed}")
    wrong = tuple(f["name"] for f in found.findings if f["severity"] in ACT)
    print(f"{row:<26} seed {seed}  score {number(found.score)}  {', '.join(wrong) or 'quiet'}", flush=True)
    yield wrong


def first(found: Outcome, fault: Fault) -> dict | None:
    """The finding that names the fault in time; the earliest, None without one."""
    latest = (fault.onset + LATE) * found.total
    right = [f for f in found.findings if f["name"] in fault.finding and f["first_step"] <= latest]
    return min(right, key=lambda f: f["first_step"], default=None)


def as_bad(found: dict, named: dict) -> bool:
    """Whether a finding of the same name holds at the end, as severe or worse."""
    return (
        found["active"]
        and found["name"] == named["name"]
        and SEVERITIES.index(found["severity"]) >= SEVERITIES.index(named["severity"])
    )


def regained(healthy: float | None, repaired: float | None, floor: float) -> float | None:
    """Share of what the healthy run learnt that the repaired one learnt; None where either has no score."""
    if healthy is None or repaired is None or healthy <= floor:
        return None
    return (repaired - floor) / (healthy - floor)


def outcome(kind: str, overrides: Sequence[str], seed: int, directory: Path) -> Outcome:
    """A run, made unless it has been."""
    overrides = [*overrides, f"seed={seed}"]
    tree, _, _ = compose_tree(kind, overrides, [config_dir()])
    if not (directory / "summary.json").exists():
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            status = status_of(kind, [*overrides, f"hydra.run.dir={directory}"], BY_ID.get(kind))
        if status == 2:
            raise ConfigError(said.getvalue().strip().rpartition("\n")[2].removeprefix("error: "))
        if status >= 128:
            sys.exit(status)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    summary_ = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    findings = json.loads((directory / "findings.json").read_text(encoding="utf-8"))["findings"]
    total = tree.get("total_steps") or tree.get("total_images") or tree.get("steps")
    return Outcome(score=score(kind, summary_), total=cast(int, total), findings=tuple(findings))


def score(kind: str, found: dict) -> float | None:
    """One number of a run, bigger is better.

    Mean return of an agent; of a mixture the share of modes times that of good samples; of images the FID of
    real ones over that of generated ones; of a supervised descent the accuracy on held-out samples, of an
    analytic one 1 / (1 + f).
    """
    if found["status"] != "finished":
        return None
    if kind == "rl":
        return found["eval_return_mean"]
    if kind == "gan" and found.get("high_quality") is not None:
        return found["modes"] / max(found["modes_floor"], 1.0) * found["high_quality"]
    if kind == "gan":
        return found["fid_floor"] / found["fid"]
    if found.get("held_out_accuracy") is not None:
        return found["held_out_accuracy"]
    return 1 / (1 + max(found["value"], 0.0))


def summary(verdicts: Sequence[Verdict], healthy: Sequence[tuple[str, ...]]) -> list[str]:
    """The three figures."""
    lines = []
    if verdicts:
        named = sum(v.named is not None for v in verdicts)
        faults = {v.fault for v in verdicts}
        repaired = [f for f in faults if all(v.worked for v in verdicts if v.fault == f)]
        worked = sum(v.worked for v in verdicts)
        lines += [
            f"faults named: {named} of {len(verdicts)} ({named / len(verdicts):.0%})",
            f"remedies that work: {worked} of {len(verdicts)} ({worked / len(verdicts):.0%}); "
            f"with every seed {len(repaired)} of {len(faults)}",
        ]
    if healthy:
        loud = sum(bool(wrong) for wrong in healthy)
        lines.append(f"healthy runs with a warning: {loud} of {len(healthy)} ({loud / len(healthy):.0%})")
    return lines


def line(v: Verdict) -> str:
    """One verdict in words."""
    if v.named is None:
        return f"{v.fault:<26} seed {v.seed}  NOT NAMED; {', '.join(v.others) or 'nothing found'}"
    remedy = f"{' '.join(v.remedy)}: {'gone' if v.gone else 'still there'}, score {number(v.restored)}"
    return f"{v.fault:<26} seed {v.seed}  {v.named} after {v.at:.0%}; {remedy}"
