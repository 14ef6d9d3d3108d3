"""Everything that a run logs goes through here: to its event file, and to each other logger."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from core.config import ConfigError, Tree, flat
from core.draw.media import Media
from core.errors import described
from core.run.dashboard import Dashboard, Page
from core.run.files import read_json, to_yaml, write_media, write_text
from core.run.loggers.logger import Logger, Opening, Sink
from core.run.loggers.tensorboard import TensorBoard
from core.run.tensorboard import Writer, curves_until

FILE = "loggers.json"  # in which run of each service this run is
Chosen = dict[str, Logger | TensorBoard]


@dataclass(frozen=True)
class Start:
    """How a run was started.

    Attributes:
        command: what was typed, quoted for a shell; empty where nothing was.
        typed: values of the options that were typed, by name.
        swept: names of those in which the jobs of a sweep differ.
    """

    command: str = ""
    typed: Mapping[str, object] = field(default_factory=dict)
    swept: tuple[str, ...] = ()


class Loggers:
    """The event file and the sinks of a run.

    What the event file refuses ends the run, because nobody could read the run without it. A sink that fails
    is left out from then on; that is said once, and the training goes on.

    Args:
        chosen: by name.
        say: prints one line.

    Attributes:
        events: the event file, since `open`.
    """

    def __init__(self, chosen: Chosen, say: Callable[[str], None]) -> None:
        self._chosen = {name: each for name, each in chosen.items() if not isinstance(each, TensorBoard)}
        self._say = say
        self._sinks: dict[str, Sink] = {}
        self.events: Writer

    def open(
        self,
        directory: Path,
        options: Tree,
        resumed_at: int | None,
        dashboard: Dashboard | None = None,
        headline: tuple[str, ...] = (),
        start: Start | None = None,
    ) -> None:
        """Begin, or go on after the step at which the run is resumed.

        Args:
            directory: of the run.
            options: the run's, resolved.
            resumed_at: None where it begins.
            dashboard: what TensorBoard shows at first sight.
            headline: tags of the curves that stand for the run in a table of runs.
            start: what was typed.

        Raises:
            ConfigError: the file that names the runs of the services is damaged.
            DiskError: the event file cannot be written.
        """
        self.directory = directory
        dashboard, start = dashboard or Dashboard(), start or Start()
        self._page = Page(dashboard)
        noted = _noted(directory)
        self.events = Writer(directory, None if resumed_at is None else resumed_at + 1)
        if resumed_at is None:
            names = {tag: dashboard.names.get(tag, tag) for tag in headline}
            self.events.hparams(flat(options), start.typed, start.swept, names)
            self.events.text("about", dashboard.card(start.command, _facts(directory, options)), 0)
            self.events.text("config", indent(to_yaml(options), "    "), 0)
        else:
            self._page.add(curves_until(directory, resumed_at))
        states = dict(noted)
        for name, logger in self._chosen.items():
            with self._optional(name):
                self._sinks[name] = sink = logger.open(
                    Opening(directory, options, resumed_at, noted.get(name, {}))
                )
                states |= {name: state} if (state := sink.state()) else {}
        if states != noted:
            write_text(directory / FILE, json.dumps(states, indent=2) + "\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one point of each of these curves."""
        self.events.scalars(values, step)
        if (layout := self._page.add(values)) is not None:
            self.events.layout(layout, step)
        self._each(lambda sink: sink.scalars(values, step))

    def media(self, tag: str, media: Media, step: int) -> None:
        """Show a picture or a video, whose latest file is in `media/`: the loggers keep the history."""
        data, path = write_media(self.directory / "media", tag.replace("/", "_"), media)
        self.events.media(tag, media, data, step)
        self._each(lambda sink: sink.media(tag, path, step))

    def findings(self, markdown: str, step: int) -> None:
        """Show all findings so far."""
        self.events.text("findings", markdown, step)
        self._each(lambda sink: sink.findings(markdown, step))

    def summary(self, summary: Mapping[str, object]) -> None:
        """Hand on what the run's summary says."""
        self._each(lambda sink: sink.summary(summary))

    def close(self) -> None:
        """Close all of them."""
        self.events.close()
        self._each(lambda sink: sink.close())
        self._sinks = {}

    def _each(self, use: Callable[[Sink], None]) -> None:
        for name, sink in tuple(self._sinks.items()):
            with self._optional(name):
                use(sink)

    @contextmanager
    def _optional(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the training can do without
            self._sinks.pop(name, None)
            self._say(f"left out, and the training goes on: logger={name}: {described(error)}")


def _facts(directory: Path, options: Tree) -> dict[str, object]:
    """Single words about a run, for its card."""
    tags = ", ".join(map(str, options.get("tags") or ())) or None  # the options hold what was typed: tags=[1]
    facts: dict[str, object] = {"directory": f"`{directory}`", "tags": tags}
    facts |= {key: options.get(key) for key in ("seed", "device")}
    return {key: value for key, value in facts.items() if value is not None}


def check_loggers(chosen: Chosen) -> None:
    """Refuse a logger whose library is missing, before anything is made.

    Raises:
        ConfigError: names the first, and its extra.
    """
    for logger in chosen.values():
        logger.check()


def _noted(directory: Path) -> dict[str, dict[str, str]]:
    """What the sinks of this run's first start have noted, by name.

    Raises:
        ConfigError: the file holds something else.
    """
    path = directory / FILE
    noted = read_json(path) if path.exists() else {}
    if not isinstance(noted, dict) or not all(_is_state(state) for state in noted.values()):
        raise ConfigError(f"{path} is damaged: it names no runs")
    return noted


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and all(isinstance(value, str) for value in state.values())
