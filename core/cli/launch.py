"""From the command line to a run: compose, check, then make the directory and train.

Whatever is wrong with the configuration ends in one line and exit status 2, with nothing made. So every job
is composed and checked here, once, and only then handed to Hydra, which makes its directory and runs it.
"""

import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TypeVar, cast

from core.cli.allocator import collect_from_now_on
from core.cli.arguments import own_words, parsed, shows, with_names
from core.cli.choices import YamlFile
from core.cli.command import typed_command
from core.cli.comments import takes_list
from core.cli.compose import Composed, compose_checked
from core.cli.follow_up import follow_up
from core.cli.guard import guarded
from core.cli.habits import hint
from core.cli.job import check, execute
from core.cli.names import job_names, swept_options
from core.cli.overrides import parse, refuse_uncountable
from core.cli.paths import as_text, typed_path, typed_run
from core.cli.ranked import as_rank, check_restarts, of_first_rank, refuse_ranks, writes
from core.cli.refusals import BY_ID
from core.cli.resume import resume_run
from core.cli.sweeps import LAUNCHER, Job, Sweep, is_sweep, launcher_of, resume_sweep, run_all
from core.config import ConfigError, Tree, build, config_dir
from core.run.directory import Lock, is_run, refuse_used, used
from core.run.listing import newest_first
from core.text import shortened, told

Options = TypeVar("Options")


def status_of(config_name: str, arguments: Sequence[str], by_id: str | None = None) -> int:
    """Do what `core.cli.command.launch` does with these arguments; return the exit status."""

    def main() -> int:
        return guarded(
            lambda: _launch(config_name, arguments, by_id), lambda: hint(_root(config_name), arguments)
        )

    return guarded(lambda: as_rank(main))


def status_of_tool(config_name: str, arguments: Sequence[str], work: Callable[[Options], None]) -> int:
    """Do what `core.cli.command.tool` does with these arguments; return the exit status."""

    def main() -> int:
        args = parsed(arguments)
        if shows(args):
            return _show(config_name, args, _of_tool(args.overrides, root), arguments)
        if args.multirun:
            raise ConfigError("this command does one thing at a time; leave -m out")
        refuse_ranks("this command works in one process")
        overrides = _of_tool(args.overrides, root)
        _refuse_several(overrides, root, "this command does one thing at a time")
        tree, _, _ = compose_tree(config_name, overrides, _folders(args))
        cfg = build(tree)
        collect_from_now_on()
        work(cast(Options, cfg))
        for run in _runs(tree, root)[:1]:
            _say(follow_up(config_name, run, typed_command(arguments)))
        return 0

    root = _root(config_name)
    return guarded(main, lambda: hint(root, arguments))


def status_of_outer(
    config_name: str,
    arguments: Sequence[str],
    work: Callable[[Options, list[str], list[Path]], int],
    refuse: Callable[[], None],
) -> int:
    """Do what `core.cli.command.outer_tool` does with these arguments; return the exit status."""

    def main() -> int:
        args = parsed(arguments)
        own = own_words(args.overrides, root)
        if shows(args):
            return _show(config_name, args, args.overrides if args.shell_completion else own, arguments)
        if args.multirun:
            raise ConfigError("this command does one thing at a time; leave -m out")
        refuse()
        overrides = as_text(own, root)
        _refuse_several(overrides, root, "this command does one thing at a time")
        tree, _, _ = compose_tree(config_name, overrides, _folders(args))
        cfg = build(tree)
        collect_from_now_on()
        return work(cast(Options, cfg), [word for word in args.overrides if word not in own], _folders(args))

    root = _root(config_name)
    return guarded(main, lambda: hint(root, arguments))


def compose_tree(
    config_name: str, overrides: Sequence[str], folders: Sequence[Path], job: int | None = None
) -> tuple[Tree, Path | None, Composed]:
    """The checked, resolved options without Hydra's node, the run's directory, and what they came from.

    Args:
        config_name: the root YAML, without its ending.
        overrides: as typed.
        folders: our configuration folder first, then the user's own.
        job: its number in a sweep, None without one. Where a sweep's directory depends on
            something that only Hydra knows, the directory returned is None.
    """
    composed = compose_checked(config_name, overrides, folders)
    return composed.options, composed.place(job), composed


def _launch(config_name: str, arguments: Sequence[str], by_id: str | None) -> int:
    args = parsed(arguments)
    overrides = _select_by_id(as_text(args.overrides, _root(config_name), sweep=args.multirun), by_id)
    if shows(args):
        return _show(config_name, args, overrides, arguments)
    if args.multirun:
        refuse_ranks("-m runs its jobs one after the other in one process")
    resume = [each for each in overrides if _key(each) == "resume"]
    if resume and resume[-1].partition("=")[2] not in ("", "null"):
        if args.multirun:
            raise ConfigError("resume= continues one run; leave -m out")
        others = [each for each in overrides if each not in resume]
        check_restarts(continuing=True)
        directory = Path(typed_run(resume[-1].partition("=")[2], "resume", _root(config_name)))
        if is_sweep(directory):
            refuse_ranks("the jobs of a sweep run in one process each")
            return resume_sweep(directory, others, config_name, config_dir())
        status = resume_run(directory, others, config_name)
        return 0 if status is None else _ended(config_name, directory, status, typed_command(arguments))
    check_restarts(continuing=False)
    batches = _batches(overrides, args.multirun, _root(config_name))
    return _start(config_name, batches, _folders(args), args.multirun, typed_command(arguments))


def _start(
    config_name: str, batches: Sequence[list[str]], folders: Sequence[Path], sweep: bool, command: str
) -> int:
    """Check every job, then run them; the worst of their statuses."""
    if sweep:
        return _start_sweep(config_name, batches, folders, command)
    tree, directory, composed = compose_tree(config_name, batches[0], folders)
    assert directory is not None
    directory = of_first_rank(directory)
    if writes():
        refuse_used(directory)
    composed = replace(composed, notes=composed.notes + check(tree, composed.typed))
    with _cleared([directory] if writes() else []):
        return _run_one(config_name, composed, tree, directory, command)


def _start_sweep(
    config_name: str, batches: Sequence[list[str]], folders: Sequence[Path], command: str
) -> int:
    jobs: list[Job] = []
    places: dict[Path, None] = {}
    names, shared, launcher = job_names(batches), None, None
    for number, overrides in enumerate(batches):
        tree, _, composed = compose_tree(config_name, overrides, folders, number)
        if not jobs:
            shared, launcher = composed.shared(), launcher_of(composed)
        directory = composed.join(shared, number, None if composed.names_jobs else names[number])
        if directory is not None and directory in places:
            raise ConfigError(f"two jobs of this sweep would share {directory}; see hydra.sweep.subdir")
        if directory is not None:
            refuse_used(directory)
            places[directory] = None
        elif launcher is not None:
            raise ConfigError("hydra.sweep.subdir: a launcher's jobs need directories that are known before")
        subdir = None if directory is None or shared is None else os.path.relpath(directory, shared)
        notes = composed.notes + check(tree, composed.typed)
        jobs.append(Job(number, tuple(overrides), names[number], subdir, notes))
    sweep = Sweep(config_name, tuple(folders), command, swept_options(batches), shared)
    with _cleared([*places, *([Path(shared)] if shared is not None else [])]):
        status = 2
        try:
            status = run_all(sweep, jobs, launcher)
        finally:
            if status == 2:
                sweep.forget(jobs)
        return status


@contextmanager
def _cleared(places: Sequence[Path]) -> Iterator[None]:
    """Remove folders that were made meanwhile and are empty, of a start that came to nothing."""
    new = [each for place in places for each in (place, *place.parents) if not each.exists()]
    try:
        yield
    finally:
        for place in new:
            with suppress(OSError):
                place.rmdir()


def _run_one(config_name: str, composed: Composed, tree: Tree, directory: Path, command: str) -> int:
    if not writes():
        return _execute(tree, directory)
    lock = Lock(directory)  # before anything is written into it: of two starts, only one finds it unused
    try:
        if is_run(directory):  # another run began and ended here since the check
            raise used(directory)
        _say(composed.notes)
        status = composed.run(partial(_execute, tree, lock=lock), directory, command=command)
        return _ended(config_name, directory, status, command)
    finally:
        lock.release()


def _ended(config_name: str, directory: Path, status: int, command: str) -> int:
    """Say what can be typed next, unless a signal has ended the run or nothing was made."""
    if status in (0, 1):
        _say(follow_up(config_name, directory, command))
    return status


def _refuse_several(overrides: Sequence[str], root: YamlFile, advice: str) -> None:
    for each in overrides:
        if parse(each).is_sweep_override():
            key, _, values = each.partition("=")
            several = takes_list(key.lstrip("+"), root.path)
            as_list = f"a list is {shortened(key)}=[{shortened(values, 40)}]; " if several else ""
            raise ConfigError(f"{shortened(each)} has several values; {as_list}{advice}")


def _of_tool(words: Sequence[str], root: YamlFile) -> list[str]:
    """The overrides of a tool, which takes run directories without their options too."""
    names = with_names(words, root)
    return as_text(names, root)


def _runs(tree: Tree, root: YamlFile) -> list[Path]:
    """The runs that a tool was called on."""
    named = [tree[name] for name in list(root.content.get("run_paths") or ())[:1]]
    places = named[0] if named and isinstance(named[0], list) else named
    return [directory for place in places for _, directory in newest_first(Path(place))]


def _execute(tree: Tree, directory: Path, lock: Lock | None = None) -> int:
    """One job, whose own mistakes end it alone."""
    return guarded(lambda: execute(tree, directory, lock=lock))


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _show(config_name: str, args: Namespace, overrides: Sequence[str], arguments: Sequence[str]) -> int:
    """Print what is asked for: our help, the configuration, or Hydra's own help."""
    from core.cli.completion import candidates
    from core.cli.help import configuration, help_text
    from core.cli.version import print_version

    folders = _folders(args)
    if args.help:
        print(help_text(config_name, overrides, folders, typed_command(arguments)))
    elif args.version:
        print_version()
    elif args.cfg and args.multirun:
        raise ConfigError("--cfg prints one configuration; leave -m out")
    elif args.shell_completion and overrides in (["query=bash"], ["query=fish"]):
        line = os.environ.get("COMP_LINE", "")
        separator = " " if overrides == ["query=bash"] else "\n"
        print(separator.join(candidates(_root(config_name), line, folders)))
    elif args.cfg:
        print(configuration(compose_checked(config_name, overrides, folders), args), end="")
    else:
        _show_hydra(config_name, args, overrides)
    return 0


def _show_hydra(config_name: str, args: Namespace, overrides: Sequence[str]) -> None:
    """What only Hydra has to say: its help, where options come from, completion for a shell.

    Raises:
        ConfigError: it cannot, with these overrides.
    """
    import hydra

    flag = "--hydra-help" if args.hydra_help else "--info" if args.info else "--shell-completion"
    folder = ["--config-dir", args.config_dir] if args.config_dir else []
    words = [*overrides, *folder, flag, *([args.info] if flag == "--info" else [])]
    before = sys.argv
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [before[0], *words], "1"  # it raises, and prints nothing
    said = StringIO()
    try:
        with redirect_stdout(said), suppress(SystemExit):  # of 0, after its help
            hydra.main(version_base="1.3", config_path=os.fspath(config_dir()), config_name=config_name)(
                lambda cfg: None
            )()
    except Exception as error:
        raise ConfigError(f"{flag}: {told(error)}") from error
    finally:
        sys.argv = before
    print(said.getvalue(), end="")


def _root(config_name: str) -> YamlFile:
    return YamlFile(config_dir() / f"{config_name}.yaml")


def _folders(args: Namespace) -> list[Path]:
    folders = [config_dir()]
    if args.config_dir:
        own = typed_path(args.config_dir, "--config-dir")
        if not os.path.isdir(own):
            raise ConfigError(f"--config-dir {args.config_dir}: there is no such folder")
        folders.append(Path(own).resolve())
    return folders


def _select_by_id(overrides: Sequence[str], group: str | None) -> list[str]:
    """`GROUP.id=X` drops the special settings of the chosen file by selecting `GROUP=by_id`."""
    keys = [_key(each) for each in overrides]
    if group is None or f"{group}.id" not in keys:
        return list(overrides)
    return [o for o, key in zip(overrides, keys, strict=True) if key != group] + [f"{group}={BY_ID}"]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _batches(overrides: Sequence[str], multirun: bool, root: YamlFile) -> list[list[str]]:
    """The overrides of each job: one list for every job of a sweep, a single list without one."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    for key in map(_key, overrides):
        if key.replace("/", ".").startswith(("hydra.mode", "hydra.sweeper")):
            raise ConfigError(f"{key} is not read here; -m runs one job for each combination of values")
        if key.startswith(LAUNCHER) and not multirun:
            raise ConfigError(f"{key} says how the jobs of a sweep are run; add -m")
    if not multirun:
        _refuse_several(overrides, root, "add -m to run all of them")
        return [list(overrides)]
    own = [each for each in overrides if each.startswith("hydra")]
    others = [parse(each) for each in overrides if each not in own]
    for each in others:
        refuse_uncountable(each)
    batches = [batch for chunk in BasicSweeper.split_arguments(others, None) for batch in chunk]
    if twice := next((batch for batch, n in Counter(map(tuple, batches)).items() if n > 1), None):
        raise ConfigError(f"two jobs of this sweep would be the same: {shortened(' '.join(twice))}")
    return [[*batch, *own] for batch in batches]
