"""Do options work together, and does each do something? `python -m tests.pairs`.

Short runs that together have almost every pair of option values, and for each of them the same run without
some of its overrides. It ends with status 1 where a run fails that did not stop honestly, where a typed
override changes neither a parameter, a curve, a picture nor a field of the summary and nothing is said of it,
and where an override of which it is said that it has no effect changes a parameter.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
WORKERS = 2
LEFT_OUT = 2  # overrides of each plan that are left out once
PLANS = {"rl": 110, "gan": 70, "descend": 70}


def main() -> int:
    """0 if nothing failed, and nothing that was typed stayed without effect and without an override."""
    parser = argparse.ArgumentParser(prog="python -m tests.pairs", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="one program: rl, gan or descend")
    parser.add_argument("--plans", type=int, help="plans of each program")
    parser.add_argument("--seed", type=int, default=0, help="of the plans")
    parser.add_argument(
        "--left-out", type=int, default=LEFT_OUT, help="overrides left out of each plan, one a run"
    )
    args = parser.parse_args()
    # A fork of a process that has computed with two threads waits for the one that it lacks.
    os.environ |= {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "OMP_NUM_THREADS": "1"}
    from tests.golden.run import use

    use(HERE.parent.parent)
    from tests.pairs.plan import Planner
    from tests.pairs.runs import try_plan
    from tests.pairs.space import Space

    facts = tomllib.loads((HERE / "space.toml").read_text())
    began, verdicts, planners = time.monotonic(), [], {}
    with tempfile.TemporaryDirectory(prefix="pairs-") as folder:
        os.environ.setdefault("XDG_CACHE_HOME", f"{folder}/cache")
        pool = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))
        waiting = []
        for program, usual in PLANS.items():
            if args.only not in ("", program):
                continue
            planner = planners[program] = Planner(Space(program, facts), Random(args.seed))
            for number in range(args.plans or usual):
                plan = planner.next()
                planner.tried(plan[: args.left_out])
                place = Path(folder) / f"{program}{number}"
                waiting.append(pool.submit(try_plan, planner.space, plan, place, args.left_out))
        for future in waiting:
            verdicts.append(future.result())
            for text in verdicts[-1].failures:
                print(f"FAILED {text}\n", flush=True)
            for override in verdicts[-1].silent:
                print(f"WITHOUT EFFECT {override}: {' '.join(verdicts[-1].overrides)}\n", flush=True)
        pool.shutdown()
    refused = Counter(line for verdict in verdicts for line in verdict.refused)
    print("refused:", *(f"  {count} {line}" for line, count in refused.most_common()), sep="\n")
    stopped = Counter(line for verdict in verdicts for line in verdict.stopped)
    print("stopped:", *(f"  {count} {line}" for line, count in stopped.most_common()), sep="\n")
    for program, planner in planners.items():
        covered, possible = len(planner.covered & planner.possible), len(planner.possible)
        print(f"{program}: {covered:,} of {possible:,} pairs of values")
    failures, silent = (sum(len(getattr(v, name)) for v in verdicts) for name in ("failures", "silent"))
    print(
        f"{sum(v.runs for v in verdicts)} runs in {time.monotonic() - began:.0f} s: "
        f"{sum(v.finished for v in verdicts)} finished, {sum(refused.values())} refused in one line, "
        f"{sum(stopped.values())} stopped honestly, {failures} failed, {silent} typed without effect"
    )
    return int(bool(failures or silent))


if __name__ == "__main__":
    sys.exit(main())
