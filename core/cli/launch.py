"""From the command line to a run: compose, check, then let Hydra make the directory, then train.

Hydra makes the run directory before it calls anything of ours, so the configuration is composed and checked
here first: whatever is wrong ends in one line and exit status 2, with nothing made.
"""

import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from core.cli.allocator import keep_freed_memory
from core.cli.compose import plain
from core.cli.job import check, execute
from core.cli.resume import resume_run
from core.config import ConfigError, Tree, build, config_dir
from core.run.directory import Lock, is_run, refuse_used, used

if TYPE_CHECKING:
    from omegaconf import DictConfig

Options = TypeVar("Options")


def launch(config_name: str, *, by_id: str | None = None) -> NoReturn:
    """Run a trainer from the command line and exit with its status.

    Args:
        config_name: the root YAML; its `_target_` names the dataclass of all options, whose module also has
            `check(cfg)` (what can be known before a directory is made) and `train(cfg, run)`.
        by_id: a group in which `GROUP.id=X` stands for an option without a YAML of its own: it also selects
            `GROUP=by_id`.
    """
    sys.exit(status_of(config_name, sys.argv[1:], by_id))


def status_of(config_name: str, words: Sequence[str], by_id: str | None = None) -> int:
    """As `launch`, with these words; the exit status."""
    return _guarded(lambda: _launch(config_name, words, by_id))


def tool(config_name: str, work: Callable[[Options], None]) -> NoReturn:
    """Run a script that makes no run directory: check its configuration, call `work` with it, exit."""

    def main() -> int:
        args = _arguments(sys.argv[1:])
        if args.help or args.cfg or args.info or args.hydra_help or args.shell_completion:
            return _hydra(config_name, sys.argv[1:], lambda tree, directory: 0)
        if args.multirun:
            raise ConfigError("this command does one thing at a time; leave -m out")
        tree, _, _ = compose_tree(config_name, args.overrides, _folders(args))
        work(cast(Options, build(tree)))
        return 0

    sys.exit(_guarded(main))


def _guarded(main: Callable[[], int]) -> int:
    keep_freed_memory()
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (`--help | head`) has seen enough; what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def _launch(config_name: str, words: Sequence[str], by_id: str | None) -> int:
    args = _arguments(words)
    if args.help or args.cfg or args.info or args.hydra_help or args.shell_completion:
        flags = [word for word in words if word not in args.overrides]
        return _hydra(config_name, [*flags, *_select_by_id(args.overrides, by_id)], lambda tree, directory: 0)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("this command trains in one process; start it without torchrun (WORLD_SIZE is > 1)")
    folders = _folders(args)
    overrides = _select_by_id(args.overrides, by_id)
    resume = [word for word in overrides if _key(word) == "resume"]
    if resume and resume[-1].partition("=")[2] not in ("", "null"):
        if args.multirun:
            raise ConfigError("resume= continues one run; leave -m out")
        others = [word for word in overrides if word not in resume]
        return resume_run(Path(resume[-1].partition("=")[2]), others)
    return _start(config_name, args, overrides, folders)


def _start(config_name: str, args: Namespace, overrides: list[str], folders: Sequence[Path]) -> int:
    """Check every job, then let Hydra run them; the one job without a sweep in a directory held from here."""
    free: set[str] = set()  # names that the YAML leaves open, in any job of a sweep
    own = [word for word in overrides if word.startswith("hydra.sweep.")]
    places: list[Path | None] = []
    for number, batch in enumerate(_batches(overrides, args.multirun)):
        job = number if args.multirun else None
        words = batch if job is None else [*batch, *own]
        tree, directory, accepted = compose_tree(config_name, words, folders, job)
        free |= {_key(word) for word in accepted if word.startswith("++")}
        if directory is not None and directory in places:
            raise ConfigError(f"two jobs of this sweep would share {directory}; see hydra.sweep.subdir")
        places.append(directory)
        if directory is not None:
            refuse_used(directory)
        check(tree)
    overrides = [f"++{word.lstrip('+')}" if _key(word) in free else word for word in overrides]
    flags = ["--config-dir", args.config_dir] if args.config_dir else []
    if places[0] is not None and not args.multirun:
        return _run_alone(config_name, [*flags, *overrides], places[0])
    return _hydra(config_name, ["-m", *flags, *overrides], execute)


def _run_alone(config_name: str, words: list[str], directory: Path) -> int:
    """One run. Its directory is taken before Hydra writes into it: of two starts, one finds it as it was."""
    lock = Lock(directory)
    try:
        if is_run(directory):  # begun and ended since it was looked at
            raise used(directory)
        # By name, because a time in it is another one when Hydra composes again.
        text = re.sub(r"(\\*)'", r"\1\1\\'", str(directory))
        words = [*(word for word in words if _key(word) != "hydra.run.dir"), f"hydra.run.dir='{text}'"]
        return _hydra(config_name, words, partial(execute, lock=lock))
    finally:
        lock.release()


def compose_tree(
    config_name: str, words: Sequence[str], folders: Sequence[Path], job: int | None = None
) -> tuple[Tree, Path | None, list[str]]:
    """The checked, resolved options without Hydra's node, the run's directory, and the words for Hydra.

    Args:
        config_name: the root YAML, without its ending.
        words: the overrides, as typed.
        folders: our configuration folder first, then the user's own.
        job: its number in a sweep, None without one. Where a sweep's directory is made of something that only
            Hydra knows, None comes back in its place.
    """
    from omegaconf import open_dict

    from core.cli.overrides import compose_checked

    composed, accepted = compose_checked(config_name, words, folders)
    directory = _place(composed, job)
    with open_dict(composed):
        del composed["hydra"]
    return plain(composed), directory, accepted


def _place(composed: "DictConfig", job: int | None) -> Path | None:
    """Where Hydra will put this job; None where a sweep says so in words that only Hydra can resolve."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(composed):
        composed.hydra.job.num = job or 0
    parts = ("hydra.run.dir",) if job is None else ("hydra.sweep.dir", "hydra.sweep.subdir")
    try:
        return Path(*(str(OmegaConf.select(composed, part)) for part in parts))
    except OmegaConfBaseException as error:
        if job is None:
            raise ConfigError(f"hydra.run.dir: {' '.join(str(error).split())}") from error
        return None


def _hydra(config_name: str, words: list[str], work: Callable[[Tree, Path], int]) -> int:
    """Hand over to Hydra; the worst status of all jobs is ours."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    codes = [0]

    def task(cfg: DictConfig) -> None:
        tree = plain(cfg)
        directory = Path(HydraConfig.get().runtime.output_dir)
        codes.append(_guarded(lambda: work(tree, directory)))
        if codes[-1] > 128:  # a signal is meant for the whole sweep
            raise SystemExit(codes[-1])

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=os.fspath(config_dir()), config_name=config_name)(task)()
    return max(codes)


def _arguments(words: Sequence[str]) -> Namespace:
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # argparse's own prints the usage, several lines of it
    args = parser.parse_intermixed_args(list(words))
    if args.config_path or args.config_name:
        raise ConfigError("use --config-dir FOLDER for YAML files of your own; the root file is fixed")
    return args


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)


def _folders(args) -> list[Path]:
    folders = [config_dir()]
    if args.config_dir:
        own = Path(args.config_dir).resolve()
        if not own.is_dir():
            raise ConfigError(f"--config-dir {args.config_dir}: there is no such folder")
        folders.append(own)
    return folders


def _select_by_id(words: Sequence[str], group: str | None) -> list[str]:
    """`GROUP.id=X` drops the special settings of the chosen file by selecting `GROUP=by_id`."""
    keys = [_key(word) for word in words]
    if group is None or f"{group}.id" not in keys:
        return list(words)
    return [w for w, key in zip(words, keys, strict=True) if key != group] + [f"{group}=by_id"]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _batches(words: Sequence[str], multirun: bool) -> list[list[str]]:
    """The words of every job of a sweep; of the one job without."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if "hydra.mode" in map(_key, words):
        raise ConfigError("hydra.mode is not read here; several values take -m")
    if not multirun:
        swept = [w for w in words if _sweeps(w)]
        if swept:
            raise ConfigError(f"{swept[0]} is several values; to run all of them add -m")
        return [list(words)]
    jobs = [w for w in words if not w.startswith("hydra")]
    overrides = OverridesParser.create().parse_overrides(jobs)
    return [list(batch) for chunk in BasicSweeper.split_arguments(overrides, None) for batch in chunk]


def _sweeps(word: str) -> bool:
    from core.cli.overrides import parse

    return parse(word).is_sweep_override()
