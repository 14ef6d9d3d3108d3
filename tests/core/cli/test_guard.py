"""How a command tells a warning."""

import warnings

import pytest
from torch import nn

from core.cli.guard import guarded
from core.errors import described
from core.optim.factory import build_optimizer
from core.text import told


@pytest.fixture(autouse=True)
def format_put_back(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)


def test_our_warning_is_one_line_and_anothers_says_where_it_comes_from():
    assert guarded(lambda: 0) == 0
    ours = warnings.formatwarning("two\nlines", UserWarning, build_optimizer.__code__.co_filename, 3)
    assert ours == "warning: two lines\n"
    other = nn.Linear.__init__.__code__.co_filename
    assert warnings.formatwarning("odd", UserWarning, other, 7) == f"warning: odd ({other}:7)\n"


def test_the_colours_of_a_library_stay_in_its_terminal():
    assert guarded(lambda: 0) == 0
    coloured = "\x1b[33mWARN: \x1b[1;31mred\x1b[0m\x1b[0m"
    assert warnings.formatwarning(coloured, UserWarning, "x.py", 7) == "warning: WARN: red (x.py:7)\n"
    assert told(ValueError(coloured)) == "WARN: red"
    assert described(ValueError(coloured)) == "ValueError: WARN: red"
