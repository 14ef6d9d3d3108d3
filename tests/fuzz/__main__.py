"""Does everything odd end in one clear line? `python -m tests.fuzz`.

Command lines with made-up words: each must train, or end with status 2, one line that names the option, and
nothing made. Checkpoints with odd entries: each resumes or is refused in one line. Checkpoints with a flipped
bit: it is noticed, or every value is as it was. Damaged files of a run: each command ends well or in a line.
It ends with status 1 where one is not so.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKERS = 2


def main() -> int:
    """0 if everything ended as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=5000, help="command lines")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after that long")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is made up")
    parser.add_argument(
        "--entries",
        type=int,
        default=300,
        help="odd entries of a checkpoint, and damaged files, of each kind",
    )
    parser.add_argument("--command", default="", help="command lines of one command: rl, gan, report, ...")
    args = parser.parse_args()
    os.environ |= {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "OMP_NUM_THREADS": "1"}
    from tests.golden.run import use

    use(HERE.parent.parent)
    from tests.fuzz import checkpoints, files, words, words_run

    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        os.environ |= {"XDG_CACHE_HOME": f"{folder}/cache", "HOME": f"{folder}/home"}
        began = time.monotonic()
        runs = folder / "runs"
        words_run.small_runs(runs)
        lines = [line for line in words.lines(args.lines, args.seed) if args.command in ("", line.command)]
        found = []
        with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork")) as pool:
            waiting = [
                pool.submit(words_run.trial, line, folder / str(number), runs)
                for number, line in enumerate(lines)
            ]
            for future in as_completed(waiting):
                found.append(future.result())
                if found[-1].wrong:
                    print(found[-1].text, flush=True)
                if time.monotonic() - began > args.seconds:
                    pool.shutdown(wait=True, cancel_futures=True)
                    break
    how = dict(Counter(ended.how for ended in found))
    print(f"{len(found):,} command lines in {time.monotonic() - began:.0f} s:", how)
    damaged = 0
    for part in (checkpoints, files) if args.entries else ():
        damaged |= checkpoints.report(part.trials(args.seed, args.entries))
    return int(damaged or any(ended.wrong for ended in found))


if __name__ == "__main__":
    sys.exit(main())
