"""A generator as what can be exported: latents, and labels where it is conditional, to samples."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from core.export.card import Card, measured, unmeasured
from core.export.formats import Exportable
from core.numbers import plain_number
from core.run import checkpoint as checkpoints
from core.run.directory import read_summary
from core.run.saved import Saved, read_saved
from gradgan.game.players import Generator
from gradgan.sampler import TRAINED, sampler_of


class GeneratorModule(nn.Module):
    """The averaged generator: images in [-1, 1], or points."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Samples [N, ...] of latents [N, L] and, where it is conditional, labels int64 [N]."""
        return (self.generator(*inputs),)


def exportable_generator(run: str | Path, checkpoint: str) -> tuple[Exportable, Saved]:
    """The averaged generator of a run as what can be exported; errors as `load_generator`."""
    saved = read_saved(run, TRAINED, checkpoint)
    sampler = sampler_of(saved)
    inputs = {"latent": torch.zeros(2, sampler.latent_size)}
    if sampler.num_classes is not None:
        inputs["label"] = torch.zeros(2, dtype=torch.int64)
    output = "image" if len(sampler.shape) > 1 else "point"
    return Exportable("generator", GeneratorModule(sampler.generator).eval(), inputs, (output,)), saved


def card(saved: Saved, checkpoint: str, command: str, versions: Mapping[str, str]) -> Card:
    """What a generator's card says of it."""
    target = saved.options.get("data")
    data = str(target.get("_target_", "")).rpartition(".")[2] if isinstance(target, dict) else ""
    summary = read_summary(saved.directory) or {}
    data = str(summary.get("data") or data)
    step = checkpoints.step_of(saved.state, saved.path)
    images = len(saved.interface["shape"]) > 1
    what = (
        f"The averaged generator of a generative adversarial network that was trained on {data}, after "
        f"{step:,} real samples (`checkpoint={checkpoint}`). Latents are standard normal numbers"
        f"{', labels are classes from 0' if saved.interface['num_classes'] else ''}; "
        f"{'images come out in [-1, 1], channels first' if images else 'points come out'}."
    )
    tags = ("generative-adversarial-network", data)
    return Card(f"Generator of {data}", what, _score(saved, checkpoint), tags, command, versions)


def _score(saved: Saved, checkpoint: str) -> str:
    """The metrics of the checkpoint's own measurement, each beside the same metric of real samples."""
    found = measured(saved.directory, checkpoint)
    metrics = [
        f"{name} {plain_number(value)} (real samples {plain_number(floor)})"
        for name, value in found.items()
        if isinstance(value, float) and isinstance(floor := found.get(f"{name}_floor"), float)
    ]
    return f"Measured: {', '.join(metrics)}." if metrics else unmeasured(saved.directory, checkpoint)
