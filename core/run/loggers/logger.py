"""What a logger is: options with a YAML file of their own, and the sink that they open."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.config import ConfigError, Tree


@dataclass(frozen=True)
class Opening:
    """What a sink is opened with.

    Attributes:
        directory: of the run.
        options: the run's, resolved.
        resumed_at: the step from which the run goes on; None where it begins.
        state: what the sink of this run's first start noted, by which it finds its own again.
    """

    directory: Path
    options: Tree
    resumed_at: int | None
    state: Mapping[str, str]

    @property
    def tags(self) -> list[str]:
        """The user's own words about it."""
        return [str(tag) for tag in self.options.get("tags") or ()]

    @property
    def name(self) -> str:
        """What a service calls it: its own name, or the last two of its directory, as in `rl-20260708`."""
        if self.options.get("name"):
            return str(self.options["name"])
        return "-".join(self.directory.absolute().parts[-2:])


class Sink(Protocol):
    """Receives what a run logs; it may fail, and is left out from then on."""

    def state(self) -> dict[str, str]:
        """What names the run in a service, so that a resumed run goes on in it."""
        ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points of curves, by tag; several calls at one step have different tags, or later values."""
        ...

    def media(self, tag: str, path: Path, step: int) -> None:
        """A picture (.png) or a video (.gif), in a file that the next one will replace."""
        ...

    def findings(self, markdown: str, step: int) -> None:
        """All findings so far, as a table in Markdown."""
        ...

    def summary(self, summary: Mapping[str, object]) -> None:
        """The content of `summary.json`: the run has ended, whatever its `status`."""
        ...

    def close(self) -> None:
        """The run has ended: hand over what is still to be sent. Called once, after `summary`."""
        ...


class Logger(Protocol):
    """Options of a logger, a frozen dataclass."""

    def check(self) -> None:
        """Refuse what cannot be, before anything is made.

        Raises:
            ConfigError: its library is not installed.
        """
        ...

    def open(self, opening: Opening) -> Sink:
        """Begin, or go on in the run that `opening.state` names."""
        ...


def require_installed(logger: str, library: str) -> None:
    """Check that a logger's library is there; it is not imported.

    Raises:
        ConfigError: it is not; names the extra.
    """
    from importlib.util import find_spec

    spec = find_spec(library)
    if spec is None or spec.origin is None:  # a folder of that name, such as the one W&B makes, is no package
        raise ConfigError(
            f"logger={logger} needs {library}, not installed: pip install 'gradsight[{logger}]'"
        )
