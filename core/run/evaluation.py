"""What an evaluation is: numbers by tag, and a score."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.numbers import plain_number

PRINTED = 4  # numbers of an evaluation that fit in a line; the curves show all of them


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: scalars by tag, and a score (higher is better) that decides `best.pt`."""

    metrics: dict[str, float]
    score: float

    def line(self) -> str:
        """Its first numbers, as they are printed."""
        printed = [item for item in self.metrics.items() if item[0].startswith("eval/")][:PRINTED]
        return "  ".join(f"{tag} {plain_number(value)}" for tag, value in printed)


def below_eval(measured: Mapping[str, object]) -> dict[str, float]:
    """Every number as a point of a curve."""
    numbers = {key: float(value) for key, value in measured.items() if isinstance(value, int | float)}
    return {f"eval/{key.removeprefix('eval_')}": value for key, value in numbers.items()}
