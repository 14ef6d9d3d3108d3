"""One command line in a process of its own, and what must be true of how it ended."""

import contextlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import SCRIPTS
from tests.fuzz.runs import typed
from tests.fuzz.words import TRAINERS, Line
from tests.pairs.space import key

LIMIT = 25.0  # seconds of one line; a run that has begun is ended then, anything else hangs
MEMORY = 12 << 30  # bytes of one process
LONGEST = 200  # characters of a line that says what is wrong
FLAGS = {"-sc": "--shell-completion", "-cp": "--config-path", "-cn": "--config-name", "--multirun": "-m"}
PATHS = ("run", "against", "resume", "hydra.run.dir", "hydra.sweep.dir")  # a message shows them
SMALL = {  # runs that the tools are called on
    "rl": "experiment=none agent.num_steps=16 agent.num_minibatches=2 agent.num_epochs=1 total_steps=96",
    "gan": "data=ring total_images=96 batch_size=16 latent_size=4 evaluation.samples=32 device=cpu",
    "descend": "steps=12",
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a line ended, and what is wrong with that; nothing for `refused`, `done`, `began`, `stopped`."""

    line: Line
    how: str
    wrong: str
    output: str

    @property
    def text(self) -> str:
        """What a reader has to look at."""
        typed = " ".join(repr(word[:150]) for word in (self.line.command, *self.line.hostile))
        said = self.output.strip()
        return f"WRONG {self.how}: {self.wrong}\n  {typed}\n  {said[:150]!r} ... {said[-300:]!r}"


def small_runs(place: Path) -> None:
    """Make one short run of each trainer, `run_rl` and so on, in this folder."""
    place.mkdir(parents=True)
    for command, words in SMALL.items():
        line = (*words.split(), "logging.progress=false", f"hydra.run.dir=run_{command}")
        child = multiprocessing.get_context("fork").Process(
            target=_call, args=(command, line, place, place.parent / "log")
        )
        child.start()
        child.join()
        if child.exitcode:
            raise RuntimeError((place.parent / "log").read_text())


def trial(line: Line, place: Path, runs: Path) -> Ended:
    """Type a line in an empty folder (tools: in one that holds short runs) and judge how it ended."""
    here = place / "here"
    shutil.rmtree(place, ignore_errors=True)
    here.mkdir(parents=True)
    if line.command not in (*TRAINERS, "demo", "bench"):
        shutil.copytree(runs, here, dirs_exist_ok=True)
    before = listing(here)
    child = multiprocessing.get_context("fork").Process(
        target=_call, args=(line.command, line.words, here, place / "log")
    )
    child.start()
    child.join(LIMIT)
    status = child.exitcode
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid or 0, signal.SIGKILL)  # its workers, too
    child.join()
    output = (place / "log").read_text(errors="surrogateescape")
    made = sorted(listing(here) - before)
    shutil.rmtree(place, ignore_errors=True)
    how, wrong = judged(line, status, output, made)
    return Ended(line, how, wrong, output)


def judged(line: Line, status: int | None, output: str, made: list[str]) -> tuple[str, str]:
    """How a line ended in a word, and what is wrong with it."""
    said = output.splitlines()
    if "Traceback (most recent call last)" in output:
        return "traceback", next((text for text in reversed(said) if text and text[0].isalpha()), "")[:200]
    if status is None:
        began = bool(made) or (line.command in ("bench", "demo", *SCRIPTS) and line.command not in TRAINERS)
        return ("began", "") if began else ("hangs", "nothing made, nothing said")
    if status in (0, 1):
        honest = status == 0 or any(text.startswith("error: ") for text in said)
        return ("done" if status == 0 else "stopped"), "" if honest else "status 1 without a line"
    if status != 2:
        return f"status {status}", f"ended with status {status}"
    if made:
        return "made", f"made {', '.join(made)[:150]}"
    if len(said) != 1 or not output.startswith("error: "):
        return "lines", f"{len(said)} lines"
    if len(said[0]) > LONGEST:
        return "long", f"{len(said[0])} characters"
    if not names(line, said[0]):
        return "names", "does not name the option"
    return "refused", ""


def names(line: Line, text: str) -> bool:
    """Whether a message names one of the options that are odd, or shows the word that cannot be read."""
    for word in line.hostile:
        option = key(FLAGS.get(word, word)).lstrip("+~").partition("@")[0].removesuffix("._target_")
        shown = option.encode(errors="backslashreplace").decode()  # as a terminal can print it
        whole = shown.lstrip("-")[:40] in text and bool(option)
        part = option.partition(".")[0]
        if whole or ("." in option and re.search(rf"\b{re.escape(part)}\b", text)):
            return True
        if word.startswith("-") and word in text:
            return True
        if "cannot read" in text and repr(word)[:20] in text:
            return True
        value = word.partition("=")[2]
        if option in PATHS and value in text:
            return True
    if line.kind == "alone" and re.search(r"\b(run|runs|against)\b|directories", text):
        return True
    known = (
        "there is no run",
        "there is no folder",
        "there is no such directory",
        "holds no run",
        "each trial has",
    )
    return any(part in text for part in (*known, "this command takes no options"))


def listing(place: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(place)) for path in place.rglob("*")}


def _call(command: str, words: tuple[str, ...], here: Path, log: Path) -> None:
    """The command as a user would type it, its output in a file."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(here)
    try:
        status = typed(SCRIPTS.get(command, command), words)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
