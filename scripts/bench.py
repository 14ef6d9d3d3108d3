"""Measure side by side: what diagnosis and replay find, what a rollback mends, what everything costs."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from core.checks import checked, require
from core.cli.command import tool
from core.run.files import make_folder
from core.run.interrupts import Stopped

MODELS = ("5k", "90k", "1M", "resnet18")
USED = {  # options that only some suites have
    "gradients": ("rounds", "models"),
    "rl": ("rounds", "total_steps", "rows", "folder"),
    "gan": ("rounds", "folder"),
    "gan_grid": ("rounds", "rows", "folder"),
    "gpu": ("rounds", "rows", "folder"),
    "device_envs": ("rounds",),
    "startup": ("rounds", "total_steps", "folder"),
    "ranks": ("rounds", "total_steps", "folder"),
    "diagnosis": ("rows", "folder"),
    "elsewhere": ("rows", "folder"),
    "real_faults": ("rows", "folder"),
    "replay": ("rows", "folder"),
    "rollback": ("rows", "folder"),
}


@dataclass(frozen=True, kw_only=True)
@checked
class BenchConfig:
    """What to measure; conf/bench.yaml explains each option. None stands for the suite's own."""

    suite: Literal[
        "gradients",
        "rl",
        "gan",
        "gan_grid",
        "device_envs",
        "gpu",
        "startup",
        "ranks",
        "diagnosis",
        "elsewhere",
        "real_faults",
        "rollback",
        "replay",
    ]
    rounds: Annotated[int | None, Ge(3)]
    models: tuple[str, ...] | None
    total_steps: Annotated[int | None, Ge(1024)]  # two rollouts at least: the clock begins after the first
    rows: tuple[str, ...] | None
    folder: str | None

    def __post_init__(self) -> None:
        used = USED[self.suite]
        for name in ("rounds", "models", "total_steps", "rows", "folder"):
            value = getattr(self, name)
            require(
                value is None or name in used, name, value, f"left out: suite={self.suite} does not use it"
            )
        for name in ("models", "rows"):
            require(getattr(self, name) != (), name, [], "left out, or name some")
        for model in self.models or ():
            require(model in MODELS, "models", model, f"some of {', '.join(MODELS)}")

    @property
    def networks(self) -> tuple[str, ...]:
        """The models asked for."""
        return self.models or MODELS


def bench(cfg: BenchConfig) -> None:
    """Run one suite; each is a file of its own, with its own imports."""
    if cfg.folder is not None:
        make_folder(Path(cfg.folder), "folder")
    try:
        importlib.import_module(f"core.scripts.suites.{cfg.suite}").run(cfg)
    except Stopped as stop:  # by a signal, in a training
        raise SystemExit(stop.status) from stop


def main() -> None:
    tool("bench", bench)


if __name__ == "__main__":
    main()
