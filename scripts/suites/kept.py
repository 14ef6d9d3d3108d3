"""What docs/results/ keeps of runs: the summary of every seed and, for some tables, curves.

`python -m scripts.suites.kept NAME RUN... [--tags TAG...]` keeps run directories as seeds of
docs/results/NAME. The tables of docs/results.md and docs/told.md are made of nothing else.
"""

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.report.read import read_run
from core.report.record import natural
from core.run.directory import jsonable

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
    for run in typed.runs:
        seed = keep(run, typed.name)
        if typed.tags:
            keep_curves(run, typed.name, seed, typed.tags)


def keep(run: Path, name: str) -> int:
    """Keep the summary of a run directory; returns its seed."""
    seed = json.loads((run / "summary.json").read_text(encoding="utf-8"))["seed"]
    home = RESULTS / name
    home.mkdir(exist_ok=True)
    shutil.copy(run / "summary.json", home / f"seed{seed}.json")
    return seed


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
