"""Measure cost side by side: `python scripts/bench.py suite=gradients`."""

import importlib
from dataclasses import dataclass
from typing import Literal

from core.checks import require
from core.run.launch import tool

MODELS = ("5k", "90k", "1M", "resnet18")


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What to measure; conf/bench.yaml explains each option."""

    suite: Literal["gradients"]
    rounds: int
    models: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.rounds >= 3, "rounds", self.rounds, "an integer >= 3")
        for model in self.models:
            require(model in MODELS, "models", model, f"some of {', '.join(MODELS)}")


def bench(cfg: BenchConfig) -> None:
    """Run one suite; each is a file of its own, with its own imports."""
    importlib.import_module(f"core.scripts.suites.{cfg.suite}").run(cfg)


def main() -> None:
    tool("bench", bench)


if __name__ == "__main__":
    main()
