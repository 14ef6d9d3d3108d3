"""Progress fits into 80 columns and says how long the run still takes."""

import io
import re

import pytest
from rich.console import Console as Terminal

from core.run import pace
from core.run.console import BAR, Console
from core.run.pace import Pace

TAGS = ("episode/return", "loss/policy", "loss/value", "policy/entropy")
VALUES = dict.fromkeys(TAGS, -1234.5678)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("done", "after", "left"), [(10, 5.0, "45 s left"), (50, 600.0, "10 min left"), (1, 200.0, "5.5 h left")]
)
def test_the_time_left_is_the_rest_at_the_mean_pace(clock, done, after, left):
    watch = Pace()
    clock[0] = after
    assert watch.left(done, 100) == left


def test_what_was_done_before_the_clock_started_counts_for_nothing(clock):
    watch = Pace(None)
    clock[0] = 100.0  # before the first count: imports, compilation
    assert watch.left(1000, 2000) == ""
    clock[0] = 110.0
    assert watch.left(1100, 2000) == "90 s left"
    assert watch.left(2000, 2000) == ""


def test_a_line_is_due_every_ten_seconds(clock):
    watch = Pace()
    clock[0] = 9.9
    assert not watch.due()
    clock[0] = 10.0
    assert watch.due()
    assert not watch.due()


def test_a_plain_line_has_the_time_left_and_as_many_numbers_as_fit_80_columns(clock, capsys):
    console = Console(123_456_789, "env steps", TAGS, quiet=False)
    console.update(1_000_000, VALUES)
    clock[0] = 30.0
    console.update(61_728_395, VALUES)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(" 61,728,395 / 123,456,789 env steps   30 s left   episode/return -1,235")
    assert len(line) <= 80
    assert "loss/policy" not in line


def test_a_quiet_run_prints_no_line(clock, capsys):
    console = Console(100, "steps", TAGS, quiet=True)
    clock[0] = 60.0
    console.update(50, VALUES)
    assert capsys.readouterr().out == ""


def test_the_bar_fits_a_terminal_of_80_columns(clock, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    console = Console(123_456_789, "environment steps", TAGS, quiet=False)
    bar = console._bar
    assert bar is not None
    console.close()
    bar.live.console = Terminal(file=io.StringIO(), width=80, force_terminal=True)
    console.update(1_000_000, VALUES)
    clock[0] = 30.0
    console.update(61_728_395, VALUES)
    with bar.live.console.capture() as shown:
        bar.live.console.print(bar.get_renderable())
    (line,) = re.sub(r"\x1b\[[0-9;]*m", "", shown.get()).rstrip("\n").splitlines()
    assert len(line) <= 80
    assert line[BAR:].strip() == "61,728,395 / 123,456,789 environment steps   30 s left"
