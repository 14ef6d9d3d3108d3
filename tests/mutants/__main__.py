"""Which small mistakes in the mathematics do the tests not notice?

Each mutant of `mutants.toml` is applied to a copy of the tree, and its tests are run there. Neither mutmut
nor cosmic-ray fits: both make their mutants themselves, instead of taking a list of mistakes that a reader of
the formulas would fear, and start Python and torch, ten seconds, for each, or know no tests by mutant. Here
the server from which the test processes are forked has torch in it.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from queue import Queue

from tests.mutants.mutation import Mutant, all_mutants, run_tests, write

ROOT = Path(__file__).parents[2]
COPIED = ("core", "gradrl", "gradgan", "scripts", "conf", "tests", "pyproject.toml")
WORKERS = 2
LIMIT = 180  # seconds of one run: a mutant that makes a test hang is noticed too
WANTED = 0.95  # share of the mutants that tests can tell from the source
PRELOADED = [
    "pytest",
    "torch",
    "scipy.stats",
    "gymnasium.vector",
    "hydra.core.override_parser.overrides_parser",
]
FORKED = multiprocessing.get_context("forkserver")


def main() -> int:
    """Run the mutants chosen on the command line; 1 where too many survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="glob of source files")
    mutants = [m for m in all_mutants() if fnmatchcase(m.path, parser.parse_args().only) and not m.alike]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    FORKED.set_forkserver_preload(PRELOADED)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(WORKERS) as pool:
        trees: Queue[Path] = Queue()
        for number in range(WORKERS):
            trees.put(copied(Path(place) / str(number)))
        suites = list(dict.fromkeys(m.tests for m in mutants))
        broken = [s for s, ok in zip(suites, pool.map(partial(passes, trees), suites), strict=True) if not ok]
        if broken:
            return fail("these fail without any mistake", broken)
        alive = []
        for mutant, noticed in zip(mutants, pool.map(partial(caught, trees), mutants), strict=True):
            print("." if noticed else f"\nsurvives: {mutant}\n", end="", flush=True)
            alive += [] if noticed else [mutant]
    share = 1 - len(alive) / max(len(mutants), 1)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{len(mutants) - len(alive)} of {len(mutants)} caught ({share:.1%}), {minutes:.0f} minutes")
    return fail("survivors", alive) if share < WANTED else 0


def copied(tree: Path) -> Path:
    """A copy of what the tests need, without links to the tree itself."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


def passes(trees: Queue[Path], tests: tuple[str, ...]) -> bool:
    """Whether tests pass as the tree is."""
    tree = trees.get()
    try:
        return status(tree, tests) == 0
    finally:
        trees.put(tree)


def caught(trees: Queue[Path], mutant: Mutant) -> bool:
    """Whether its tests notice a mutant, by a failure or by not coming to an end."""
    tree = trees.get()
    source = (tree / mutant.path).read_text()
    try:
        write(tree, mutant.path, mutant.mutated(source))
        return status(tree, mutant.tests) != 0
    finally:
        write(tree, mutant.path, source)
        trees.put(tree)


def status(tree: Path, tests: tuple[str, ...]) -> int | None:
    """Of pytest: 0 all passed, 1 or 2 some failed or could not be imported; None past the limit.

    Raises:
        RuntimeError: no test ran; the last lines of pytest's output say why.
    """
    log = tree / "pytest.log"
    process = FORKED.Process(target=run_tests, args=(tree, tests, log))
    process.start()
    process.join(LIMIT)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return None
    if process.exitcode in (4, 5):
        raise RuntimeError(f"{tests}: no test ran: {log.read_text()[-500:]}")
    return process.exitcode


def fail(what: str, items: Sequence[object]) -> int:
    """Print a list; the exit status of a failure."""
    print(f"{what}:", *items, sep="\n  ")
    return 1


if __name__ == "__main__":
    sys.exit(main())
