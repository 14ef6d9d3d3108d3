"""The examples do what they say."""

import ast
import json
import math
import runpy
from pathlib import Path

import pytest
import torch

from core.run.tensorboard import read_scalars
from examples import curvature_and_noise, loss_surface, own_agent, plain_loop, watch_loop
from gradrl.agents.ppo import PPO, PPOConfig
from tests.gradrl.small import BOX, small_agent, small_model, small_rollout

pytestmark = pytest.mark.usefixtures("blank_figures")

EXAMPLES = sorted(Path(plain_loop.__file__).parent.glob("*.py"))


def test_the_plain_loop_learns_to_read_and_its_gradients_can_be_seen(tmp_path):
    assert plain_loop.train(str(tmp_path), epochs=6) > 0.95
    curves = read_scalars(tmp_path)
    assert list(curves["gradient/norm"]) == [0, 1, 2, 3, 4, 5]
    assert all(curves["gradient/norm_clipped"][epoch] <= 1.0 + 1e-6 for epoch in range(6))
    assert max(curves["gradient/clipped"].values()) > 0.5
    assert set(curves["gradient/skipped"].values()) == {0.0}
    assert "layer/0.weight/gradient_norm" in curves


def test_the_plain_loop_fits_on_a_page_and_needs_neither_trainers_nor_hydra():
    source = Path(plain_loop.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    nodes = list(ast.walk(ast.parse(source)))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {
        name
        for name in modules
        if name.partition(".")[0] not in ("torch", "sklearn", "functools", "argparse")
    } == {"core.gradients"}


def test_noise_curvature_and_the_rate_of_a_small_network_are_consistent():
    proposal, statistics, edge, here, origin = curvature_and_noise.study()
    # All the evidence is to be had.
    assert proposal.steepest
    assert proposal.exploding
    assert proposal.stable
    assert proposal.noise_scale
    assert edge.ratio is not None
    # Above the bound the loss explodes, a few steps of the range test (ten a decade) later.
    assert proposal.stable == pytest.approx((2 + 2 * 0.9) / proposal.sharpness)
    assert 1 <= proposal.exploding / proposal.stable < 3
    assert proposal.lr == min(proposal.steepest, proposal.stable * proposal.noise_factor)
    assert 0.05 < proposal.lr < 2  # around the 0.1 that networks of tanh with momentum are trained with
    # Less of the loss is left, so the gradient is shorter while its noise is not: the noise scale has grown.
    scale = statistics.noise.scale.item()
    assert proposal.noise_scale < scale < 10_000
    # A mean of ratios weighs every component alike, the noise scale by size: they agree in magnitude only.
    assert all(0.1 < ratio * scale < 10 for ratio in statistics.layer_signal_to_noise.values())
    # Far from the edge: it trained below the stable rate, on a loss that has become flatter.
    assert edge.ratio == pytest.approx(edge.sharpness * proposal.lr / (2 + 2 * 0.9))
    assert edge.ratio < 0.25
    assert edge.sharpness == pytest.approx(here.sharpness, rel=1e-3)  # 20 products against 50
    # 300 minibatches are not enough to stand still; both layers' zeros are symmetric, and a saddle.
    assert here.kind == "slope"
    assert origin.kind == "saddle"
    assert origin.gradient_norm < 1e-6  # rounding of float32
    # Beside the bias, H couples the layers only, [[0, C], [C^T, 0]]: eigenvalues come in pairs of both signs.
    assert origin.lowest == pytest.approx(-origin.sharpness, rel=0.02)


def test_the_surface_of_a_trained_network_is_lowest_where_the_training_ended():
    surface, here, picture = loss_surface.study(grid=11)
    assert surface.pointwise is None
    assert float(surface.values[5, 5]) == pytest.approx(here, rel=1e-5)
    assert here < 0.05
    assert float(surface.values.min()) > 0.5 * here
    assert float(surface.values[0].min()) > 20 * here
    assert picture.startswith(b"\x89PNG")


def test_a_watched_loop_says_what_the_mistake_is_and_nothing_of_the_mended_one(tmp_path):
    wrong, found = watch_loop.train(tmp_path / "mistaken", softmax=True, epochs=3)
    right, nothing = watch_loop.train(tmp_path / "mended", softmax=False, epochs=3)
    assert found[0].name == "output_does_not_fit_loss"
    assert {f.consequence_of for f in found[1:] if f.severity != "note"} <= {found[0].name}
    assert found[0].kinds == ("activation", "loss")
    assert [f.name for f in nothing if f.severity != "note"] == []
    assert right < 0.3 < 1.4 < wrong  # a softmax of a softmax has a loss of 1.46 at least


OWN = (
    "agent=rpo",
    "env=pendulum",
    "total_steps=128",
    "num_envs=2",
    "agent.num_steps=32",
    "logging.progress=false",
)


def test_an_agent_of_ones_own_is_trained_by_the_launcher(command, monkeypatch, tmp_path):
    folder = Path(own_agent.__file__).parent
    monkeypatch.syspath_prepend(folder)
    few = ("evaluation.episodes=1", "evaluation.interval_episodes=1", "evaluation.max_episode_steps=5")
    overrides = (*OWN, *few, "agent.alpha=0.25", f"hydra.run.dir={tmp_path / 'run'}")
    outcome = command("rl", "--config-dir", str(folder / "conf"), *overrides)
    assert outcome.status == 0, outcome.err
    assert list(read_scalars(tmp_path / "run")["policy/approx_kl"]) == [128]
    refused = command("rl", "--config-dir", str(folder / "conf"), *overrides[:-2], "agent.alpha=-1")
    assert refused.status == 2
    assert "agent.alpha must be a finite number >= 0, got -1" in refused.err
    refused = command("rl", "--config-dir", str(folder / "conf"), *overrides[:-2], "compile=update")
    assert (refused.status, refused.made) == (2, [])
    assert "compile must be off with an agent of one's own, got 'update'" in refused.err


def test_the_agent_of_ones_own_without_noise_is_ppo_and_its_noise_is_as_wide_as_alpha():
    ppo, rpo = (small_agent(cls, cfg, model=small_model(BOX)) for cls, cfg in
                ((PPO, PPOConfig), (own_agent.RPO, own_agent.RPOConfig)))  # fmt: skip
    batch, _ = rpo.observe(small_rollout(action=BOX))
    assert ppo.loss(batch)[0] == rpo.loss(batch)[0]  # as probes see it
    shifts = []
    rpo.gradient_step = lambda closure, samples: (shifts.append(rpo.shift), closure())[1][1]
    ratios = rpo.update_minibatch(batch)
    assert shifts[0].shape == (32, 2)
    assert 0.4 < shifts[0].abs().max() <= 0.5
    assert rpo.shift is None
    assert ratios["policy/ratio_max"] > 1.1


SCRIPTS = sorted((EXAMPLES[0].parents[1] / "scripts").glob("[!_]*.py"))


@pytest.mark.parametrize("path", [*EXAMPLES, *SCRIPTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help_is_answered_and_nothing_else_is_done(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr()
    assert (ended.value.code or 0, printed.err) == (0, "")
    assert len(printed.out.splitlines()) > 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_says_how_to_call_it(path):
    assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")


@pytest.mark.parametrize(
    "overrides",
    [
        ["function._target_=own_function.Ripples", "function.depth=0.8"],
        ["--config-dir", str(EXAMPLES[0].parent / "conf"), "function=ripples", "function.depth=0.8"],
    ],
    ids=["target", "config dir"],
)
def test_a_function_of_ones_own_is_descended_like_any_other(command, monkeypatch, overrides):
    monkeypatch.syspath_prepend(EXAMPLES[0].parent)
    outcome = command("descend", *overrides, "pictures=[]", "steps=300", "optimizer=sgd", "optimizer.lr=0.05",
                      "logging.progress=false", "hydra.run.dir=run")  # fmt: skip
    assert outcome.status == 0, outcome.err
    ended = json.loads(Path("run/summary.json").read_text())
    radius = torch.tensor(ended["x"]).norm().item()
    assert 0.2 * radius + 2 * 0.8 * math.sin(2 * radius) == pytest.approx(0, abs=1e-4)  # a ring's valley
    assert radius > 1
    assert ended["critical_point"] == "degenerate"  # flat along the ring
