"""Continue an interrupted run from its own directory, with its own options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from core.cli.job import RootConfig, check, execute
from core.config import ConfigError, Tree, build, import_target

CHANGEABLE = ("logging.", "device", "num_threads")  # besides the run's length


def resume_run(directory: Path, overrides: Sequence[str]) -> int:
    """Continue the run in `directory`; a finished one is left as it is.

    Args:
        directory: a run directory.
        overrides: the others of the command line; they may only prolong, log or place the run.

    Returns:
        The exit status.

    Raises:
        ConfigError: there is no run, it is damaged or in use, or an override would change what it computes.
    """
    from core.cli.saved import saved_options
    from core.run.directory import already_finished

    options = saved_options(directory)
    length = cast(type[RootConfig], import_target(options["_target_"], "_target_")).LENGTH
    for override in overrides:
        _change(options, override, length)
    build(options)  # types and ranges, before the new length is compared
    if already_finished(directory, options[length]):
        print(f"{directory} is already finished; nothing to do")
        return 0
    check(options)
    if not (directory / "checkpoints" / "last.pt").exists():
        print(f"{directory} has no checkpoint yet: starting again from the beginning", flush=True)
    return execute(options, directory, continuing=True)


def _change(options: Tree, override: str, length: str) -> None:
    """Apply one override to the saved options, of which `length` says how long the run is.

    Raises:
        ConfigError: it is not one of those that may change, or it would shorten the run.
    """
    key, _, value = override.partition("=")
    if key != length and not key.startswith(CHANGEABLE):
        raise ConfigError(
            f"{override} cannot change while resuming; only {length}, logging.*, device and num_threads can"
        )
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
