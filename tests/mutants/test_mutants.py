"""The list of mutants is about the source as it is."""

import ast
from pathlib import Path

from tests.mutants.mutation import all_mutants

ROOT = Path(__file__).parents[2]


def test_every_mutant_still_applies_and_is_python():
    for mutant in all_mutants():
        ast.parse(mutant.mutated((ROOT / mutant.path).read_text()), mutant.path)
        assert all((ROOT / path).exists() for path in mutant.tests), mutant.tests


def test_the_list_is_long_and_nothing_is_in_it_twice():
    mutants = all_mutants()
    assert len(mutants) >= 120
    assert len({(m.path, m.old, m.new) for m in mutants}) == len(mutants)
