"""How many files a reader passes through to follow one update of a GAN from `Trainer.update` to the step."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch

import core
import gradgan
from core.seeding import Generators
from gradgan.train import TrainConfig, build_trainer

PACKAGES = [Path(str(package.__file__)).parent for package in (core, gradgan)]


def entered(call: Callable[[], object]) -> set[str]:
    """The files of `core` and `gradgan` in which a function runs during the call."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    parents = {package: package.parent for package in PACKAGES}
    return {
        str(Path(file).relative_to(parent))
        for file in files
        for package, parent in parents.items()
        if Path(file).is_relative_to(package)
    }


@pytest.mark.parametrize("data", ["digits", "ring"])
def test_one_update_enters_few_files(data: str, configured: Callable[..., TrainConfig]) -> None:
    """The second update of the default run, since the first also sets things up."""
    cfg = configured(f"data={data}", "device=cpu")
    generators, device = Generators(cfg.seed), torch.device("cpu")
    stream = cfg.data.stream(cfg.batch_size, generators.torch("data"), device)
    trainer = build_trainer(cfg, generators, device)
    trainer.update([stream.next()], progress=0.0)
    batch = stream.next()
    files = entered(lambda: trainer.update([batch], progress=0.0))
    assert "gradgan/trainer.py" in files
    assert len(files) <= 15, " ".join(sorted(files))
