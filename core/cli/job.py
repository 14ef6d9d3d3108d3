"""One job: from checked options and a directory to a trained network and a summary."""

import gc
import importlib
import os
import shlex
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from core.cli.allocator import collect_from_now_on
from core.cli.eager import keep_compiler_out
from core.cli.ranked import check_ranks, say_error
from core.config import ConfigError, Tree, build, flat
from core.errors import ContractError, GoneError, RankLostError, as_shortage

if TYPE_CHECKING:
    from core.config import Component
    from core.diagnosis import Finding
    from core.run.callbacks import Callback
    from core.run.config import RunConfig
    from core.run.diagnosis import DiagnosisConfig, OnFinding
    from core.run.directory import Lock
    from core.run.loggers.loggers import Chosen, Start
    from core.run.run import Run


class RootConfig(Protocol):
    """What every root configuration has.

    Attributes:
        LENGTH: name of the option that says how long the run is, in units of its x-axis.
        BEGINNING: names of options that are read when a run begins and never again.
    """

    LENGTH: ClassVar[str]
    BEGINNING: ClassVar[tuple[str, ...]]

    @property
    def logging(self) -> "RunConfig":
        """How often the run logs, evaluates, draws and saves."""
        ...

    @property
    def logger(self) -> "Chosen":
        """Where the run logs besides its event file, by name."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Words of the user's own that the summary and the loggers keep."""
        ...

    @property
    def callbacks(self) -> "tuple[Component | Callback, ...]":
        """The user's own lines in the run."""
        ...

    @property
    def diagnosis(self) -> "DiagnosisConfig | None":
        """The diagnosis of the run; None = none."""
        ...

    @property
    def on_finding(self) -> "OnFinding":
        """What a finding does: it is reported, stops the run, or sends it back."""
        ...

    @property
    def max_rollbacks(self) -> int:
        """How often it may be sent back."""
        ...


def check(tree: Tree, typed: Sequence[str] = ()) -> tuple[str, ...]:
    """Check everything that can be checked before a directory is made.

    Args:
        tree: the resolved configuration, plain containers.
        typed: names of the options that were typed.

    Returns:
        One line for every reason why some of those have no effect in this run.

    Raises:
        ConfigError: one line about what is wrong.
    """
    from core.gradients.ranks import alone
    from core.run.callbacks import Callbacks
    from core.run.loggers.loggers import check_loggers

    cfg, module = _entry(tree)
    collect_from_now_on()
    keep_compiler_out()
    check_loggers(cfg.logger)
    Callbacks(cfg.callbacks)
    try:
        with alone():
            module.check(cfg)
        check_ranks(cfg, module, tree)
        undiagnosed: dict[str, str] = {}
        if cfg.diagnosis is None:
            undiagnosed = dict.fromkeys(("on_finding", "max_rollbacks"), "diagnosis is none")
        elif cfg.on_finding != "rollback":
            undiagnosed["max_rollbacks"] = f"on_finding is {cfg.on_finding}"
        return _idle(typed, module.without_effect(cfg) | undiagnosed) if typed else ()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if shortage := as_shortage(error):
            raise ConfigError(str(shortage)) from error
        raise


def numbers(tree: Tree) -> tuple[str, ...] | None:
    """Which numbers a run of these options leaves: entries of its summary, and tags of the curves `eval/...`.

    None where that is not known: the trainer does not say it, or a callback of the user's may add some.
    """
    cfg, module = _entry(tree)
    found = None if cfg.callbacks or not hasattr(module, "numbers") else module.numbers(cfg)
    return None if found is None else (*found, "wall_s", "cpu_s", "train_s")


def _idle(typed: Sequence[str], without_effect: Mapping[str, str]) -> tuple[str, ...]:
    """What is said of typed options without effect, `name` or `name=value`, those of one reason together."""
    names: dict[str, list[str]] = {}
    for option, reason in without_effect.items():
        key = option.partition("=")[0]
        if any(name == key or name.startswith(f"{key}.") for name in typed):
            names.setdefault(reason, []).append(option)
    return tuple(
        f"{' and '.join(options)} {'have' if options[1:] else 'has'} no effect here: {reason}"
        for reason, options in names.items()
    )


def execute(
    tree: Tree,
    directory: Path,
    *,
    continuing: bool = False,
    lock: "Lock | None" = None,
    swept: Sequence[str] = (),
) -> int:
    """Train in `directory`, write a summary whatever happens, and return the exit status.

    Args:
        tree: the resolved configuration, plain containers.
        directory: the run directory.
        continuing: it holds a run of these options, which continues; without it, a run there is refused.
        lock: of this directory, where it is held already; it is released here.
        swept: names of the options in which the jobs of a sweep differ.

    Raises:
        ConfigError: the directory is in use or holds a run, or what can only be seen now is wrong (then
            nothing is left of this start).
    """
    from core.run.directory import Lock, abandon, holds_run, used
    from core.run.ranks import is_first

    cfg, module = _entry(tree)
    if not is_first():  # whose directory it is; several ranks never go back
        return cast(int, _train(tree, directory, cfg, module, swept))
    held = lock or Lock(directory)
    try:
        if not continuing and holds_run(directory):
            raise used(directory)
        while not isinstance(ended := _train(tree, directory, cfg, module, swept), int):
            tree = ended
            cfg, module = _entry(tree)
            gc.collect()  # what the run before it has held
        return ended
    except ConfigError:
        if not continuing and not holds_run(directory):
            abandon(directory)
        raise
    finally:
        held.release()  # last: until then the summary may still change


def _train(
    tree: Tree, directory: Path, cfg: RootConfig, module: ModuleType, swept: Sequence[str]
) -> int | Tree:
    """The run itself, in a directory that is held; the exit status, or the options with which it goes on."""
    from core.cli.defaults import defaults
    from core.cli.rollback import roll_back
    from core.gradients.ranks import num_ranks
    from core.run.callbacks import Callbacks
    from core.run.device import resolve_device
    from core.run.diagnosis import Diagnosis
    from core.run.directory import git_state, versions
    from core.run.ranks import is_first, meet
    from core.run.rollback import Rollbacks
    from core.run.run import Run
    from core.seeding import seed_globally

    if hasattr(module, "settled") and not os.path.lexists(directory / "checkpoints" / "last.pt"):
        tree = module.settled(cfg, tree)
        cfg, module = _entry(tree)
    seed_globally(tree["seed"])
    facts = {
        "seed": tree["seed"],
        "versions": versions(),
        "git": git_state(),
        "device": str(resolve_device(tree["device"])),
        **({"tags": list(cfg.tags)} if cfg.tags else {}),
        **({"ranks": num_ranks()} if num_ranks() > 1 else {}),
    }
    diagnosis = Diagnosis(cfg.diagnosis, cfg.on_finding, tree, defaults=lambda: defaults(directory))
    run = Run(
        directory,
        cfg.logging,
        tree,
        facts,
        diagnosis,
        cfg.logger,
        Callbacks(cfg.callbacks),
        _start(tree, directory, swept) if is_first() else None,
        Rollbacks(cfg.max_rollbacks if cfg.on_finding == "rollback" and cfg.diagnosis else 0),
    )
    code: int | Tree = 1
    try:
        meet()  # the first rank has made the directory
        status, code, together = _ended(
            cfg, module, run, lambda finding: roll_back(run, diagnosis, finding, tree)
        )
        if status not in ("finished", "running", "gone"):
            run.write_summary(status)
        if together:  # of several ranks the others wait until the first has written
            meet()
    except ContractError as error:  # of the summary
        say_error(str(error))
    finally:
        run.close()
    return code


def _start(tree: Tree, directory: Path, swept: Sequence[str]) -> "Start":
    """How the run in a directory was started, from what Hydra noted there."""
    from core.cli.overrides import parse
    from core.cli.saved import saved_command, saved_flags, saved_overrides
    from core.run.loggers.loggers import Start

    words = saved_overrides(directory)
    typed_words = [*saved_flags(directory), *words]
    command = " ".join(filter(None, [saved_command(directory), *map(shlex.quote, typed_words)]))
    options = flat(tree, empty=True)
    pairs = [(word.key_or_group, word.input_line) for word in map(parse, words) if not word.is_delete()]
    typed = {key: options.get(key, str(line).partition("=")[2]) for key, line in pairs}
    return Start(command, typed, tuple(swept))


def _ended(
    cfg: RootConfig, module: ModuleType, run: "Run", roll_back: "Callable[[Finding], Tree]"
) -> tuple[str, int | Tree, bool]:
    """Train; the status of the run, the exit status or the options with which it goes on, and whether all
    ranks have ended at this point.
    """
    from core.run.diagnosis import Stopping
    from core.run.interrupts import Stopped
    from core.run.rollback import RollingBack
    from core.run.run_state import rescue

    def trained() -> Tree | None:
        try:
            module.train(cfg, run)
        except RollingBack as back:
            return roll_back(back.finding)
        return None

    try:
        if changed := trained():
            return "running", changed, False
    except Stopped as stop:
        return "stopped", stop.status, True
    except KeyboardInterrupt:
        return "stopped", 128 + signal.SIGINT, False
    except ConfigError:
        raise
    except (FloatingPointError, Stopping) as error:
        say_error(str(error))
        return "failed", 1, True
    except GoneError as error:  # a summary would make the directory anew
        say_error(str(error))
        return "gone", 1, False
    except ContractError as error:
        say_error(f"{error}{rescue(run, error)}", lost=isinstance(error, RankLostError))
    except Exception as error:
        if shortage := as_shortage(error):
            say_error(f"{shortage}{rescue(run, shortage)}")
        else:
            traceback.print_exc()
    else:
        return "finished", 0, True
    return "failed", 1, False


def _entry(tree: Tree) -> tuple[RootConfig, ModuleType]:
    """The checked configuration and the module that trains it: the one its dataclass stands in."""
    cfg = cast(RootConfig, build(tree))
    return cfg, importlib.import_module(type(cfg).__module__)
