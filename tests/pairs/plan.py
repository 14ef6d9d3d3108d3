"""Greedy covering arrays where the options that exist depend on what else is chosen.

A covering array, as libraries make it, is a table of factors that every row has. Here `agent=sac` has other
options than `agent=ppo`, so each run is put together from its own tree: group by group and option by
option, always the value that stands beside most of what it has not stood beside before.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from random import Random

from tests.pairs.space import Space, key

TYPED = 0.4  # share of a tree's options that one run types
CHOSEN = 0.75  # share of the groups of which one run chooses

Pair = frozenset[str]


class Planner:
    """Plans runs of one program.

    Attributes:
        possible: pairs of overrides that some planned tree had room for.
        covered: pairs that were typed together in a planned run.
    """

    def __init__(self, space: Space, random: Random) -> None:
        self.space, self.random, self.groups = space, random, space.groups()
        self.possible: set[Pair] = set()
        self.covered: set[Pair] = set()
        self.left_out: Counter[str] = Counter()

    def next(self) -> list[str]:
        """The overrides of one run, those first that were least often looked at by leaving them out."""
        overrides: list[str] = []
        for group in self._some(self.groups, CHOSEN):
            overrides.append(self._newest([f"{group}={choice}" for choice in self.groups[group]], overrides))
        options = self.space.options(overrides)
        everything = [[f"{name}={value}" for value in values] for name, values in options.items()]
        everything += [[override] for override in overrides]
        for one, other in combinations(everything, 2):
            self.possible |= {frozenset((a, b)) for a in one for b in other}
        for name in self._some(options, TYPED):
            overrides.append(self._newest([f"{name}={value}" for value in options[name]], overrides))
        self.covered |= set(map(frozenset, combinations(overrides, 2)))
        return sorted(overrides, key=lambda override: (self.left_out[key(override)], self.random.random()))

    def tried(self, overrides: Iterable[str]) -> None:
        """Remember which overrides were left out once."""
        self.left_out.update(map(key, overrides))

    def _some(self, names: Iterable[str], share: float) -> list[str]:
        """A random part, in random order."""
        chosen = [name for name in names if self.random.random() < share]
        self.random.shuffle(chosen)
        return chosen

    def _newest(self, candidates: Sequence[str], overrides: Sequence[str]) -> str:
        """The candidate with most new pairs."""

        def new(override: str) -> tuple[int, float]:
            return sum(
                frozenset((override, other)) not in self.covered for other in overrides
            ), self.random.random()

        return max(candidates, key=new)
