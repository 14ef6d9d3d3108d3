"""Run directories written by hand, for the tests of the reports."""

from pathlib import Path

import numpy as np

from core.draw.media import Image, encode
from core.report.page import write_page
from core.run.directory import write_summary
from core.run.tensorboard import Writer
from scripts.report import kind_of

RL_OPTIONS = """
_target_: gradrl.train.TrainConfig
schedule: null
monitor: null
probe: null
diagnosis: null
logger: {}
policy: null
agent: {_target_: gradrl.agents.ppo.PPO, gamma: 0.98}
env: {id: 'Cart<b>Pole</b>-v1'}
optimizer: {_target_: torch.optim.Adam, lr: 0.001}
clipper: null
evaluation: {deterministic: true}
seed: 7
total_steps: 4000
"""
GAN_OPTIONS = """
_target_: gradgan.train.TrainConfig
data: {_target_: gradgan.data.mixtures.Grid, side: 5, std: 0.05}
loss: {_target_: gradgan.losses.relativistic.Relativistic}
seed: 1
total_images: 4000
"""
RL_SUMMARY = {
    "status": "finished",
    "versions": {"torch": "2.99.1"},
    "git": {"commit": "abcdef0123456789", "dirty": True},
    "device": "cpu",
    "wall_s": 300.0,
    "unit": "env steps",
    "env_steps": 4000,
    "env_steps_per_s": 1234.4,
    "eval_return_mean": 487.25,
    "eval_return_std": 21.5,
    "eval_episodes": 100,
    "eval_episodes_capped": 0,
    "best_eval_return_mean": 499.0,
    "solved_at_env_steps": 3072,
    "solved_at_wall_s": 200.0,
}

RL_CURVES = {
    "episode/return": 100.0,
    "gradient/norm": 2.0,
    "gradient/norm_clipped": 0.5,
    "gradient/clipped": 0.25,
    "gradient/skipped": 0.0,
    "layer/actor.0.weight/gradient_norm": 1.5,
    "layer/actor.0.weight/update_ratio": 4e-4,
}


def make_run(
    directory: Path, options: str, curves: dict[str, float], summary: dict | None, points: int = 40
) -> Path:
    """A run directory as the trainers leave it; every curve is constant, its points 100 steps apart."""
    directory.mkdir()
    (directory / "config.yaml").write_text(options)
    writer = Writer(directory)
    for i in range(points):
        writer.scalars(curves, 100 * (i + 1))
    writer.close()
    if summary is not None:
        write_summary(directory, summary)
    (directory / "media").mkdir()
    data, _ = encode(Image(np.zeros((6, 10, 3), dtype=np.uint8)))
    (directory / "media" / "gradient_heat_map.png").write_bytes(data)
    return directory


def page_of(directory: Path, against: Path | None = None) -> str:
    """The page as the command writes it."""
    return write_page(directory, against, kind_of).read_text(encoding="utf-8")
