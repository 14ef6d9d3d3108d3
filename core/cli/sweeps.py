"""The jobs of a sweep: they are noted in its folder, so that `resume=` finds those that are missing."""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from core.cli.command import typed_command
from core.cli.compose import HYDRA, Composed, compose_checked
from core.cli.follow_up import continued_by, of_sweep
from core.cli.guard import guarded
from core.cli.job import execute
from core.cli.overrides import parse
from core.cli.resume import is_so, length_of, refuse_fixed, resume_run
from core.config import ConfigError
from core.run.directory import is_run, refuse_collection, resumption
from core.run.files import to_yaml, write_text
from core.run.yaml_text import safe_text
from core.text import shortened

FILE = "sweep.yaml"  # of a sweep's folder, which `core.run.directory` knows it by
JOBS = ".jobs"  # the folder in it where jobs in other processes leave what they say, and how they ended
LAUNCHER = ("hydra/launcher", "hydra.launcher")  # how the names of its options begin


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: its place in the sweep.
        words: the overrides, those of Hydra's own options too.
        name: what differs between the jobs.
        subdir: its directory, below that of the sweep; None where only the running job can resolve it.
        notes: lines about its configuration.
    """

    number: int
    words: tuple[str, ...]
    name: str
    subdir: str | None
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """Its own words."""
        return " ".join(word for word in self.words if not word.startswith(HYDRA))


@dataclass(frozen=True)
class Sweep:
    """What its jobs have in common.

    Attributes:
        config_name: the root YAML.
        folders: of YAML files, ours first.
        command: what was typed in front of the overrides.
        swept: names of the options in which the jobs differ.
        place: its folder; None where each job resolves its own.
        words: with which its jobs go on where they have begun; None = none of them has.
    """

    config_name: str
    folders: tuple[Path, ...]
    command: str
    swept: tuple[str, ...]
    place: str | None
    words: tuple[str, ...] | None = None

    def directory(self, job: Job) -> Path | None:
        """The run directory of a job; None where only the running job can resolve it."""
        return None if self.place is None or job.subdir is None else Path(self.place, job.subdir)

    def run(self, job: Job, *, continuing: bool) -> int:
        """Run one job in this process, or go on with it.

        Args:
            job: of this sweep.
            continuing: a run in its directory is its own, and goes on.

        Returns:
            The exit status.

        Raises:
            ConfigError: its run cannot go on, or Hydra fails around it.
        """
        directory = self.directory(job)
        if continuing and directory is not None and is_run(directory):
            return resume_run(directory, self.words or (), self.config_name) or 0
        composed = compose_checked(self.config_name, [*job.words, *(self.words or ())], self.folders)
        composed.join(self.place, job.number, job.subdir or (None if composed.names_jobs else job.name))
        work = partial(_execute, composed.options, self.swept)
        return composed.run(work, directory, job.number, self.command)

    def note(self, jobs: Sequence[Job]) -> None:
        """Write into its folder what continues it.

        Raises:
            ConfigError: the folder has another sweep, which would be forgotten, or a run or a study.
        """
        if self.place is None or any(job.subdir is None for job in jobs):
            return
        if self.words is None:
            self._refuse_used(Path(self.place))
        write_text(Path(self.place, FILE), self._as_noted(jobs))

    def _refuse_used(self, place: Path) -> None:
        another = "type another hydra.sweep.dir"
        if is_sweep(place):
            advice = f"go on with it by {resumption(place)}, or {another}"
            raise ConfigError(f"{shortened(str(place))} holds a sweep: {advice}")
        if is_run(place):
            raise ConfigError(
                f"{shortened(str(place))} holds a run, which would hide those of a sweep: {another}"
            )
        refuse_collection(place)

    def _as_noted(self, jobs: Sequence[Job]) -> str:
        tree = {
            "command": self.config_name,
            "typed": self.command,
            "folders": [str(folder) for folder in self.folders[1:]],
            "swept": list(self.swept),
            "jobs": [{"name": job.name, "directory": job.subdir, "words": [*job.words]} for job in jobs],
        }
        return to_yaml(tree)

    def forget(self, jobs: Sequence[Job]) -> None:
        """Take back the note where every job has come to nothing; that of another sweep stays."""
        if self.place is None or any(d is not None and d.exists() for d in map(self.directory, jobs)):
            return
        path = Path(self.place, FILE)
        with suppress(OSError, UnicodeError):
            if path.read_text(encoding="utf-8") == self._as_noted(jobs):
                path.unlink()
                shutil.rmtree(Path(self.place, JOBS), ignore_errors=True)


def run_all(sweep: Sweep, jobs: Sequence[Job], launcher: DictConfig | None) -> int:
    """Run the jobs, one after the other or as a launcher does it; the worst of their statuses.

    Args:
        sweep: what they have in common.
        jobs: to be run, or to go on.
        launcher: options of the one that was chosen; None = one after the other.
    """
    sweep.note(jobs)
    if launcher is None:
        codes = _in_turn(sweep, jobs)
    else:
        from core.cli.elsewhere import run_elsewhere

        codes = run_elsewhere(sweep, jobs, launcher)
    stopped = [code for code in codes if code > 128]
    if stopped and sweep.place is not None:
        print(f"the sweep was stopped; continue with {resumption(Path(sweep.place))}", flush=True)
    places = [directory.parent for job in jobs if (directory := sweep.directory(job)) is not None]
    if not stopped and places and min(codes) < 2:
        for line in of_sweep(sweep.config_name, Path(os.path.commonpath(places)), sweep.swept, sweep.command):
            print(line, flush=True)
    return max(codes)


def is_sweep(directory: Path) -> bool:
    """Whether this is the folder of a sweep that can go on."""
    return os.path.lexists(directory / FILE) and not is_run(directory)


def resume_sweep(directory: Path, words: Sequence[str], config_name: str, ours: Path) -> int:
    """Go on with a sweep: finished jobs stay, killed ones go on, missing ones begin.

    Args:
        directory: its folder.
        words: those of the command line; a launcher, and what a resumed run may be given.
        config_name: the root YAML of this command.
        ours: our folder of YAML files.

    Raises:
        ConfigError: its note is damaged, it is another command's, or a word may not change.
    """
    path = directory / FILE
    try:
        tree = yaml.load(safe_text(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        command, typed = str(tree["command"] or ""), str(tree["typed"])
        folders, swept = (ours, *map(Path, tree["folders"])), tuple(map(str, tree["swept"]))
        jobs = [_noted(number, each) for number, each in enumerate(tree["jobs"])]
    except (ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is damaged: it names no jobs of a sweep") from error
    if not command or not jobs:
        raise ConfigError(f"{path} is damaged: it names no jobs of a sweep")
    if command != config_name:
        known = (ours / f"{command}.yaml").is_file()
        hint = continued_by(directory, command, typed_command(sys.argv[1:])) if known else ""
        raise ConfigError(f"{directory} holds a sweep of another command, of {command}{hint}")
    chosen = [word for word in words if word.startswith(LAUNCHER)]
    others = tuple(word for word in words if word not in chosen)
    length = length_of(config_name)
    first = [word for word in jobs[0].words if not (chosen and word.startswith(LAUNCHER))]
    composed = compose_checked(config_name, [*first, *chosen], folders)
    for word in others:
        if not is_so(composed.tree, word):
            refuse_fixed(word, length)
    _refuse_shorter(others, length, composed.tree[length])
    launcher = launcher_of(composed)
    sweep = Sweep(config_name, folders, typed, swept, os.fspath(directory), others)
    return run_all(sweep, jobs, launcher)


def _refuse_shorter(words: Sequence[str], length: str, before: int) -> None:
    """One line for all jobs, before any of them; each checks the rest for itself."""
    for word in words:
        value = parse(word).value() if word.startswith(f"{length}=") else before
        if isinstance(value, int | float) and value < before:
            raise ConfigError(f"{shortened(word)} is less than the first job's own {length}={before}")


def launcher_of(composed: Composed) -> DictConfig | None:
    """The launcher of a sweep, by the options of one of its jobs; None where they run one after the other.

    Raises:
        ConfigError: it is none of Hydra's, or not installed.
    """
    from core.cli.elsewhere import refuse_missing, refuse_numbers

    launcher = composed.tree.hydra.launcher
    target = launcher.get("_target_") if isinstance(launcher, DictConfig) else None
    if target == "hydra._internal.core_plugins.basic_launcher.BasicLauncher":
        return None
    refuse_missing(launcher, target)
    refuse_numbers(cast(DictConfig, launcher))
    return OmegaConf.masked_copy(composed.tree, ["hydra"])


def _noted(number: int, noted: Any) -> Job:
    """A job as its note has it.

    Raises:
        ValueError, TypeError, KeyError: the note holds something else.
    """
    name, subdir, words = (noted[key] for key in ("name", "directory", "words"))
    if not isinstance(name, str) or not isinstance(subdir, str) or not isinstance(words, list):
        raise ValueError
    return Job(number, tuple(map(str, words)), name, subdir)


def _in_turn(sweep: Sweep, jobs: Sequence[Job]) -> list[int]:
    """Run the jobs one after the other, until a signal ends them; their statuses."""
    codes: list[int] = []
    for job in jobs:
        print(f"job {job.number + 1} of {len(jobs)}: {job.line}", flush=True)
        for line in job.notes:
            print(line, flush=True)
        goes_on = sweep.words is not None
        run = partial(sweep.run, job, continuing=goes_on)
        codes.append(guarded(run) if goes_on else run())  # one that cannot go on ends alone
        if codes[-1] > 128:  # a signal is meant for the whole sweep
            return codes
    return codes


def _execute(tree: Any, swept: tuple[str, ...], directory: Path) -> int:
    """One job, whose own mistakes end it alone."""
    return guarded(lambda: execute(tree, directory, swept=swept))
