"""Runs that break, and what a replay says of them: is the module named where the number is born?

A row of `births.BIRTHS` is *named* when the direction of birth and the module are right, and *exact* when
all that the run had logged came out again to the bit. Runs are made one after the other and kept: a second
call goes on where the first ended.
"""

import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.launch import status_of
from core.config import ConfigError
from core.replay.replay import replay
from core.replay.told import sentence

from .births import BIRTHS, SEEDS, Fault
from .table import chosen

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

BY_ID = {"rl": "env"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One fault with one seed."""

    named: bool
    exact: bool
    said: str


def run(cfg: "BenchConfig") -> None:
    """Make all runs and replay each; print a line for each, then the two figures."""
    folder = Path(cfg.folder or "runs/replay")
    names = chosen(cfg.rows, BIRTHS)
    verdicts = []
    for name in names:
        for seed in SEEDS:
            found = verdict(BIRTHS[name], seed, folder / name / f"seed{seed}")
            verdicts.append((name, found))
            mark = "named" if found.named else "NOT NAMED"
            exact = "exact" if found.exact else "not exact"
            print(f"{name:<28} seed {seed}  {mark:<9}  {exact:<9}  {found.said}", flush=True)
    always = {name for name in names if all(v.named for n, v in verdicts if n == name)}
    named = sum(v.named for _, v in verdicts)
    print(f"births named: {named} of {len(verdicts)}; with every seed {len(always)} of {len(names)}")
    print(f"replayed to the bit: {sum(v.exact for _, v in verdicts)} of {len(verdicts)}")


def verdict(fault: Fault, seed: int, directory: Path) -> Verdict:
    """A run, made unless it has been, and what its replay says."""
    if not (directory / "summary.json").exists():
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            words = [*fault.overrides, f"seed={seed}", f"hydra.run.dir={directory}"]
            status = status_of(fault.kind, words, BY_ID.get(fault.kind))
        if status == 2:
            raise ConfigError(said.getvalue().strip().rpartition("\n")[2].removeprefix("error: "))
        if status >= 128:
            sys.exit(status)
    try:
        found = replay(directory)
    except ConfigError as error:
        return Verdict(named=False, exact=False, said=str(error))
    if found.birth is None:
        return Verdict(named=False, exact=found.taken.compared.exact, said="all numbers were finite")
    right = found.birth.how in fault.how and re.fullmatch(fault.module, found.birth.name) is not None
    return Verdict(named=right, exact=found.taken.compared.exact, said=sentence(found.birth))
