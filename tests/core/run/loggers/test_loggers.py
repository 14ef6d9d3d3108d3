"""The fan-out: every sink receives what the event file does; one that fails is left out, said once."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from core.config import ConfigError
from core.draw.media import Image
from core.errors import DiskError
from core.run.dashboard import Dashboard, Panel
from core.run.loggers.logger import Opening, require_installed
from core.run.loggers.loggers import Loggers, check_loggers
from core.run.loggers.tensorboard import TensorBoard
from core.run.tensorboard import read_scalars


class Sink:
    """Notes everything."""

    def __init__(self, fails_in: str) -> None:
        self.seen, self.fails_in = [], fails_in

    def note(self, what, *details):
        self.seen.append((what, *details))
        if what == self.fails_in:
            raise OSError("the network is down\nfor good")

    def state(self):
        self.note("state")
        return {"id": "abc"}

    def scalars(self, values, step):
        self.note("scalars", dict(values), step)

    def media(self, tag, path, step):
        self.note("media", tag, path.name, path.read_bytes()[:4], step)

    def findings(self, markdown, step):
        self.note("findings", markdown, step)

    def summary(self, summary):
        self.note("summary", summary["status"])

    def close(self):
        self.note("close")


@dataclass(frozen=True)
class Notes:
    """Opens a sink that notes everything."""

    fails_in: str = ""
    opened: list = field(default_factory=list)

    def check(self):
        pass

    def open(self, opening: Opening):
        if self.fails_in == "open":
            raise ConnectionError
        sink = Sink(self.fails_in)
        self.opened.append((opening, sink))
        return sink


def use(loggers: Loggers, directory: Path, resumed_at: int | None = None) -> None:
    loggers.open(directory, {"seed": 1}, resumed_at)
    loggers.scalars({"loss": 0.5}, 10)
    loggers.media("game/view", Image(np.zeros((2, 2, 3), np.uint8)), 10)
    loggers.findings("| what |", 10)
    loggers.summary({"status": "finished"})
    loggers.close()


ALL = [
    ("state",),
    ("scalars", {"loss": 0.5}, 10),
    ("media", "game/view", "game_view.png", b"\x89PNG", 10),
    ("findings", "| what |", 10),
    ("summary", "finished"),
    ("close",),
]


def test_every_sink_receives_everything_in_order_and_the_event_file_is_always_there(tmp_path):
    first, second = Notes(), Notes()
    use(Loggers({"a": first, "tensorboard": TensorBoard(), "b": second}, print), tmp_path)
    assert first.opened[0][1].seen == second.opened[0][1].seen == ALL
    assert read_scalars(tmp_path) == {"loss": {10: 0.5}}
    assert (tmp_path / "media" / "game_view.png").exists()


@pytest.mark.parametrize("fails_in", ["open", "state", "scalars", "media", "findings", "summary", "close"])
def test_a_sink_that_fails_is_left_out_once_and_the_others_lose_nothing(tmp_path, fails_in):
    said, failing, other = [], Notes(fails_in), Notes()
    use(Loggers({"bad": failing, "good": other}, said.append), tmp_path)
    assert other.opened[0][1].seen == ALL
    (line,) = said
    assert line.startswith("left out, and the training goes on: logger=bad: ")
    assert "\n" not in line
    if fails_in != "open":
        assert "OSError: the network is down for good" in line
        seen = failing.opened[0][1].seen
        assert seen == ALL[: [each[0] for each in ALL].index(fails_in) + 1]


def test_a_sink_finds_its_own_run_again_and_knows_from_where_it_goes_on(tmp_path):
    first, again = Notes(), Notes()
    use(Loggers({"notes": first}, print), tmp_path)
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"notes": {"id": "abc"}}
    use(Loggers({"notes": again}, print), tmp_path, resumed_at=7)
    openings = [opened[0][0] for opened in (first.opened, again.opened)]
    assert [(each.state, each.resumed_at) for each in openings] == [({}, None), ({"id": "abc"}, 7)]
    assert openings[0].name == f"{tmp_path.parent.name}-{tmp_path.name}"


def layouts(directory: Path) -> list[tuple[int, dict[str, list[str]]]]:
    """Step and titles by section of each layout that was written."""
    found = []
    for path in sorted(directory.glob("events*"), key=lambda path: path.stat().st_mtime_ns):
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                if value.tag == "custom_scalars__config__":
                    layout = Layout.FromString(value.tensor.string_val[0])
                    found.append((event.step, {c.title: [h.title for h in c.chart] for c in layout.category}))
    return found


def test_the_page_grows_with_the_curves_also_of_a_run_that_is_resumed(tmp_path):
    panels = tuple(Panel(title, (f"{title}$",)) for title in ("loss", "late", "last"))
    for resumed_at, points in (
        (None, {1: "loss", 2: "loss", 3: "late"}),
        (2, {3: "late", 4: "loss", 5: "last"}),
    ):
        loggers = Loggers({}, print)
        loggers.open(tmp_path, {}, resumed_at, Dashboard(sections={"All": panels}))
        for step, tag in points.items():
            loggers.scalars({tag: 1.0}, step)
        loggers.close()
    assert layouts(tmp_path) == [
        (1, {"All": ["loss"]}), (3, {"All": ["loss", "late"]}),
        (3, {"All": ["loss", "late"]}), (5, {"All": ["loss", "late", "last"]}),
    ]  # fmt: skip


def test_a_run_has_its_own_name_and_tags_or_that_of_its_directory(tmp_path):
    named = Opening(tmp_path / "a" / "b", {"name": "mine", "tags": ["x", "y"]}, None, {})
    assert (named.name, named.tags) == ("mine", ["x", "y"])
    plain = Opening(tmp_path / "a" / "b", {"name": None, "tags": []}, None, {})
    assert (plain.name, plain.tags) == ("a-b", [])


def test_tags_may_be_numbers(tmp_path):
    loggers = Loggers({}, print)
    loggers.open(tmp_path, {"tags": [7, "x"]}, None)
    loggers.close()
    [file] = tmp_path.glob("events*")
    found = [Event.FromString(raw) for raw in RawEventFileLoader(str(file)).Load()]
    texts = [
        value.tensor.string_val[0].decode()
        for e in found
        for value in e.summary.value
        if value.tag == "about/text_summary"
    ]
    assert "7, x" in "".join(texts)
    assert Opening(tmp_path, {"tags": [7, "x"]}, None, {}).tags == ["7", "x"]


@pytest.mark.parametrize("text", ["[]", "{", '{"wandb": 3}', '{"wandb": {"id": 3}}'])
def test_a_damaged_note_of_runs_is_said(tmp_path, text):
    (tmp_path / "loggers.json").write_text(text)
    with pytest.raises(ConfigError, match=r"loggers\.json is damaged"):
        Loggers({}, print).open(tmp_path, {}, None)


def test_what_the_event_file_cannot_write_is_raised(tmp_path, monkeypatch):
    loggers = Loggers({"good": Notes()}, print)
    loggers.open(tmp_path, {}, None)

    def full(*_):
        raise DiskError("the disk is full")

    monkeypatch.setattr(loggers.events, "scalars", full)
    with pytest.raises(DiskError):
        loggers.scalars({"loss": 1.0}, 1)
    loggers.close()


def test_a_library_that_is_missing_is_refused_by_its_extra_and_a_folder_of_its_name_is_none(
    tmp_path, monkeypatch
):
    (tmp_path / "no_such_library").mkdir()  # as W&B leaves one
    monkeypatch.syspath_prepend(tmp_path)
    for library in ("no_such_library", "none_at_all"):
        with pytest.raises(ConfigError) as refused:
            require_installed("wandb", library)
        assert str(refused.value) == (
            f"logger=wandb needs {library}, not installed: pip install 'gradsight[wandb]'"
        )
    require_installed("csv", "torch")


def test_every_logger_is_checked(monkeypatch):
    asked = []
    monkeypatch.setattr(Notes, "check", lambda self: asked.append(self))
    chosen = {"a": Notes(), "b": Notes()}
    check_loggers(chosen)
    assert asked == list(chosen.values())
