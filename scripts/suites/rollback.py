"""Trainings that blow up, with `on_finding=rollback`: do they finish, and with what?

A run is *mended* when it finishes and scores at least half of the healthy run of its seed, measured from what
a run scores that has learnt nothing. A healthy run with the option is *untouched* when it never returns, and
its last checkpoint is the one that it has without, to the bit.

Runs are made one after the other in this process and kept: a second call goes on where the first ended.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.numbers import number
from core.run import checkpoint

from .blowups import BLOWUPS, SEEDS, SETTINGS, Clock
from .diagnosis import outcome, regained
from .table import chosen

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

ENOUGH = 0.5
ON = "on_finding=rollback"


def run(cfg: "BenchConfig") -> None:
    """Make all runs, print a line for each, then the two figures."""
    folder = Path(cfg.folder or "runs/rollback")
    names = chosen(cfg.rows, BLOWUPS, SETTINGS)
    mended = [good for name in names if name in BLOWUPS for good in repaired(name, folder)]
    quiet = [good for name in names if name not in BLOWUPS for good in untouched(name, folder)]
    for what, found in (("trainings that blow up, mended", mended), ("healthy ones, untouched", quiet)):
        if found:
            print(f"{what}: {sum(found)} of {len(found)} ({sum(found) / len(found):.0%})")


def repaired(name: str, folder: Path) -> Iterator[bool]:
    """Whether a run that blows up is mended, with every seed."""
    blowup = BLOWUPS[name]
    setting = SETTINGS[blowup.setting]
    for seed in SEEDS:
        words = (*setting.overrides, *blowup.own)
        place = folder / "healthy" / (name if blowup.own else blowup.setting)
        healthy = outcome(setting.kind, words, seed, place / f"seed{seed}")
        Clock.counts.clear()
        directory = folder / name / f"seed{seed}"
        found = outcome(setting.kind, (*words, *blowup.overrides, ON), seed, directory)
        share = regained(healthy.score, found.score, setting.floor)
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
        back = [
            f"{one['finding']} at {one['step']:,}: {' '.join(one['remedy'])}" for one in summary["rollbacks"]
        ]
        good = share is not None and share >= ENOUGH and bool(back)
        told = f"{summary['status']}, {number(share)} of {number(healthy.score)}"
        print(
            f"{name:<24} seed {seed}  {'mended' if good else 'NOT':<6}  {told}; {'; '.join(back)}", flush=True
        )
        yield good


def untouched(row: str, folder: Path) -> Iterator[bool]:
    """Whether a healthy run is the same with the option, with every seed."""
    name = row.removeprefix("healthy/")
    setting = SETTINGS[name]
    for seed in SEEDS:
        places = folder / "healthy" / name / f"seed{seed}", folder / "rollback" / name / f"seed{seed}"
        outcome(setting.kind, setting.overrides, seed, places[0])
        outcome(setting.kind, (*setting.overrides, ON), seed, places[1])
        summary = json.loads((places[1] / "summary.json").read_text(encoding="utf-8"))
        without, with_it = (checkpoint.load(place / "checkpoints" / "last.pt") for place in places)
        good = not summary["rollbacks"] and all(_same(without[part], with_it[part]) for part in without)
        print(f"{row:<24} seed {seed}  {'untouched' if good else 'CHANGED'}", flush=True)
        yield good


def _same(one: object, other: object) -> bool:
    """Whether two parts of a checkpoint hold the same tensors; seconds aside, which differ always."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return isinstance(other, dict) and all(
            _same(part, other.get(key)) for key, part in one.items() if key != "train_s"
        )
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and all(map(_same, one, other))
    return True
