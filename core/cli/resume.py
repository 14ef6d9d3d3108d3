"""Continue an interrupted run from its own directory, with its own options."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from core.cli.job import check, execute
from core.config import ConfigError, Tree, build

# What a resumed run may change: how long it is, how it is logged, where it runs.
LENGTHS = ("total_steps", "total_images", "steps")  # a run has one of these
PROLONG = (*LENGTHS, "logging.", "device", "num_threads")


def resume_run(directory: Path, words: Sequence[str]) -> int:
    """Continue the run in `directory`; a finished one is left as it is.

    Args:
        directory: a run directory.
        words: the other words of the command line; they may only prolong, log or place the run.

    Returns:
        The exit status.

    Raises:
        ConfigError: there is no run, it is damaged or in use, or a word would change what it computes.
    """
    from core.cli.saved import saved_options
    from core.run.directory import already_finished

    options = saved_options(directory)
    for word in words:
        _change(options, word)
    build(options)  # the words' types and ranges, before the new total is compared
    if already_finished(directory, next((options[name] for name in LENGTHS if name in options), 0)):
        print(f"{directory} is already finished; nothing to do")
        return 0
    check(options)
    if not (directory / "checkpoints" / "last.pt").exists():
        print(f"{directory} has no checkpoint yet: starting again from the beginning", flush=True)
    return execute(options, directory, continuing=True)


def _change(options: Tree, word: str) -> None:
    """Apply one word to the saved options.

    Raises:
        ConfigError: it is not one of those that may change, or it would shorten the run.
    """
    key, _, value = word.partition("=")
    if not key.startswith(PROLONG):
        raise ConfigError(
            f"{word} cannot change while resuming; only {', '.join(LENGTHS)}, logging.*, device and "
            "num_threads can"
        )
    *path, name = key.split(".")
    node: Any = options
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in node:
        raise ConfigError(f"unknown option {key}: this run has none of that name")
    try:
        new = OmegaConf.from_dotlist([f"value={value}"]).value
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot read {word!r}: expected option=value") from error
    whole = all(isinstance(number, int) for number in (new, node[name]))  # `build` refuses what is not
    if key in LENGTHS and whole and new < node[name]:
        raise ConfigError(f"{word} is less than the {key}={node[name]} that the run has")
    node[name] = new
