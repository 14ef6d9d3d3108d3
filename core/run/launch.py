"""From the command line to a run: compose, check, then let Hydra make the directory, then train.

Hydra makes the run directory before it calls anything of ours, so the configuration is composed and checked
here first: whatever is wrong ends in one line and exit status 2, with nothing made.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from core.run.config import ConfigError, build, config_dir

PROLONG = (
    "total_steps",
    "total_images",
    "logging.",
    "device",
    "num_threads",
)  # what a resumed run may change


def launch(config_name: str, *, by_id: str | None = None) -> NoReturn:
    """Run a trainer from the command line and exit with its status.

    Args:
        config_name: the root YAML; its `_target_` names the frozen dataclass of the whole configuration, whose
            module also has `check(cfg)` (what can be known before a directory is made) and `train(cfg, run)`.
        by_id: a group in which `GROUP.id=X` stands for an option without a YAML of its own: it also selects
            `GROUP=by_id`.
    """
    sys.exit(_guarded(lambda: _launch(config_name, sys.argv[1:], by_id)))


def tool(config_name: str, work: Callable[[object], None]) -> NoReturn:
    """Run a script that makes no run directory: check its configuration, call `work` with it, exit."""

    def main() -> int:
        args = _arguments(sys.argv[1:])
        if args.help or args.cfg or args.info or args.hydra_help or args.shell_completion:
            return _hydra(config_name, sys.argv[1:], lambda tree, directory: 0)
        tree, _, _ = _tree(config_name, args.overrides, _folders(args))
        work(build(tree))
        return 0

    sys.exit(_guarded(main))


def _guarded(main: Callable[[], int]) -> int:
    try:
        return main()
    except ConfigError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _launch(config_name: str, words: Sequence[str], by_id: str | None) -> int:
    args = _arguments(words)
    if args.help or args.cfg or args.info or args.hydra_help or args.shell_completion:
        return _hydra(config_name, list(words), lambda tree, directory: 0)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("this command trains in one process; start it without torchrun (WORLD_SIZE is > 1)")
    folders = _folders(args)
    overrides = _select_by_id(args.overrides, by_id)
    resume = [word for word in overrides if word.split("=")[0].lstrip("+") == "resume"]
    if resume and resume[-1].partition("=")[2] not in ("", "null"):
        if args.multirun:
            raise ConfigError("resume= continues one run; leave -m out")
        return _resume(Path(resume[-1].partition("=")[2]), [w for w in overrides if w not in resume], folders)
    for batch in _batches(overrides, args.multirun):
        tree, directory, accepted = _tree(config_name, batch, folders)
        if not args.multirun:
            _refuse_used(directory)
            overrides = accepted
        _entry(tree, check=True)
    flags = ["-m"] if args.multirun else []
    if args.config_dir:
        flags += ["--config-dir", args.config_dir]
    return _hydra(config_name, [*flags, *overrides], execute)


def execute(tree: dict[str, object], directory: Path) -> int:
    """Train in `directory`, whatever happens leave a summary, and return the exit status.

    Args:
        tree: the resolved configuration, plain containers.
        directory: the run directory; it may hold an interrupted run, which is then continued.
    """
    from core.run.checkpoint import write_text
    from core.run.directory import Lock, git_state, is_run, versions
    from core.run.run import Run, Stopped

    cfg, module = _entry(tree, check=False)
    lock = Lock(directory)
    began_before = is_run(directory) and (directory / "config.yaml").exists()
    write_text(directory / "config.yaml", _yaml(tree))
    from core.run.device import resolve_device

    facts = {
        "seed": tree.get("seed"),
        "versions": versions(),
        "git": git_state(),
        "device": str(resolve_device(str(tree.get("device", "cpu")))),
    }
    run = Run(directory, cfg.logging, dict(_flat(tree)), facts)
    try:
        if began_before and not (directory / "checkpoints" / "last.pt").exists():
            run.say("no checkpoint yet: starting again from the beginning")
        module.train(cfg, run)
        status, code = "finished", 0
    except Stopped as stop:
        status, code = "stopped", stop.status
    except KeyboardInterrupt:
        status, code = "stopped", 128 + signal.SIGINT
    except ConfigError:
        raise
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        status, code = "failed", 1
    except Exception:
        traceback.print_exc()
        status, code = "failed", 1
    finally:
        run.close()
        lock.release()
    if status != "finished":
        run.write_summary(status)
    return code


def _resume(directory: Path, words: Sequence[str], folders: Sequence[Path]) -> int:
    """Continue the run in `directory` from its own resolved configuration."""
    from omegaconf import OmegaConf

    from core.run.directory import is_run
    from core.run.run import already_finished

    if not is_run(directory):
        raise ConfigError(f"resume={directory}: there is no run in this directory")
    saved = directory / "config.yaml"
    if not saved.exists():
        saved = directory / ".hydra" / "config.yaml"
    try:
        tree = OmegaConf.load(saved)
        for word in words:
            key, _, value = word.partition("=")
            if not key.startswith(PROLONG):
                raise ConfigError(
                    f"{word} cannot change while resuming; a resumed run takes only total_steps, total_images, "
                    "logging.*, device and num_threads"
                )
            if OmegaConf.select(tree, key) is None:
                raise ConfigError(f"unknown option {key} in {saved}")
            new, old = OmegaConf.create({"v": OmegaConf.from_dotlist([f"v={value}"]).v}).v, tree
            if key.startswith("total_") and isinstance(new, int) and new < OmegaConf.select(old, key):
                raise ConfigError(f"{word} is less than the run's own {key}={OmegaConf.select(old, key)}")
            OmegaConf.update(tree, key, new)
        plain = OmegaConf.to_container(tree, resolve=True)
    except (OSError, AttributeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{saved} is damaged: {error}") from error
    plain.pop("resume", None)
    total = plain.get("total_steps", plain.get("total_images", 0))
    if already_finished(directory, total):
        print(f"{directory} is already finished; nothing to do")
        return 0
    _entry(plain, check=True)
    return execute(plain, directory)


def _tree(
    config_name: str, words: Sequence[str], folders: Sequence[Path]
) -> tuple[dict[str, object], Path, list[str]]:
    """The checked, resolved options without Hydra's node; the directory a run would get; the words for Hydra."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from core.run.words import compose_checked

    composed, accepted = compose_checked(config_name, words, folders)
    try:
        directory = Path(OmegaConf.select(composed, "hydra.run.dir"))
        tree = OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"])
        plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    plain.pop("resume", None)
    return plain, directory, accepted


def _entry(tree: dict[str, object], check: bool) -> tuple[object, object]:
    """The checked configuration and the module that trains it."""
    cfg = build(tree)
    module = importlib.import_module(type(cfg).__module__)
    if check:
        try:
            module.check(cfg)
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return cfg, module


def _hydra(config_name: str, words: list[str], work: Callable[[dict[str, object], Path], int]) -> int:
    """Hand over to Hydra; the worst status of all jobs is ours."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    codes = [0]

    def task(cfg: DictConfig) -> None:
        tree = OmegaConf.to_container(cfg, resolve=True)
        tree.pop("resume", None)
        directory = Path(HydraConfig.get().runtime.output_dir)
        codes.append(_guarded(lambda: work(tree, directory)))

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=os.fspath(config_dir()), config_name=config_name)(task)()
    return max(codes)


def _arguments(words: Sequence[str]):
    from hydra._internal.utils import get_args_parser

    args = get_args_parser().parse_args(list(words))
    if args.config_path or args.config_name:
        raise ConfigError("use --config-dir FOLDER for YAML files of your own; the root file is fixed")
    return args


def _folders(args) -> list[Path]:
    folders = [config_dir()]
    if args.config_dir:
        own = Path(args.config_dir).resolve()
        if not own.is_dir():
            raise ConfigError(f"--config-dir {args.config_dir}: there is no such folder")
        folders.append(own)
    return folders


def _select_by_id(words: Sequence[str], group: str | None) -> list[str]:
    """`env.id=X` drops the special settings of the named environment by selecting `env=by_id`."""
    keys = [word.split("=")[0].lstrip("+") for word in words]
    if group is None or f"{group}.id" not in keys:
        return list(words)
    return [w for w, key in zip(words, keys, strict=True) if key != group] + [f"{group}=by_id"]


def _batches(words: Sequence[str], multirun: bool) -> list[list[str]]:
    """The words of every job of a sweep; of the one job without."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not multirun:
        swept = [w for w in words if _sweeps(w)]
        if swept:
            raise ConfigError(f"{swept[0]} is several values; to run all of them add -m")
        return [list(words)]
    jobs = [w for w in words if not w.startswith("hydra")]
    overrides = OverridesParser.create().parse_overrides(jobs)
    return [list(batch) for chunk in BasicSweeper.split_arguments(overrides, None) for batch in chunk]


def _sweeps(word: str) -> bool:
    from core.run.words import parse

    return parse(word).is_sweep_override()


def _refuse_used(directory: Path) -> None:
    from core.run.directory import Lock, is_run

    if is_run(directory):
        Lock(directory).release()  # says so if it is still running
        raise ConfigError(
            f"{directory} already holds a run; continue it with resume={directory} or choose another"
        )


def _yaml(tree: dict[str, object]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(tree))


def _flat(tree: dict[str, object], path: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value
