"""One trial: a run that is disturbed, continued to its end, and compared with one that was not."""

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from core.run.directory import is_run
from tests.soak.disturb import Disturbance, Ended, command, draw
from tests.soak.left import contents, differing

DEATHS = (1, 2, 4, 6)  # disturbances of a trial
TRIES = 6  # commands that must do to end a run


@dataclass(frozen=True)
class Kind:
    """Runs that one line begins.

    Attributes:
        line: the words of the command.
        jobs: directory of each run, and the words that begin it alone.
    """

    name: str
    line: list[str]
    jobs: dict[str, list[str]]


@dataclass(frozen=True)
class Whole:
    """The runs of a kind that nothing disturbed: how their command ended, and what they left."""

    ended: Ended
    found: dict[str, str]
    size: int


@dataclass
class Verdict:
    """What became of a trial.

    Attributes:
        happened: the disturbances that a command met.
        lost: why the run could not be continued to its end; empty where it was.
        differing: names of what is not equal.
        noise: tracebacks, and processes that outlived their run.
    """

    kind: str
    number: int
    happened: list[str] = field(default_factory=list)
    lost: str = ""
    differing: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)


def read_kind(name: str, line: str, common: Mapping[str, str]) -> Kind:
    """A kind as kinds.toml has it; the last word of a sweep is its values."""
    program, *own = shlex.split(line)
    keys = {word.partition("=")[0] for word in own}
    shared = [word for word in shlex.split(common[program]) if word.partition("=")[0] not in keys]
    words = [program, *shared, *own]
    if "-m" not in own:
        words.append("hydra.run.dir=run")
        return Kind(name, words, {"run": words})
    option, _, values = own[-1].partition("=")
    alone = [word for word in words[:-1] if word != "-m"]
    jobs = {
        f"run/{word}": [*alone, word, f"hydra.run.dir=run/{word}"]
        for word in (f"{option}={value}" for value in values.split(","))
    }
    return Kind(name, [*words, "hydra.sweep.dir=run"], jobs)


def undisturbed(kind: Kind, place: Path) -> Whole:
    """Run it once as it is."""
    place.mkdir(parents=True)
    ended = command(kind.line, place, place.with_suffix(".log"), Disturbance("none"), Random(0))
    if ended.status != 0 or not all(finished(place / job) for job in kind.jobs):
        raise RuntimeError(f"{shlex.join(kind.line)}\nended with {ended.status}: {ended.said[-2000:]}")
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    found = contents(place)
    shutil.rmtree(place)
    return Whole(ended, found, max(sizes))


def try_once(kind: Kind, whole: Whole, seed: int, number: int, place: Path) -> Verdict:
    """Disturb a run, continue it as its messages say, and compare."""
    random, verdict = Random(f"{seed} {kind.name} {number}"), Verdict(kind.name, number)
    place.mkdir(parents=True)
    deaths = random.choice(DEATHS)
    for attempt in range(deaths + TRIES):
        calm = attempt >= deaths
        words = next_words(kind, place)
        if words is None:
            break
        disturbance = Disturbance("none") if calm else draw(random, whole.ended, whole.size)
        log = place.with_suffix(f".{attempt}.log")
        ended = command(words, place, log, disturbance, random)
        if ended.status != 0 and not calm:
            verdict.happened.append(f"{disturbance.kind} at {disturbance.at:.5g}: {ended.status}")
        if "Traceback" in ended.said:
            verdict.noise.append(f"{disturbance}: {ended.said[-3000:]}")
        if ended.left:
            verdict.noise.append(f"{disturbance}: {ended.left} processes were left")
        if ended.status is None or (calm and ended.status != 0):
            verdict.lost = f"{shlex.join(words[:2])} … ended with {ended.status}: {ended.said[-600:]}"
            return verdict
    if next_words(kind, place) is not None:
        verdict.lost = "it never ends"
        return verdict
    found = contents(place)
    verdict.differing = differing(whole.found, found)
    shutil.rmtree(place)
    return verdict


def next_words(kind: Kind, place: Path) -> list[str] | None:
    """The command that goes on with the first of its runs that is not at its end; None where all are."""
    if not any(is_run(place / job) for job in kind.jobs):
        return kind.line
    for job, words in kind.jobs.items():
        if not finished(place / job):
            return [words[0], f"resume={job}"] if is_run(place / job) else words
    return None


def finished(directory: Path) -> bool:
    """Whether its summary says so."""
    path = directory / "summary.json"
    return path.exists() and json.loads(path.read_text())["status"] == "finished"
