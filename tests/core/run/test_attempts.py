"""What only watches a training never ends it: it is left out, and the reason is said once."""

import pytest
import torch
from torch import nn

from core.gradients import GradientStep, Objective
from core.noise import NoiseProbe
from core.run.attempts import Attempts
from core.run.probes import Probes


def test_what_fails_is_left_out_and_its_reason_is_said_once():
    said: list[str] = []
    attempt = Attempts(said.append)

    def fails() -> dict[str, float]:
        raise FloatingPointError("a product is not finite\nand more")

    assert [attempt("pictures", fails) for _ in range(3)] == [{}, {}, {}]
    assert attempt("charts", lambda: {"a": 1.0}) == {"a": 1.0}
    attempt("charts", lambda: {}["missing"])
    assert said == [
        "left out, and the training goes on: pictures: a product is not finite",
        "left out, and the training goes on: charts: 'missing'",
    ]


def test_who_interrupts_is_obeyed():
    def interrupted() -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Attempts(print)("pictures", interrupted)


@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_of_one_sample_has_no_noise_and_one_of_two_has(size):
    said: list[str] = []
    net = nn.Linear(3, 1)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])[:size]
    objective = Objective(net, lambda forward, x: forward(x).square().mean(), [x])
    probes = Probes({"noise": NoiseProbe(interval=1)}, 1, lambda: [(objective, step)])
    probes.start([step], Attempts(said.append))
    for _ in range(3):
        step(lambda: (objective(), {}))
        assert ("noise/norm_test" in probes.measure()) is (size == 2)
    reason = "probe=noise: samples must be at least 2, because one gradient has no variance, got 1"
    assert said == [f"left out, and the training goes on: {reason}"] * (size == 1)


@pytest.mark.parametrize("interval", [3, 4])
def test_a_probe_that_has_never_been_due_is_named_at_the_end(interval):
    net = nn.Linear(3, 1)
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
    probes = Probes({"noise": NoiseProbe(interval=interval)}, 1, list, unit_health=NoiseProbe(interval=9))
    probes.start([step], Attempts(print))
    for _ in range(3):
        step(lambda: (net(torch.ones(2, 3)).square().mean(), {}))
    reason = "it measures every 4 optimizer steps, and the run has taken 3"
    said = [f"probe=noise and probe.noise have no effect here: {reason}"]
    assert list(probes.unmeasured()) == said * (interval > 3)
