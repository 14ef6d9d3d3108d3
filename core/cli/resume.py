"""Continue an interrupted run from its own directory, with its own options."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from core.cli.choices import YamlFile
from core.cli.command import typed_command
from core.cli.follow_up import continued_by
from core.cli.job import RootConfig, check, execute
from core.cli.overrides import parse
from core.config import ConfigError, Tree, build, config_dir, import_target

if TYPE_CHECKING:  # it imports torch
    from core.optim.schedules import Schedule

CHANGEABLE = ("logging.", "logger.", "device", "num_threads")  # besides the run's length


def resume_run(directory: Path, overrides: Sequence[str], config_name: str) -> int | None:
    """Continue the run in `directory`; a finished one is left as it is.

    Args:
        directory: a run directory.
        overrides: the others of the command line; they may only prolong, log or place the run.
        config_name: the root YAML of this command, which continues no run of another one.

    Returns:
        The exit status; None for a run that had ended before, of which that is said.

    Raises:
        ConfigError: there is no run, it is damaged, in use or another command's, or an override would change
            what it computes.
    """
    from core.cli.rollback import after_rollbacks
    from core.cli.saved import build_saved, saved_options
    from core.run.checkpoint import begun
    from core.run.directory import already_finished, reached, read_summary
    from core.run.event_file import cut_off, cut_off_line
    from core.run.saved import check_noted

    options = saved_options(directory)
    roots = {path.stem: YamlFile(path).content for path in config_dir().glob("*.yaml")}
    target = options["_target_"]
    if target != roots[config_name]["_target_"]:
        whose = [name for name, root in roots.items() if root["_target_"] == target and "resume" in root]
        hint = continued_by(directory, whose[0], typed_command(sys.argv[1:])) if whose else ""
        raise ConfigError(f"{directory} holds a run of another command, of {target}{hint}")
    root = cast(type[RootConfig], import_target(target, "_target_"))
    length = root.LENGTH
    before = options[length]
    for override in overrides:
        _change(options, override, length)
    try:
        cfg: Any = build(options)  # types and ranges, before the new length is compared
    except ConfigError:
        build_saved(directory)  # names the file, where it is the saved options that are wrong
        raise
    if already_finished(directory, options[length]):
        print(f"{directory} is already finished; nothing to do")
        return None
    folder = directory / "checkpoints"
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder of checkpoints")
    check_noted(directory)
    goes_on = begun(directory)
    options = after_rollbacks(options, directory) if goes_on else options
    check({**options, **dict.fromkeys(root.BEGINNING)} if goes_on else options)
    if not cfg.schedule.needs:
        _say_rate(cfg.schedule, reached(directory), before, options[length])
    if read_summary(directory) is not None and (cut := cut_off(directory)) is not None:
        print(cut_off_line(cut), flush=True)
    if not goes_on:
        print(f"{directory} has no checkpoint yet: starting again from the beginning", flush=True)
    return execute(options, directory, continuing=True)


def _say_rate(schedule: "Schedule", step: int | None, before: object, after: int) -> None:
    """Say where a longer run makes the learning rate jump: a schedule spans the whole run."""
    if step is None or not isinstance(before, int) or before == after:  # `check` refuses what is no number
        return
    old, new = (schedule(min(step / total, 1.0)) for total in (before, after))
    if old != new:
        print(
            f"the schedule spans the whole run: the learning rate was {old:.3g} times its first value at "
            f"{step:,} of {before:,}, and goes on at {new:.3g} times, for it is {step:,} of {after:,} now",
            flush=True,
        )


def refuse_fixed(override: str, length: str) -> None:
    """Check that an override may change while a run of this length is resumed.

    Raises:
        ConfigError: it may not.
    """
    key = override.partition("=")[0]
    if key != length and not key.startswith(CHANGEABLE):
        raise ConfigError(
            f"{override} cannot change while resuming; only {length}, logging.*, logger.*, device and "
            "num_threads can"
        )


def is_so(options: Mapping[str, Any], override: str) -> bool:
    """Whether an option has the value that is typed already; a group never does."""
    node: Any = options
    try:
        typed = parse(override)
        for part in typed.key_or_group.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return False
            node = node[part]
        new = typed.value()
    except (ConfigError, OmegaConfBaseException):
        return False
    return new == node and isinstance(new, bool) == isinstance(node, bool)


def length_of(config_name: str) -> str:
    """Name of the option that says how long a run of this command is."""
    target = YamlFile(config_dir() / f"{config_name}.yaml").content["_target_"]
    return cast(type[RootConfig], import_target(target, "_target_")).LENGTH


def _change(options: Tree, override: str, length: str) -> None:
    """Apply one override to the saved options, of which `length` says how long the run is.

    Raises:
        ConfigError: it is not one of those that may change, or it would shorten the run.
    """
    if is_so(options, override):
        return
    key, _, value = override.partition("=")
    refuse_fixed(override, length)
    *path, name = key.split(".")
    node: Any = options
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in node:
        raise ConfigError(f"unknown option {key}: this run has no such option")
    try:
        new = OmegaConf.from_dotlist([f"value={value}"]).value
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot read {override!r}: expected option=value") from error
    whole = all(isinstance(number, int) for number in (new, node[name]))  # `build` refuses what is not
    if key == length and whole and new < node[name]:
        raise ConfigError(f"{override} is less than the run's own {key}={node[name]}")
    node[name] = new
