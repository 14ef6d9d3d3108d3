"""Continue an interrupted run from its own directory, with its own options."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from core.run.config import ConfigError, plain
from core.run.job import check, execute

# What a resumed run may change: how long it is, how it is logged, where it runs.
PROLONG = ("total_steps", "total_images", "logging.", "device", "num_threads")


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
    from core.run.directory import is_run
    from core.run.run import already_finished

    if not is_run(directory):
        raise ConfigError(f"resume={directory}: there is no run in this directory")
    # A run killed in its first moments has only Hydra's own copy, which is the same tree.
    saved = directory / "config.yaml"
    saved = saved if saved.exists() else directory / ".hydra" / "config.yaml"
    try:
        tree = OmegaConf.load(saved)
        if not isinstance(tree, DictConfig):
            raise ConfigError(f"{saved} is damaged: it holds no options")
        for word in words:
            _change(tree, word, saved)
        options = plain(tree)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{saved} is damaged: {error}") from error
    if already_finished(directory, options.get("total_steps", options.get("total_images", 0))):
        print(f"{directory} is already finished; nothing to do")
        return 0
    check(options)
    return execute(options, directory)


def _change(tree: DictConfig, word: str, saved: Path) -> None:
    """Apply one word to the saved options.

    Raises:
        ConfigError: it is not one of those that may change, or it would shorten the run.
    """
    key, _, value = word.partition("=")
    if not key.startswith(PROLONG):
        raise ConfigError(
            f"{word} cannot change while resuming; only total_steps, total_images, logging.*, device and "
            "num_threads can"
        )
    old = OmegaConf.select(tree, key)
    if old is None:
        raise ConfigError(f"unknown option {key}: {saved} has none of that name")
    new = OmegaConf.from_dotlist([f"value={value}"]).value
    if key.startswith("total_") and isinstance(new, int) and new < old:
        raise ConfigError(f"{word} is less than the {key}={old} that the run has")
    OmegaConf.update(tree, key, new)
