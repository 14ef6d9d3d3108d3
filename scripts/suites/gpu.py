"""What needs a GPU: environments as tensors with their learner on it, and the grid of a GAN's steps.

Without one there is nothing to measure, which is said.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import device_envs, gan_grid

if TYPE_CHECKING:
    from scripts.bench import BenchConfig

NONE = "no GPU here, so nothing was measured: suite=gpu wants a CUDA device"


def run(cfg: "BenchConfig") -> None:
    """Run both where there is a CUDA device."""
    if not torch.cuda.is_available():
        print(NONE)
        return
    device_envs.run(cfg)
    gan_grid.measure(cfg, torch.device("cuda"), Path(cfg.folder or "runs/gpu"))
