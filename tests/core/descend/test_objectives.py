"""Objectives on data: gradients by formula, batches by their statistics, runs that resume to the bit."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import config_dir
from core.curvature.critical import classify, derivatives
from core.descend import descent as descending
from core.descend.batches import BatchStream, Full, Minibatch, Stochastic
from core.descend.objective_descent import COLUMNS, ObjectiveDescent
from core.descend.objectives import DeepLinear, DeepSigmoid, DigitsMLP, Logistic, Moons, Supervised
from core.noise import NoiseProbe, per_sample_gradients
from core.run.run import Run
from core.run.tensorboard import read_scalars
from tests.test_resume import Killed, differences, dying

pytestmark = pytest.mark.usefixtures("blank_figures")

CPU = torch.device("cpu")
EVERY = [
    Logistic(),
    DigitsMLP(hidden_sizes=(8,)),
    Moons(),
    DeepLinear(depth=3),
    DeepSigmoid(depth=2, width=8),
]
QUIET = ["logging.progress=false", "pictures=[]"]


def tree_of(*overrides: str) -> dict:
    return compose_tree("descend", [*QUIET, *overrides], [config_dir()])[0]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text())


def descent(objective: Supervised, batch=None, start=None) -> ObjectiveDescent:
    return ObjectiveDescent(objective, batch or Full(), start, 3, CPU)


@pytest.mark.parametrize("objective", EVERY, ids=lambda o: type(o).__name__)
def test_an_objective_is_the_mean_of_its_samples_and_its_seed_decides_the_weights(objective):
    first = descent(objective)
    rows = per_sample_gradients(first.frozen())
    mean = torch.cat([rows[name].mean(0).flatten() for name, _ in first.named])
    torch.testing.assert_close(first.gradient(), mean, rtol=1e-9, atol=1e-12)
    now = first.measure()
    spread = torch.cat([rows[name].flatten(1) for name, _ in first.named], 1).var(0).sum()
    assert now.noise_scale == pytest.approx(float(spread / mean.square().sum()), rel=1e-6)
    assert now.gradient_norm == pytest.approx(float(mean.norm()))
    assert first.point().dtype == torch.float64
    assert torch.equal(first.point(), descent(objective).point())
    assert len(first.data.x) + len(first.data.held_out_x) == {Logistic: 359, Moons: 1000}.get(
        type(objective), 1797
    )


def test_the_logistic_loss_has_its_closed_form_and_one_minimum():
    objective = Logistic()
    data = objective.load()
    there = descent(objective, start=(0.3, -0.2))
    w = torch.tensor([0.3, -0.2], dtype=torch.float64)
    p = torch.sigmoid(data.x @ w)
    torch.testing.assert_close(there.gradient(), ((p - data.y)[:, None] * data.x).mean(0))
    loss = -(data.y * p.log() + (1 - data.y) * (1 - p).log()).mean()
    assert there.measure().value == pytest.approx(loss.item(), rel=1e-12)
    assert objective.at(w, data).item() == pytest.approx(loss.item(), rel=1e-12)
    for _ in range(12):  # Newton's method
        _, g, hessian = derivatives(lambda w: objective.at(w, data), w)
        w = w - torch.linalg.solve(hessian, g)
    at_minimum = descent(objective, start=w.tolist()).fields()
    exact = classify(*derivatives(lambda w: objective.at(w, data), w)[1:])
    assert at_minimum["critical_point"] == exact.kind == "minimum"
    assert at_minimum["hessian_eigenvalues"] == pytest.approx(exact.eigenvalues, rel=1e-9)
    assert (at_minimum["saddle_index"], at_minimum["x"]) == (0, pytest.approx(w.tolist()))
    assert at_minimum["accuracy"] > 0.85


def test_the_deep_linear_gradient_is_the_product_of_the_other_matrices():
    """dL/dW_1 = (W_n ... W_2)^T (W_n ... W_1 x - y) x^T."""
    deep = descent(DeepLinear(depth=4, width=5, gain=0.7))
    first, *others = [p.detach() for p in deep.parameters]
    product = others[2] @ others[1] @ others[0]
    x, target = deep.data.x, torch.eye(10, dtype=torch.float64)[deep.data.y]
    error = x @ (product @ first).T - target
    expected = product.T @ (error.T @ x) / len(x)
    torch.testing.assert_close(deep.gradient()[: first.numel()].view_as(first), expected)


@pytest.mark.parametrize(("gain", "law"), [(0.5, 0.5), (2.0, 2.0)])
def test_a_deep_linear_gradient_vanishes_or_explodes_with_its_depth(gain, law):
    norms = {}
    for depth in (4, 12):
        deep = descent(DeepLinear(depth=depth, width=64, gain=gain))
        # Of the outputs with respect to the first layer's: what depth alone does.
        jacobian = torch.linalg.multi_dot([p.detach() for p in reversed(deep.parameters[1:])])
        norms[depth] = jacobian.norm().item()
    assert (norms[12] / norms[4]) ** (1 / 8) == pytest.approx(law, rel=0.1)


def test_all_weights_zero_is_a_saddle_of_two_matrices_and_degenerate_beyond():
    for depth, kind in ((2, "saddle"), (3, "degenerate")):
        objective = DeepLinear(depth=depth, width=4)
        size = descent(objective).size
        there = descent(objective, start=[0.0] * size)
        assert there.fields()["critical_point"] == kind
        assert there.fields()["gradient_norm"] == 0.0
        assert there.fields()["saddle_index"] is None  # only both ends of the spectrum are known


def test_every_layer_of_sigmoids_shrinks_the_gradient():
    deep = descent(DeepSigmoid())
    deep.objective.loss(deep.network, deep.data.x, deep.data.y).backward()
    norms = [p.grad.norm().item() for name, p in deep.named if name.endswith("weight")]
    assert all(low < 0.6 * high for low, high in itertools.pairwise(norms))
    assert norms[0] < 1e-3 * norms[-1]


def test_a_round_shows_every_sample_once_in_an_order_of_its_own():
    stream = BatchStream(10, 3, torch.Generator().manual_seed(0))
    rounds = [torch.cat([stream.next() for _ in range(3)]) for _ in range(4)]
    assert all(len(set(r.tolist())) == 9 for r in rounds)
    assert len({tuple(r.tolist()) for r in rounds}) == 4
    whole = BatchStream(4, 4, torch.Generator())
    assert whole.next().tolist() == whole.next().tolist() == [0, 1, 2, 3]
    assert [b.count(50) for b in (Stochastic(), Minibatch(size=8), Full())] == [1, 8, 50]


def test_a_return_changes_the_order_from_the_next_batch_on():
    def taken(*seeds: int) -> list[list[int]]:
        stream = BatchStream(100, 10, torch.Generator().manual_seed(0))
        batches = [stream.next().tolist() for _ in range(4)]
        for seed in seeds:
            stream.restart(seed)
        return batches + [stream.next().tolist() for _ in range(12)]

    usual, other = taken(), taken(7)
    assert usual[:4] == other[:4]
    assert not [i for i in range(4, 16) if usual[i] == other[i]]
    assert sorted(itertools.chain(*other[:10])) == list(range(100))
    assert taken(7) == other != taken(8)


def test_the_gradient_of_a_batch_is_right_on_average_and_its_noise_falls_with_the_size():
    """Without replacement: variance tr(Sigma) / B (N - B) / (N - 1) (N - 1) / N."""
    start = (0.5, 0.5)
    full = descent(Logistic(), start=start).gradient()
    for batch in (Stochastic(), Minibatch(size=16)):
        here = descent(Logistic(), batch, start)
        drawn = here.draws(3000, "test")
        size, total = batch.count(269), 269
        variance = here.measure().noise_scale * full.square().sum() / size * (1 - size / total)
        error = (drawn - full).square().sum(1).mean()
        assert error.item() == pytest.approx(variance.item(), rel=0.1)
        assert (drawn.mean(0) - full).norm() < 4 * (variance / 3000).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("batch", ["stochastic", "minibatch", "full"])
def test_a_training_killed_at_any_point_and_resumed_ends_the_same(tmp_path, batch):
    overrides = [
        "objective=moons",
        f"batch={batch}",
        "steps=45",
        "probe=[noise,curvature]",
        "probe.noise.interval=20",
    ]
    overrides += ["logging.checkpoint_interval=11", "logging.interval=4", "optimizer=perturbed_sgd"]
    assert execute(tree_of(*overrides), tmp_path / "whole") == 0
    with dying(26):
        execute(tree_of(*overrides), tmp_path / "run")
    assert resume_run(tmp_path / "run", [], "descend") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []
    for field in (
        "value",
        "gradient_norm",
        "hessian_eigenvalues",
        "samples",
        "critical_point",
        "gradient_cosine",
    ):
        assert summary(tmp_path / "whole")[field] == summary(tmp_path / "run")[field]
    size = {"stochastic": 1, "minibatch": 32, "full": 500}[batch]
    assert summary(tmp_path / "run")["samples"] == 45 * size
    assert "noise/noise_scale" in read_scalars(tmp_path / "run")


def test_the_curves_of_a_resumed_training_name_the_rate_that_auto_has_proposed(tmp_path, monkeypatch):
    overrides = ["objective=moons", "batch=minibatch", "optimizer.lr=auto", "steps=4", "logging.interval=4"]
    titles, finish_step = [], Run.finish_step

    def noted(cfg, parts, descents):
        titles.append(*parts)
        return {}

    def saved_and_killed(self, step, metrics):
        finish_step(self, step, metrics)
        if step == 2:
            self.save("last.pt")
            raise Killed

    monkeypatch.setattr(descending, "pictures", noted)
    monkeypatch.setattr(Run, "finish_step", saved_and_killed)
    with pytest.raises(Killed):
        execute(tree_of(*overrides), tmp_path)
    monkeypatch.setattr(Run, "finish_step", finish_step)
    assert resume_run(tmp_path, [], "descend") == 0
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    (rate,) = last["gradient_step"]["base_lrs"]
    assert titles == [f"Adam, learning rate {rate:g}"]
    assert rate != tree_of(*overrides[:2])["optimizer"]["lr"]


@pytest.mark.parametrize("objective", [Logistic(), DigitsMLP(hidden_sizes=(8,))], ids=["dense", "lanczos"])
def test_a_point_that_is_not_finite_is_of_no_kind_and_drawn_as_one_that_diverged(objective):
    here = descent(objective)
    assert here.trajectory("sgd").ended == here.classify().kind
    with torch.no_grad():
        here.parameters[0].fill_(math.nan)
    assert here.classify() == (None, None, None)
    assert here.trajectory("sgd").ended == "diverged"
    assert here.fields()["critical_point"] is None


@pytest.mark.slow
def test_three_kinds_of_gradient_in_one_command_and_what_each_is_worth(tmp_path):
    overrides = ["objective=logistic", "batches=[stochastic,minibatch,full]", "optimizer=sgd", "steps=200"]
    assert execute(tree_of(*overrides, "pictures=[curves,arrows]"), tmp_path / "run") == 0
    found = summary(tmp_path / "run")["batches"]
    assert [s["samples"] for s in found.values()] == [200, 200 * 32, 200 * 269]
    assert [s["batch_size"] for s in found.values()] == [1, 32, 269]
    assert found["full"]["gradient_cosine"] == 1.0
    assert max(found["full"]["value"], found["minibatch"]["value"]) < found["stochastic"]["value"] < 0.4
    curves = {name: read_scalars(tmp_path / "run" / name) for name in found}
    early = {name: c["full_gradient/cosine"][10] for name, c in curves.items()}
    assert early["stochastic"] < early["minibatch"] < early["full"] == 1.0
    assert all("time/descent_s" in c and "descent/samples" in c for c in curves.values())
    made = sorted(path.name for path in (tmp_path / "run" / "media").glob("*.*"))
    assert made == ["descent_arrows.png", "descent_curves.png"]


@pytest.mark.slow
def test_the_digits_are_learnt_and_a_rate_is_proposed(tmp_path, capsys):
    overrides = ["objective=digits_mlp", "optimizer=momentum", "optimizer.lr=auto", "steps=150"]
    assert execute(tree_of(*overrides), tmp_path) == 0
    ended = summary(tmp_path)
    assert ended["held_out_accuracy"] > 0.9
    assert ended["x"] is None
    assert len(ended["hessian_eigenvalues"]) == 2
    assert "optimizer.lr=auto:" in capsys.readouterr().out


def test_what_a_training_looks_at_leaves_it_as_it_was():
    here = descent(Moons(), Minibatch(size=8))
    state = here.state_dict()
    for measure in (here.measure, here.fields, lambda: here.lines(0, ""), lambda: here.trajectory("a")):
        measure()
    NoiseProbe()(here.frozen(), None, torch.Generator())
    assert same(state, here.state_dict())
    assert here.trajectory("a").more.keys() == set(COLUMNS[4:]) | {"samples", "seconds"}
    assert math.isclose(here.trajectory("a").value[0], here.measure().value)


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b
