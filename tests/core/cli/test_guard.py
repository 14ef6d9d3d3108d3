"""How a command tells a warning."""

import warnings

import pytest
from torch import nn

from core.cli.guard import guarded
from core.optim.factory import build_optimizer


@pytest.fixture(autouse=True)
def format_put_back(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)


def test_our_warning_is_one_line_and_anothers_says_where_it_comes_from():
    assert guarded(lambda: 0) == 0
    ours = warnings.formatwarning("two\nlines", UserWarning, build_optimizer.__code__.co_filename, 3)
    assert ours == "warning: two lines\n"
    other = nn.Linear.__init__.__code__.co_filename
    assert warnings.formatwarning("odd", UserWarning, other, 7) == f"warning: odd ({other}:7)\n"
