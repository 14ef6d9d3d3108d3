"""Damaged files of a run, one of every kind, met by every command: `python -m tests.fuzz.files`.

Each command ends well, or in a line that says what is wrong: no traceback, no hang, no crash. A command that
refuses (status 2) has made nothing.
"""

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from gradgan import load_generator
from gradrl import load_policy
from tests.conftest import SCRIPTS
from tests.fuzz.checkpoints import REMOVED, places, replaced
from tests.fuzz.runs import LENGTH, forked, make, typed, wrong
from tests.fuzz.words_run import listing

LINE = 300  # characters that a refusal may have, the path in it included
TRAINER = {"rl": "train_rl", "gan": "train_gan"}
ODD: tuple[Any, ...] = (None, "odd", [], {}, -3, 1e400, float("nan"), 10**400, True, REMOVED)


def commands(kind: str) -> dict[str, Callable[[Path], int]]:
    """What may be asked of a run, by name."""

    def word(script: str, *words: str) -> Callable[[Path], int]:
        return lambda run: typed(
            SCRIPTS.get(script, script), [text.replace("RUN", str(run)) for text in words]
        )

    def library(run: Path) -> int:
        try:
            load_policy(run) if kind == "rl" else load_generator(run)(2)
        except ValueError as error:
            print(f"error: {error}")
            return 2
        return 0

    quiet = "logging.progress=false"
    fresh = "hydra.run.dir=RUN/../fresh"
    length = "total_steps=32" if kind == "rl" else "total_images=64"
    few = ["episodes=1"] if kind == "rl" else []
    grid = ["grid=3", "batch_size=32"]
    return {
        "report": word("report", "run=RUN"),
        "compare": word("compare", "runs=[RUN,RUN/../other]", "figure=RUN/../compared.png", "resamples=100"),
        "evaluate": word("evaluate", "run=RUN", *few),
        "landscape": word("landscape", "run=RUN", *grid),
        "export": word("export", "run=RUN", "format=safetensors"),
        "resume": word(TRAINER[kind], "resume=RUN", LENGTH[kind], quiet),
        "init_from": word(TRAINER[kind], "init_from=RUN", length, quiet, fresh, *tiny(kind)),
        "load": library,
    }


def tiny(kind: str) -> list[str]:
    """The words of the short run that decide what a network looks like."""
    return {
        "rl": ["agent=ppo", "env=cartpole", "agent.num_steps=16", "normalize_observation=true"],
        "gan": ["data=ring"],
    }[kind]


def contents(path: Path, chosen: random.Random) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What may have happened to a file, and the function that does it."""
    data = path.read_bytes() if path.is_file() else b""
    yield "removed", Path.unlink
    yield "empty", lambda file: file.write_bytes(b"")
    yield "half", lambda file: file.write_bytes(data[: len(data) // 2])
    yield "noise", lambda file: file.write_bytes(chosen.randbytes(512))
    yield "zeros", lambda file: file.write_bytes(bytes(len(data)))
    yield "a folder", lambda file: (file.unlink(), file.mkdir())
    yield "a dangling link", lambda file: (file.unlink(), file.symlink_to("nowhere"))
    yield "a link to itself", lambda file: (file.unlink(), file.symlink_to(file.name))
    yield "a pipe", lambda file: (file.unlink(), os.mkfifo(file))
    yield "twice", lambda file: file.write_bytes(data * 2)
    if path.suffix in (".yaml", ".json"):
        yield "UTF-16", lambda file: file.write_text(data.decode(), "utf-16")
        yield "deep", lambda file: file.write_text("[" * 100_000 + "]" * 100_000)
        yield "a list", lambda file: file.write_text("[1, 2]")
        yield "a number", lambda file: file.write_text("7")
    if path.suffix == ".yaml":
        aliases = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 1}]" for i in range(12))
        yield "nested aliases", lambda file: file.write_text(aliases)
        yield "another tag", lambda file: file.write_text("a: !!python/object/apply:os.getcwd []\n")
        yield from entries(yaml.safe_load(data), yaml.safe_dump)
    if path.suffix == ".json":
        yield from entries(json.loads(data), json.dumps)


def entries(tree: Any, dumped: Callable[[Any], str]) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Every entry of a text file, replaced by something odd."""
    for place in places(tree):
        for value in ODD:
            text = dumped(replaced(tree, place, value))
            yield (
                f"{'.'.join(map(str, place))} = {value!r:.20}",
                lambda file, text=text: file.write_text(text),
            )


def trials(seed: int, count: int) -> Iterator[tuple[str, str | None, int | None]]:
    """What was done, what went wrong (None = nothing), and the status, `count` times a kind."""
    chosen = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for kind in TRAINER:
            run = make(kind, Path(name))
            asked = {
                name: work for name, work in commands(kind).items() if (kind, name) != ("gan", "compare")
            }
            for command, work in asked.items():  # of a whole run each must end well, or it tries nothing
                place = Path(name) / "here"
                shutil.rmtree(place, ignore_errors=True)
                for copy in ("run", "other"):
                    shutil.copytree(run, place / copy)
                status, text = forked(lambda work=work, p=place: work(p / "run"), Path(name) / "log")
                yield f"{kind} {command}: nothing", text[-200:] if status else None, status
            cases = [
                (path.relative_to(run), what, damage, command)
                for path in kinds(run)
                for what, damage in contents(path, chosen)
                for command in asked
            ]
            for path, what, damage, command in chosen.sample(cases, min(count, len(cases))):
                place = Path(name) / "here"
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(run, place / "run")
                shutil.copytree(run, place / "other")
                damage(place / "run" / path)
                before = listing(place)
                ended = forked(lambda work=asked[command], p=place: work(p / "run"), Path(name) / "log")
                made = sorted(listing(place) - before)
                unsaid = silent(command, path, what, ended)
                yield f"{kind} {command}: {path} {what}", judged(ended, made) or unsaid, ended[0]


def kinds(run: Path) -> list[Path]:
    """The files of a run, of each suffix and folder the last one."""
    found = {(path.parent, path.suffix if path.suffix != ".0" else "", path.stem[:6]): path
             for path in sorted(run.rglob("*")) if path.is_file()}  # fmt: skip
    return sorted(found.values())


def silent(command: str, path: Path, what: str, ended: tuple[int | None, str]) -> str | None:
    """Whether a file that a page or a table cannot read goes unnamed, None = no.

    An empty event file, or half of one, is what a run leaves that was killed.
    """
    events, options = path.name.startswith("events.out"), path.name == "config.yaml"
    lost = {"noise", "a folder", "a dangling link", "a link to itself", "a pipe"}
    lost |= {"zeros"} if events else {"half"} if options else set()
    told = events or options or path.name in ("summary.json", "findings.json")
    if command not in ("report", "compare") or len(path.parts) > 1 or not told or what not in lost:
        return None
    return None if path.name in ended[1] else f"{path.name} is not named"


def judged(ended: tuple[int | None, str], made: list[str]) -> str | None:
    """What is wrong with an end, None = nothing."""
    status, text = ended
    said = text.strip().splitlines()
    if reason := wrong(ended):
        return f"{reason}: {' | '.join(said[-2:])[:300]}"
    if status not in (0, 1, 2):
        return f"status {status}"
    if status and not (said and said[-1].startswith("error: ")):
        return f"status {status} without a line: {' | '.join(said[-2:])[:200]}"
    if status == 2 and made:
        return f"made {', '.join(made)[:100]}"
    if status == 2 and len(said[-1]) > LINE:
        return f"{len(said[-1])} characters: {said[-1][:LINE]}"
    return None


if __name__ == "__main__":
    from tests.fuzz.checkpoints import report

    sys.exit(report(trials(0, int(sys.argv[1]) if sys.argv[1:] else 400)))
