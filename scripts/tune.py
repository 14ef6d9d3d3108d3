"""Search for good options of a trainer: `tune.py search=ppo env=acrobot total_steps=50000 trials=20`."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli.command import outer_tool, typed_command
from core.config import ConfigError

if TYPE_CHECKING:
    from core.tune.config import TuneConfig


def tune(cfg: "TuneConfig", words: list[str], folders: list[Path]) -> int:
    """Run trials of the trainer with these words, and say which options were best."""
    from core.tune.search import search

    arguments = sys.argv[1:]
    command = typed_command(arguments) or "gradsight-tune"
    own = [each for each in arguments if each.partition("=")[0] != "study"]
    return search(cfg, words, folders, f"{command} {shlex.join(own)}")


def require_optuna() -> None:
    """Refuse to begin where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise ConfigError("a search needs optuna, not installed: pip install 'gradsight[tune]'")


def main() -> None:
    outer_tool("tune", tune, require_optuna)


if __name__ == "__main__":
    main()
