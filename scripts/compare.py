"""Compare runs over their seeds, in numbers and curves: `compare.py runs=[A,B] target=475`."""

from typing import TYPE_CHECKING

from core.cli.command import tool

if TYPE_CHECKING:
    from core.compare.comparison import CompareConfig


def compare(cfg: "CompareConfig") -> None:
    """Print the tables, draw the curves and say where they are."""
    from core.compare.comparison import compare_runs  # here, so that a misspelt option is answered at once
    from core.compare.find import score_of
    from core.watch.report import SCORE as LOSS
    from gradgan.report import SCORE as DISTANCE
    from gradrl.report import SCORE as RETURN

    print(compare_runs(cfg, score_of(cfg.runs or (), (RETURN, DISTANCE, LOSS))))


def main() -> None:
    tool("compare", compare)


if __name__ == "__main__":
    main()
