"""The seconds of a run, over its resumptions."""

import time

import pytest

from core.run.clocks import Clocks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Both clocks of the machine, to be moved by hand."""
    now = {"perf_counter": 1000.0, "process_time": 50.0}
    for name in now:
        monkeypatch.setattr(time, name, lambda name=name: now[name])
    return now


def test_seconds_are_counted_from_the_beginning(clock: dict[str, float]) -> None:
    clocks = Clocks()
    assert clocks.seconds() == {"wall_s": 0.0, "cpu_s": 0.0}
    clock |= {"perf_counter": 1010.0, "process_time": 54.0}
    assert clocks.seconds() == {"wall_s": 10.0, "cpu_s": 4.0}


def test_a_resumed_run_adds_what_it_had_used_before(clock: dict[str, float]) -> None:
    clocks = Clocks()
    clocks.continue_from({"step": 3, "wall_s": 100.0, "cpu_s": 90.0})
    clock |= {"perf_counter": 1001.0, "process_time": 52.0}
    assert clocks.seconds() == {"wall_s": 101.0, "cpu_s": 92.0}


def test_waiting_costs_wall_time_alone() -> None:
    clocks = Clocks()
    time.sleep(0.3)
    seconds = clocks.seconds()
    assert seconds["wall_s"] >= 0.3
    assert 0.0 <= seconds["cpu_s"] < seconds["wall_s"]
