"""Every so many cases of a table at once, the others in `make slow`."""

from collections.abc import Iterable

import pytest


def thinned(cases: Iterable[object], every: int = 3) -> list:
    """The cases as parameters of a test; all but the first of every `every` are slow."""
    found = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=[pytest.mark.slow] * (number % every > 0)))
    return found
