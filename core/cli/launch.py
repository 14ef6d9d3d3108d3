"""From the command line to a run: compose, check, then make the directory and train.

Whatever is wrong with the configuration ends in one line and exit status 2, with nothing made. So every job
is composed and checked here, once, and only then handed to Hydra, which makes its directory and runs it.
"""

import errno
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import NoReturn, TypeVar, cast

from core.cli.allocator import keep_freed_memory
from core.cli.choices import YamlFile
from core.cli.command import typed_command
from core.cli.compose import Composed, compose_checked
from core.cli.job import check, execute
from core.cli.names import job_names, swept_options
from core.cli.overrides import parse, refuse_uncountable
from core.cli.paths import as_text, typed_path
from core.cli.resume import resume_run
from core.config import ConfigError, Tree, build, config_dir
from core.errors import ContractError
from core.run.directory import Lock, is_run, refuse_used, used
from core.text import one_line, shortened, told

Options = TypeVar("Options")


def status_of(config_name: str, arguments: Sequence[str], by_id: str | None = None) -> int:
    """Do what `core.cli.command.launch` does with these arguments; return the exit status."""
    return _guarded(lambda: _launch(config_name, arguments, by_id))


def status_of_tool(config_name: str, arguments: Sequence[str], work: Callable[[Options], None]) -> int:
    """Do what `core.cli.command.tool` does with these arguments; return the exit status."""

    def main() -> int:
        args = _arguments(arguments)
        if _shows(args):
            return _show(config_name, args, args.overrides)
        if args.multirun:
            raise ConfigError("this command does one thing at a time; leave -m out")
        overrides = as_text(args.overrides, _root(config_name))
        _refuse_several(overrides, "this command does one thing at a time")
        tree, _, _ = compose_tree(config_name, overrides, _folders(args))
        work(cast(Options, build(tree)))
        return 0

    return _guarded(main)


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


def _guarded(main: Callable[[], int]) -> int:
    keep_freed_memory()
    if isinstance(sys.stdout, TextIOWrapper):  # a name that the terminal cannot show is shown escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except ContractError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`--help | head`) has seen enough; what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            raise
        print(f"error: {error.strerror}: {str(error.filename)[:80]}...", file=sys.stderr)
        return 2
    return status


def _launch(config_name: str, arguments: Sequence[str], by_id: str | None) -> int:
    args = _arguments(arguments)
    overrides = _select_by_id(as_text(args.overrides, _root(config_name), sweep=args.multirun), by_id)
    if _shows(args):
        return _show(config_name, args, overrides)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("this command trains in one process; start it without torchrun (WORLD_SIZE is > 1)")
    resume = [each for each in overrides if _key(each) == "resume"]
    if resume and resume[-1].partition("=")[2] not in ("", "null"):
        if args.multirun:
            raise ConfigError("resume= continues one run; leave -m out")
        others = [each for each in overrides if each not in resume]
        return resume_run(Path(typed_path(resume[-1].partition("=")[2], "resume")), others, config_name)
    batches = _batches(overrides, args.multirun)
    return _start(config_name, batches, _folders(args), args.multirun, typed_command(arguments))


def _start(
    config_name: str, batches: Sequence[list[str]], folders: Sequence[Path], sweep: bool, command: str
) -> int:
    """Check every job, then run them one after the other; the worst of their statuses."""
    jobs: list[tuple[Composed, Tree, Path | None]] = []
    names = job_names(batches)
    for number, overrides in enumerate(batches):
        tree, directory, composed = compose_tree(config_name, overrides, folders, number if sweep else None)
        if sweep:
            directory = composed.join(jobs[0][0] if jobs else composed, number, names[number])
        if directory is not None and directory in [place for _, _, place in jobs]:
            raise ConfigError(f"two jobs of this sweep would share {directory}; see hydra.sweep.subdir")
        if directory is not None:
            refuse_used(directory)
        idle = check(tree, composed.typed)
        jobs.append((replace(composed, notes=composed.notes + idle), tree, directory))
    if sweep:
        return _run_sweep(jobs, command, swept_options(batches))
    composed, tree, directory = jobs[0]
    assert directory is not None
    new = [place for place in (directory, *directory.parents) if not place.exists()]
    lock = Lock(directory)  # before anything is written into it: of two starts, only one finds it unused
    try:
        if is_run(directory):  # another run began and ended here since the check
            raise used(directory)
        _say(composed)
        return composed.run(partial(_execute, tree, lock=lock), directory, command=command)
    finally:
        lock.release()
        for place in new:  # of a start that came to nothing
            with suppress(OSError):
                place.rmdir()


def _run_sweep(
    jobs: Sequence[tuple[Composed, Tree, Path | None]], command: str, swept: tuple[str, ...]
) -> int:
    codes = [0]
    for number, (composed, tree, directory) in enumerate(jobs):
        print(f"job {number + 1} of {len(jobs)}: {' '.join(composed.tree.hydra.overrides.task)}", flush=True)
        _say(composed)
        codes.append(composed.run(partial(_execute, tree, swept=swept), directory, number, command))
        if codes[-1] > 128:  # a signal is meant for the whole sweep
            return codes[-1]
    return max(codes)


def _refuse_several(overrides: Sequence[str], advice: str) -> None:
    swept = [each for each in overrides if parse(each).is_sweep_override()]
    if swept:
        raise ConfigError(f"{shortened(swept[0])} has several values; {advice}")


def _execute(tree: Tree, directory: Path, lock: Lock | None = None, swept: tuple[str, ...] = ()) -> int:
    """One job, whose own mistakes end it alone."""
    return _guarded(lambda: execute(tree, directory, lock=lock, swept=swept))


def _say(composed: Composed) -> None:
    for line in composed.notes:
        print(line, flush=True)


def _arguments(arguments: Sequence[str]) -> Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # argparse's own prints the usage, several lines of it
    args = parser.parse_intermixed_args(list(arguments))
    if args.config_path or args.config_name:
        raise ConfigError(
            "--config-name and --config-path: the root file is fixed; use --config-dir FOLDER to add YAML "
            "files of your own"
        )
    return args


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)


def _shows(args: Namespace) -> bool:
    """Whether the command line asks for something to read."""
    return bool(args.help or args.cfg or args.info or args.hydra_help or args.shell_completion)


def _show(config_name: str, args: Namespace, overrides: Sequence[str]) -> int:
    """Print what is asked for: our help, the configuration, or Hydra's own help."""
    from core.cli.help import configuration, help_text

    folders = _folders(args)
    if args.help:
        print(help_text(config_name, overrides, folders))
    elif args.cfg and args.multirun:
        raise ConfigError("--cfg prints one configuration; leave -m out")
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
    return [o for o, key in zip(overrides, keys, strict=True) if key != group] + [f"{group}=by_id"]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _batches(overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """The overrides of each job: one list for every job of a sweep, a single list without one."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    for key in map(_key, overrides):
        if key.replace("/", ".").startswith(("hydra.mode", "hydra.launcher", "hydra.sweeper")):
            raise ConfigError(f"{key} is not read here; -m runs the jobs of a sweep one after the other")
    if not multirun:
        _refuse_several(overrides, "add -m to run all of them")
        return [list(overrides)]
    own = [each for each in overrides if each.startswith("hydra")]
    others = [parse(each) for each in overrides if each not in own]
    for each in others:
        refuse_uncountable(each)
    batches = BasicSweeper.split_arguments(others, None)
    return [[*batch, *own] for chunk in batches for batch in chunk]
