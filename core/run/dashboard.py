"""What TensorBoard shows of a run at first sight: its curves side by side, and a card on how to read them.

A panel is shown as soon as one of its curves exists, so that no chart of the page stays empty.
"""

# pyright: reportAttributeAccessIssue=false
# protobuf makes the names of its modules when they are imported.

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.config import Tree

Layout = dict[str, dict[str, tuple[str, ...]]]  # regular expressions of tags, by section and title
URL = "http://localhost:6006/#custom_scalars"  # the page, where TensorBoard runs on this machine
LEAD = (
    "**CUSTOM SCALARS** ({url}) shows the curves below side by side; every layer is a line of one chart. "
    "TIME SERIES has each curve alone. The curves of one run have one colour and different shapes: point at "
    "one to read its name. The middle button below a chart makes its axis logarithmic, for curves that "
    "differ by powers of ten."
)


@dataclass(frozen=True)
class Panel:
    """A chart of the page.

    Attributes:
        title: of the chart; no other of its section has it.
        tags: regular expressions; it shows the curves whose whole tag one of them matches.
        caption: what the curves are and how to read them.
        alternative: of those of a section, only the first that has a curve is shown.
    """

    title: str
    tags: tuple[str, ...]
    caption: str = ""
    alternative: bool = False

    def shows(self, tags: Iterable[str]) -> bool:
        """Whether any of these curves is in it."""
        return any(re.match(pattern, tag) for tag in tags for pattern in self.tags)


@dataclass(frozen=True)
class Dashboard:
    """All that TensorBoard is told of a run besides its curves.

    Attributes:
        title: what ran, on what.
        sections: panels by heading, in the order of the page.
        names: what a reader calls a curve, by its tag; for the table of hyper-parameters.
    """

    title: str = "Run"
    sections: Mapping[str, tuple[Panel, ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def card(self, command: str, facts: Mapping[str, object]) -> str:
        """What ran and how to read its curves, as Markdown.

        Args:
            command: what was typed; empty where nothing was.
            facts: single words about the run, by name.
        """
        lines = [f"# {self.title}"]
        if command:
            lines += ["", *(f"    {line}" for line in _folded(command))]
        lines += ["", *(f"- {name}: {value}" for name, value in facts.items())]
        lines += ["", LEAD.format(url=URL)]
        explained: set[str] = set()
        for heading, panels in self.sections.items():
            new = [panel for panel in panels if panel.caption and panel.caption not in explained]
            explained.update(panel.caption for panel in new)
            if new:
                lines += ["", f"## {heading}", "", *(f"- **{p.title}**: {p.caption}" for p in new)]
        return "\n".join(lines)


def _folded(command: str) -> list[str]:
    """A long command in lines that a shell joins."""
    lines = textwrap.wrap(command, 88, break_long_words=False, break_on_hyphens=False)
    return [*(f"{line} \\" for line in lines[:-1]), *lines[-1:]]


Dashboards = Callable[[Tree, Sequence[str]], Dashboard]  # from a run's options and its gradient steps' names


class Page:
    """The layout of a run's page, which grows with its curves.

    Args:
        dashboard: all panels that there can be.
    """

    def __init__(self, dashboard: Dashboard) -> None:
        self._sections = dashboard.sections
        self._tags: set[str] = set()
        self._shown: Layout = {}

    def add(self, tags: Iterable[str]) -> Layout | None:
        """Take in the tags of a point; the whole new layout where a panel has its first curve, else None."""
        new = set(tags) - self._tags
        if not new:
            return None
        self._tags |= new
        layout: Layout = {}
        for heading, panels in self._sections.items():
            before = self._shown.get(heading, {})
            there = [p for p in panels if p.title in before or p.shows(new)]
            left_out = [p for p in there if p.alternative][1:]
            shown = {p.title: p.tags for p in there if p not in left_out}
            layout |= {heading: shown} if shown else {}
        grown, self._shown = layout != self._shown, layout
        return layout if grown else None
