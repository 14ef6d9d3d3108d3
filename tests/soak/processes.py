"""A hundred random kills of commands that are several processes: `python -m tests.soak.processes`.

Runs of two ranks under torchrun and sweeps under each launcher: a process of theirs, whichever, is killed at
a random moment, the command is given again with `resume=`, and what is there in the end is compared with what
an undisturbed one leaves, to the bit but for times. It ends with status 1 where something is lost or differs,
where a process is left a minute after the kill, and where ranks say more than one line of error.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from core.cli.sweeps import JOBS, is_sweep
from core.run.directory import is_run
from tests.soak.left import contents, differing
from tests.soak.trial import finished

ROOT = Path(__file__).resolve().parents[2]
MARK = "SOAK_COMMAND"  # in the environment of every process of a command
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
LIMIT = 60.0  # seconds in which all processes must have ended after a kill
CALM = (
    600.0  # seconds in which an undisturbed command must have ended, and the other jobs after one was killed
)
DEATHS = (2, 4, 6)  # of a trial
UNLIKE = (JOBS, ".submitit/", "media/")  # what no two commands leave alike
LATEST = 0.8  # part of an undisturbed command's seconds in which it is killed; others may be faster
TRIES = 4  # commands that must do to end it after the last


@dataclass(frozen=True)
class Kind:
    """Commands that one line begins.

    Attributes:
        script: of scripts/.
        words: behind it.
        ranks: whether torchrun starts it.
    """

    name: str
    script: str
    words: tuple[str, ...]

    @property
    def ranks(self) -> bool:
        """Whether torchrun starts it."""
        return "-m" not in self.words

    def line(self, place: Path) -> list[str]:
        """The command that begins, or goes on with, what is in `place`."""
        sweep, run = is_sweep(place), is_run(place)
        where = f"hydra.{'run' if self.ranks else 'sweep'}.dir={place}"
        words = [f"resume={place}"] if sweep or run else [*self.words, where]
        return [sys.executable, *(TORCHRUN if self.ranks else ()), f"scripts/{self.script}.py", *words]

    def done(self, place: Path, runs: Sequence[str]) -> bool:
        """Whether every one of its runs is at its end."""
        return all(finished(place / run) for run in runs)


@dataclass(frozen=True)
class Whole:
    """What a command leaves that nothing disturbs.

    Attributes:
        runs: names of its directories.
        found: what is in them.
        begun_s, seconds: until there was a directory, and until it had ended.
    """

    runs: tuple[str, ...]
    found: dict[str, str]
    begun_s: float
    seconds: float


@dataclass
class Trial:
    """What became of a command that was killed again and again.

    Attributes:
        deaths: who was killed, when, and the seconds until everybody was gone.
        lost: why it could not be brought to its end; empty where it was.
        hangs: kills after which a process was left a minute later.
        differing: names of what is not equal.
        noise: more than one line of error.
    """

    kind: str
    number: int
    deaths: list[tuple[str, float, float]] = field(default_factory=list)
    lost: str = ""
    hangs: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)


def main() -> int:
    """0 if nothing was lost, nothing differs and nothing was left behind."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.processes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=100, help="after which no trial begins")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    parser.add_argument("--only", default="*", help="kinds of commands, such as 'ranks_*'")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial of each kind")
    args = parser.parse_args()
    read = tomllib.loads((Path(__file__).parent / "processes.toml").read_text())
    kinds = [
        read_kind(name, line, read["common"])
        for name, line in read["kinds"].items()
        if fnmatchcase(name, args.only)
    ]
    if not kinds:
        parser.error(f"no kind is called {args.only}")
    began, trials = time.monotonic(), list[Trial]()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        wholes = {kind.name: undisturbed(kind, Path(folder, kind.name)) for kind in kinds}
        number = args.first
        while kills(trials) < args.kills:
            for kind in kinds:
                random, place = Random(f"{args.seed} {kind.name} {number}"), Path(folder, kind.name)
                trials.append(try_once(kind, wholes[kind.name], random, number, place))
                tell(trials[-1])
                if kills(trials) >= args.kills:
                    break
            number += 1
    slowest = max(gone for trial in trials for _, _, gone in trial.deaths)
    who = Counter(victim for trial in trials for victim, _, _ in trial.deaths)
    lost, hung, differing, noisy = (
        sum(bool(getattr(trial, name)) for trial in trials)
        for name in ("lost", "hangs", "differing", "noise")
    )
    print("killed:", ", ".join(f"{count} {victim}" for victim, count in sorted(who.items())))
    print(
        f"seed {args.seed}: {len(trials)} trials of {len(kinds)} kinds in {time.monotonic() - began:.0f} s, "
        f"{kills(trials)} kills, all processes gone within {slowest:.1f} s: "
        f"{lost} lost, {hung} hung, {differing} differ, {noisy} noisy"
    )
    return int(bool(lost or hung or differing or noisy))


def kills(trials: Sequence[Trial]) -> int:
    """How many there have been."""
    return sum(len(trial.deaths) for trial in trials)


def read_kind(name: str, line: str, common: dict[str, str]) -> Kind:
    """A kind as processes.toml has it."""
    script, *own = shlex.split(line)
    return Kind(name, script, (*own, *shlex.split(common[script])))


def undisturbed(kind: Kind, place: Path) -> Whole:
    """Run it once as it is."""
    began, begun_s = time.monotonic(), 0.0
    command = Command(kind.line(place), place.with_suffix(".log"), place.name)
    while command.process.poll() is None:
        begun_s = begun_s or (time.monotonic() - began) * (is_run(place) or is_sweep(place))
        time.sleep(0.05)
    seconds = time.monotonic() - began
    runs = tuple(str(path.parent.relative_to(place)) for path in sorted(place.rglob("summary.json")))
    if command.process.returncode or not runs or not kind.done(place, runs):
        raise RuntimeError(f"{kind.name} ended with {command.process.returncode}: {command.told()}")
    found = left(place)
    shutil.rmtree(place)
    return Whole(runs, found, begun_s, seconds)


def try_once(kind: Kind, whole: Whole, random: Random, number: int, place: Path) -> Trial:
    """Kill it again and again, go on to its end, and compare."""
    trial, deaths = Trial(kind.name, number), random.choice(DEATHS)
    for attempt in range(deaths + TRIES):
        if kind.done(place, whole.runs):
            break
        name = f"{kind.name}.{number}.{attempt}"
        command = Command(kind.line(place), place.with_name(f"{name}.log"), name)
        if attempt < deaths:
            early = random.random() < 0.2  # before there is anything to lose
            at = random.uniform(0.0 if early else whole.begun_s, LATEST * whole.seconds)
            if (victim := command.kill(at, random, ranks=kind.ranks)) is None:
                continue
            left_over, gone_s = command.gone(CALM if victim.startswith("job") else LIMIT)
            trial.deaths.append((victim, at, gone_s))
            if left_over:
                trial.hangs.append(f"{victim} killed after {at:.1f} s: {left_over}: {command.told()}")
            errors = [line for line in command.said.splitlines() if line.startswith("error: ")]
            if kind.ranks and len(errors) > 1:
                trial.noise.append(f"{victim} killed after {at:.1f} s: {errors}")
        elif (status := command.ended()) != 0:
            trial.lost = f"status {status}: {command.told()}"
            return trial
    if not kind.done(place, whole.runs):
        trial.lost = "it never ends"
        return trial
    found = left(place)
    trial.differing = differing(whole.found, found)
    shutil.rmtree(place)
    return trial


def left(place: Path) -> dict[str, str]:
    """What runs have left, without what they said, what their launcher keeps, and pictures of seconds."""
    found = contents(place)
    return {name: value for name, value in found.items() if not any(word in name for word in UNLIKE)}


class Command:
    """A command with all processes that it starts, which are known by a mark in their environment.

    Args:
        line: its words.
        log: the file that takes what it says.
        mark: no other command has it.
    """

    def __init__(self, line: Sequence[str], log: Path, mark: str) -> None:
        self.log, self.mark = log, f"{MARK}={os.getpid()}.{mark}"
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(log.parent)}
        own |= dict([self.mark.split("=")])
        with log.open("w") as file:
            self.process = subprocess.Popen(
                line, cwd=ROOT, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    @property
    def said(self) -> str:
        """So far."""
        return self.log.read_text(errors="replace")

    def told(self) -> str:
        """Its lines of error, which torchrun's own words would hide, and its last words."""
        said = self.said
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        return "\n".join([*errors, "...", said[-2000:]])

    def kill(self, at: float, random: Random, *, ranks: bool) -> str | None:
        """Kill one of its processes after `at` seconds; which, None where it has ended before."""
        try:
            self.process.wait(at)
            return None
        except subprocess.TimeoutExpired:
            pass
        main = self.process.pid
        others = [pid for pid in self.living() if pid != main and (not ranks or parent(pid) == main)]
        victim = random.choice([main, *others])
        number = random.choices((signal.SIGKILL, signal.SIGTERM), (5, 1))[0]
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            return None
        who = ("torchrun" if ranks else "sweep") if victim == main else ("rank" if ranks else "job")
        return who + (" (SIGTERM)" if number == signal.SIGTERM else "")

    def ended(self) -> int | None:
        """Its status when it has ended; None where it does not."""
        try:
            return self.process.wait(CALM)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.gone()
            return None

    def gone(self, limit: float = LIMIT) -> tuple[list[str], float]:
        """Wait until all of its processes have ended; those that have not in time, and the seconds."""
        began = time.monotonic()
        while (living := self.living()) and time.monotonic() - began < limit:
            self.process.poll()
            time.sleep(0.1)
        seconds = time.monotonic() - began
        hanging = [named(pid) for pid in living]
        for pid in living:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT)
        return hanging, seconds

    def living(self) -> list[int]:
        """Its processes that have not ended."""
        mark, found = f"{self.mark}\0".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes() + b"\0":
                    found.append(int(path.parent.name))
            except OSError:  # another user's, or gone
                continue
        return sorted(found)


def parent(pid: int) -> int:
    """The process that has started it; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def named(pid: int) -> str:
    """A process and its command line."""
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_text().replace(chr(0), ' ')[-200:]}"
    except OSError:
        return f"{pid}"


def tell(trial: Trial) -> None:
    """Print what happened, and what a reader has to look at."""
    deaths = ", ".join(f"{victim} after {at:.1f} s gone in {gone:.1f} s" for victim, at, gone in trial.deaths)
    print(f"{trial.kind} {trial.number}: {deaths or 'nothing'}")
    for what in ("noise", "hangs", "differing"):
        for line in getattr(trial, what)[:12]:
            print(f"  {what.upper()} {line}")
    if trial.lost:
        print(f"  LOST {trial.lost}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
