"""Is a run that was killed and continued the run that nothing disturbed? `python -m tests.soak`.

Short runs of many kinds are killed, interrupted, and let down by their disk at random moments, continued to
their end, and compared with an undisturbed one: every number, text and picture that it leaves must be equal
to the bit, but for times. It ends with status 1 where a run could not be continued, where something differs,
and where a command left a traceback or a process behind.
"""

import argparse
import importlib
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.trial import Verdict

HERE = Path(__file__).resolve().parent
WORKERS = 2
# Shared by all children, like what tests.golden.run imports.
IMPORTED = (
    "core.cli.launch", "core.cli.compose", "core.cli.defaults", "core.run.run", "core.draw.figure",
    "core.draw.heatmap", "core.descend.descent", "gradrl.train", "gradgan.train", "hydra.core.utils",
    "matplotlib.backends.backend_agg", "PIL.PngImagePlugin", "PIL.GifImagePlugin",
)  # fmt: skip
SHOWN = 12  # differences of a trial


def main() -> int:
    """0 if nothing was lost, nothing differs and nothing was left behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="after which no trial begins")
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances")
    parser.add_argument("--only", default="*", help="kinds of runs, such as 'gan_*'")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial of each kind")
    parser.add_argument("--workers", type=int, default=WORKERS, help="trials at a time")
    args = parser.parse_args()
    os.environ |= {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "OMP_NUM_THREADS": "1"}
    from tests.golden.run import use

    use(HERE.parent.parent)
    from tests.soak.trial import read_kind, try_once, undisturbed

    read = tomllib.loads((HERE / "kinds.toml").read_text())
    kinds = {
        name: read_kind(name, line, read["common"])
        for name, line in read["kinds"].items()
        if fnmatchcase(name, args.only)
    }
    if not kinds:
        parser.error(f"no kind is called {args.only}")
    for module in IMPORTED:
        importlib.import_module(module)
    began, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        place = Path(folder).resolve()
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        with ProcessPoolExecutor(args.workers, multiprocessing.get_context("fork")) as pool:
            places = [place / name for name in kinds]
            wholes = dict(zip(kinds, pool.map(undisturbed, kinds.values(), places), strict=True))
            trials = ((number, name) for number in itertools.count(args.first) for name in kinds)
            running: set[Future[Verdict]] = set()
            while running or time.monotonic() - began < args.seconds:
                while len(running) < args.workers and time.monotonic() - began < args.seconds:
                    number, name = next(trials)
                    where = place / f"{name}.{number}"
                    running.add(pool.submit(try_once, kinds[name], wholes[name], args.seed, number, where))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    verdicts.append(future.result())
                    tell(verdicts[-1])
    ends = Counter(ending.split(" ")[0] for verdict in verdicts for ending in verdict.happened)
    print("disturbed:", ", ".join(f"{count} {kind}" for kind, count in sorted(ends.items())))
    deaths = sum(ending.endswith((": -9", ": -25")) for verdict in verdicts for ending in verdict.happened)
    lost, differing, noisy = (
        sum(bool(getattr(verdict, name)) for verdict in verdicts) for name in ("lost", "differing", "noise")
    )
    print(
        f"seed {args.seed}: {len(verdicts)} trials of {len(kinds)} kinds in "
        f"{time.monotonic() - began:.0f} s, disturbed {sum(ends.values())} times, {deaths} of them deaths: "
        f"{lost} lost, {differing} differ, {noisy} noisy"
    )
    return int(bool(lost or differing or noisy))


def tell(verdict: "Verdict") -> None:
    """Print what happened, and what a reader has to look at."""
    print(f"{verdict.kind} {verdict.number}: {', '.join(verdict.happened) or 'nothing'}")
    for noise in verdict.noise:
        print(f"  NOISE {noise}")
    if verdict.lost:
        print(f"  LOST {verdict.lost}")
    for difference in verdict.differing[:SHOWN]:
        print(f"  DIFFERS {difference}")
    if len(verdict.differing) > SHOWN:
        print(f"  and {len(verdict.differing) - SHOWN} more")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
