"""How many files a reader opens to follow one gradient step."""

import sys
from pathlib import Path

import torch
from torch import nn

import core
from core.gradients import GlobalNorm, GradientStep

MOST = 5


def test_a_step_with_clipping_enters_at_most_five_files():
    root = Path(core.__file__).parent
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    step = GradientStep(network, optimizer, [GlobalNorm(max_norm=0.5)], batch_size=16)
    x = torch.randn(16, 4)
    entered: set[str] = set()

    def note(frame, event, _):
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(root):
            entered.add(Path(frame.f_code.co_filename).relative_to(root).as_posix())

    for _ in range(2):  # the second one by the fused short way
        sys.setprofile(note)
        try:
            step(lambda: (network(x).square().mean(), {}))
        finally:
            sys.setprofile(None)
    assert "gradients/step.py" in entered
    assert len(entered) <= MOST, sorted(entered)
