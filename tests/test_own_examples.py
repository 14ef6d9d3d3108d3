"""Each example of an own part does what its first line says, in a short run that its own words start."""

import ast
import json
import shlex
from pathlib import Path

import pytest
import torch

from core.diagnosis import Context, History
from core.gradients import GradientStep, GradientView, Objective
from core.run.tensorboard import read_scalars
from examples import (
    own_clipper,
    own_data,
    own_env,
    own_loss,
    own_network,
    own_optimizer,
    own_pair,
    own_probe,
    own_rule,
)
from gradgan import load_generator
from gradrl import load_policy

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

FOLDER = Path(own_loss.__file__).parent
SHORT = {
    "rl": ["total_steps=512", "num_envs=2", "agent.num_steps=32", "agent.num_minibatches=2",
           "agent.num_epochs=1", "evaluation.episodes=2", "evaluation.interval_episodes=2",
           "evaluation.num_envs=2", "evaluation.max_episode_steps=20", "logging.interval=1", "seed=3"],
    "gan": ["total_images=512", "evaluation.samples=50", "device=cpu", "logging.interval=1", "seed=3"],
}  # fmt: skip
OF_GAN = (own_loss, own_pair, own_data)


@pytest.fixture
def run(command, monkeypatch, tmp_path):
    """Start the command of an example's first lines, shortened; its curves and its summary."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr("gradgan.features.classifier.UPDATES", 3)

    def start(example, *words: str):
        doc = ast.get_docstring(ast.parse(Path(example.__file__).read_text())) or ""
        (shown,) = [line for line in doc.splitlines() if line.startswith("python examples/")]
        typed = shlex.split(shown)[2:]
        kind = "gan" if example in OF_GAN else "rl"
        keys = {word.partition("=")[0] for word in typed}
        short = [word for word in SHORT[kind] if kind == "gan" or word.partition("=")[0] not in keys]
        typed = [word for word in typed if not word.startswith("total_")]
        fixed = ["logging.progress=false", "hydra.run.dir=run"]
        outcome = command(kind, *typed, *short, *words, *fixed)
        assert outcome.status == 0, outcome.err
        assert "left out" not in outcome.out
        return read_scalars(Path("run")), json.loads(Path("run/summary.json").read_text())

    return start


@pytest.mark.slow
def test_the_network_learns_under_its_layers_names_and_is_loaded_again(run):
    curves, _ = run(own_network, "monitor.sample_interval=2")
    assert max(curves["layer/actor.0.network.block.1.weight/update_ratio"].values()) > 0
    assert load_policy("run")([0.0, 0.1, 0.0, -0.1])[0] in (0, 1)
    residual = own_network.Residual((3,), width=4)
    residual.block[1].weight.data.zero_()
    residual.block[1].bias.data.zero_()  # SiLU(0) = 0: what is left is the way around the block
    x = torch.randn(5, 3)
    torch.testing.assert_close(residual(x), residual.first(x))


def test_the_pair_is_trained_and_loaded_again(run):
    run(own_pair)
    assert load_generator("run")(3, seed=0).shape == (3, 2)
    body, features = own_pair.Pair(width=7).body((2,), torch.Generator())
    assert body(torch.zeros(4, 2)).shape == (4, features) == (4, 7)


def test_the_smoothed_loss_is_least_where_d_gives_real_samples_its_target(run):
    loss = own_loss.Smoothed(target=0.8)
    logit = torch.tensor([0.8], dtype=torch.float64).logit().requires_grad_()
    far = torch.tensor([-30.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss.discriminator(logit, far), logit)
    assert slope.item() == pytest.approx(0, abs=1e-12)
    entropy = -(0.8 * torch.tensor(0.8).log() + 0.2 * torch.tensor(0.2).log()).item()
    assert loss.discriminator(logit, far).item() == pytest.approx(entropy, rel=1e-6)
    curves, summary = run(own_loss)
    assert summary["status"] == "finished"
    assert max(curves["loss/discriminator"]) == 512


def test_the_bars_are_where_their_labels_say_and_are_learnt_from(run):
    images = own_data.Bars(count=256).load()
    assert (images.train.shape, images.held_out.shape) == ((192, 1, 8, 8), (64, 1, 8, 8))
    for image, label in zip(torch.cat([images.train, images.held_out])[:, 0], images.labels, strict=True):
        assert image.sum() == 8 * 255
        assert (image[label] == 255).all() or (image[:, label] == 255).all()
    _, summary = run(own_data, "conditioning=auxiliary")
    assert (summary["data"], summary["features"]) == ("bars", "bars_classifier")


def test_the_corridor_ends_at_the_door_and_is_trained_in(run):
    env = own_env.Corridor(length=3)
    env.reset(seed=0)
    env.place = 1
    assert env.step(0)[1:3] == (-1 / 3, False)
    assert env.place == 0
    assert [env.step(1)[2] for _ in range(3)] == [False, False, True]
    curves, _ = run(own_env)
    assert -100 / 12 - 1e-6 <= min(curves["episode/return"].values()) <= -1 / 12 + 1e-6


def test_the_rule_sees_short_episodes_late_and_is_reported(run):
    rule, history = own_rule.ShortEpisodes(least=50, after=0.5), History()
    context = Context(options={}, total=100)
    seen = []
    for step, length in ((10, 20.0), (60, 70.0), (70, 20.0)):
        history.add(step, {"episode/length": length})
        seen.append([(s.name, s.evidence) for s in rule(history, context)])
    assert seen == [[], [], [("short_episodes", {"length": 20.0})]]
    run(own_rule, "diagnosis.patience=1")
    (found,) = [f for f in json.loads(Path("run/findings.json").read_text())["findings"]
                if f["name"] == "short_episodes"]  # fmt: skip
    assert found["remedy"] == ["total_steps=1024"]
    assert found["first_step"] > 256


def test_the_optimizer_moves_by_its_rate_along_the_sign_of_the_average(run):
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    lion = own_optimizer.Lion([p], lr=0.1, betas=(0.9, 0.5))
    expected, average = p.detach().clone(), torch.zeros(3)
    for gradient in (torch.tensor([1.0, -3.0, 0.0]), torch.tensor([-9.0, -1.0, 2.0])):
        p.grad = gradient
        lion.step()
        expected -= 0.1 * (0.9 * average + 0.1 * gradient).sign()
        average = 0.5 * average + 0.5 * gradient
        torch.testing.assert_close(p.detach(), expected)
    curves, _ = run(own_optimizer)
    assert curves["gradient/norm"]


def test_the_transform_gives_every_gradient_its_length_and_keeps_its_direction(run):
    values = [torch.tensor([[3.0, 0.0]]), torch.tensor([-4.0])]
    view = GradientView(("weight", "bias"), values, [value.clone() for value in values])
    assert view.norm == 5
    own_clipper.UnitLength(length=2.0)(view, {})
    torch.testing.assert_close(view.values, [value * 2 / 5 for value in values])
    assert view.norm.item() == pytest.approx(2)
    curves, _ = run(own_clipper)
    clipped = list(curves["gradient/norm_clipped"].values())
    assert clipped == [pytest.approx(0.5, rel=1e-5)] * len(clipped)
    assert max(curves["gradient/norm"].values()) != pytest.approx(0.5, rel=1e-2)


def test_the_probe_measures_the_rise_of_a_bowl_and_changes_nothing(run):
    network = torch.nn.Linear(50, 40, bias=False).double()
    torch.nn.init.zeros_(network.weight)
    x = torch.eye(50, dtype=torch.float64)
    objective = Objective(network, lambda forward, x: forward(x).square().sum(), (x,))
    step = GradientStep(network, torch.optim.SGD(network.parameters(), lr=0.1))
    rise = own_probe.Flatness(std=0.1)(objective, step, torch.Generator().manual_seed(0))["flatness/rise"]
    assert rise == pytest.approx(2000 * 0.1**2, rel=0.1)  # E |std e|^2 of 2,000 numbers, deviation 3 %
    assert (network.weight == 0).all()
    curves, _ = run(own_probe, "probe.flatness.interval=4")
    assert len(curves["flatness/rise"]) == 4
