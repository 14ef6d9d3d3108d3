"""What docs/results/ keeps of runs: the summary of every seed and, for some tables, curves.

`python -m scripts.suites.kept NAME RUN... [--tags TAG...]` keeps run directories as seeds of
docs/results/NAME. The tables of docs/results.md and docs/told.md are made of nothing else.
"""

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from core.config import ConfigError
from core.report.read import read_run
from core.report.record import natural
from core.run.directory import jsonable, read_summary

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"

Summary = Mapping[str, Any]
Curves = Mapping[str, Mapping[int, float]]  # values by tag and step


def main(words: Sequence[str] | None = None) -> None:
    """Keep run directories and, where tags are named, the curves below them."""
    parser = ArgumentParser(prog="python -m scripts.suites.kept", description=__doc__)
    parser.add_argument("name", help="folder of docs/results/")
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--tags", nargs="+", default=[], help="curves to keep")
    typed = parser.parse_args(words)
    try:
        seeds = seeds_of(typed.runs)  # all of them before the first is kept
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for run, seed in zip(typed.runs, seeds, strict=True):
        keep(run, typed.name, seed)
        if typed.tags:
            keep_curves(run, typed.name, seed, typed.tags)


def seeds_of(runs: Sequence[Path]) -> list[int]:
    """The seeds of several runs.

    Raises:
        ConfigError: as `seed_of`, or two of them have the same.
    """
    seeds = [seed_of(run) for run in runs]
    again = next((run for at, run in enumerate(runs) if seeds[at] in seeds[:at]), None)
    if again is not None:
        raise ConfigError(f"{again} has the seed of {runs[seeds.index(seed_of(again))]}")
    return seeds


def seed_of(run: Path) -> int:
    """The seed of a run that has ended.

    Raises:
        ConfigError: there is no run, it has not finished, or its summary names no seed.
    """
    summary = read_summary(run) or {}
    if summary.get("status") != "finished" or not isinstance(summary.get("seed"), int):
        raise ConfigError(f"{run} holds no finished run with a seed")
    return cast(int, summary["seed"])


def keep(run: Path, name: str, seed: int) -> None:
    """Keep the summary of a run directory."""
    home = RESULTS / name
    home.mkdir(exist_ok=True)
    shutil.copy(run / "summary.json", home / f"seed{seed}.json")


def keep_curves(run: Path, name: str, seed: int, tags: Iterable[str]) -> None:
    """Keep curves of a run directory beside its summary, to four digits; what is not finite is null."""
    curves = read_run(run).curves
    kept = {tag: {str(step): float(f"{value:.4g}") for step, value in curves[tag].items()} for tag in tags}
    text = json.dumps(jsonable(kept), indent=1, allow_nan=False)
    (RESULTS / name / f"curves{seed}.json").write_text(f"{text}\n", encoding="utf-8")


def summaries(name: str) -> list[Summary]:
    """Every seed of docs/results/NAME, in order."""
    return _every_seed(name, "seed")


def curves(name: str) -> list[Curves]:
    """The curves of every seed of docs/results/NAME, in order."""
    return [
        {tag: {int(step): value for step, value in curve.items()} for tag, curve in each.items()}
        for each in _every_seed(name, "curves")
    ]


def figures(runs: Sequence[Summary], key: str) -> list[float]:
    """One figure of every run."""
    return [float(run[key]) for run in runs]


def _every_seed(name: str, what: str) -> list[Any]:
    files = sorted(RESULTS.glob(f"{name}/{what}*.json"), key=lambda file: natural(file.name))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


if __name__ == "__main__":
    main()
