"""Measure a checkpoint again: `evaluate.py run=DIR episodes=100`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from annotated_types import Ge, Gt

from core.checks import Finite, checked, require
from core.cli.command import tool
from core.config import ConfigError
from core.numbers import plain_number

if TYPE_CHECKING:
    from gradgan.features import Features


EPISODES, SAMPLES = 100, 10_000  # where the options are null
OF_AGENTS = ("episodes", "deterministic")
OF_GENERATORS = ("samples", "features", "truncation")


@dataclass(frozen=True, kw_only=True)
@checked
class EvaluateConfig:
    """What to measure; conf/evaluate.yaml explains each option."""

    run: str | None
    checkpoint: Literal["last", "best", "good"]
    episodes: Annotated[int | None, Ge(1)]
    deterministic: bool | None
    samples: Annotated[int | None, Ge(2)]
    features: object | None
    render: Literal["human", "mp4", "gif", "none"]
    truncation: Annotated[float | None, Gt(0), Finite]
    seed: Annotated[int | None, Ge(0)]

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory: type run=DIR")


def evaluate(cfg: EvaluateConfig) -> None:
    """Measure, print, and keep the result in the run's directory.

    Raises:
        ConfigError: there is no such run or checkpoint, or it is damaged or of another network.
    """
    from core.cli.saved import saved_options
    from core.run.directory import jsonable
    from core.run.files import refuse_unwritable, write_text

    directory = Path(str(cfg.run))
    target = str(saved_options(directory)["_target_"])
    kind = target.partition(".")[0]
    if kind == "core":
        what = "watched loop" if target.startswith("core.watch.") else "descent"
        raise ConfigError(f"{directory} holds a {what}: its summary.json says all there is to measure")
    refuse_unwritable(directory / "evaluation.json")
    if kind == "gradrl":
        from gradrl.evaluate import evaluate_run as evaluate_agent

        _refuse(cfg, OF_GENERATORS, f"{directory} holds an agent")
        deterministic = cfg.deterministic is not False
        found = evaluate_agent(
            directory, cfg.episodes or EPISODES, cfg.checkpoint, deterministic, cfg.seed, cfg.render
        )
    else:
        from gradgan.evaluate import evaluate_run as evaluate_generator

        _refuse(cfg, OF_AGENTS, f"{directory} holds a generator")
        if cfg.render != "none":
            raise ConfigError(f"{directory} holds a generator, which has no episodes to render")
        found = evaluate_generator(
            directory,
            cfg.samples or SAMPLES,
            cfg.checkpoint,
            cfg.seed,
            features=cast("Features | None", cfg.features),
            truncation=cfg.truncation,
        )
    found = {"checkpoint": cfg.checkpoint, **found}
    for name, value in found.items():
        print(f"{name:<20} {plain_number(value) if isinstance(value, float) else value}")
    write_text(directory / "evaluation.json", json.dumps(jsonable(found), indent=2, allow_nan=False) + "\n")


def _refuse(cfg: EvaluateConfig, foreign: tuple[str, ...], holds: str) -> None:
    """Refuse options that would not be read.

    Raises:
        ConfigError: names them.
    """
    given = [name for name in foreign if getattr(cfg, name) is not None]
    if given:
        raise ConfigError(f"{holds}, which has no {' or '.join(given)}")


def main() -> None:
    tool("evaluate", evaluate)


if __name__ == "__main__":
    main()
