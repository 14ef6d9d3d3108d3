"""Every so many cases of a table at once, the others in `make slow` or `make long`."""

from collections.abc import Iterable

import pytest


def thinned(cases: Iterable[object], every: int = 3, mark: pytest.MarkDecorator = pytest.mark.slow) -> list:
    """The cases as parameters of a test; all but the first of every `every` are marked."""
    found = []
    for number, case in enumerate(cases):
        values = case if isinstance(case, tuple) else (case,)
        found.append(pytest.param(*values, marks=[mark] * (number % every > 0)))
    return found
