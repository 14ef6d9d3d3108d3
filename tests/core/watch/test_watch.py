"""A watched loop is the same loop, and what is measured of it is what was there."""

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.config import ConfigError
from core.run.tensorboard import read_scalars
from core.watch.followed import due, measured, next_busy
from tests.core.watch.loops import alarms, classes, classifier, train

pytestmark = pytest.mark.usefixtures("blank_figures")

STEPS = 65


def adam(watched: bool) -> list[Tensor | None]:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = nn.CrossEntropyLoss()
    watch = Watch(model, optimizer, loss=loss) if watched else None
    if watch:
        batch = next(classes(1))
        watch.objective(lambda forward, x, y: cross_entropy(forward(x), y), batch)
    for x, y in classes(STEPS):
        value = loss(model(x), y)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        if watch:
            watch.log(loss=value, rate=0.01)
    return [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]


def accumulation(watched: bool) -> list[Tensor | None]:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    watch = Watch(model, optimizer) if watched else None
    for number, (x, y) in enumerate(classes(STEPS)):
        (cross_entropy(model(x), y) / 4).backward()
        if number % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    if watch:
        watch.close()
    return [*model.parameters(), *(p.grad for p in model.parameters())]


def lbfgs(watched: bool) -> list[Tensor]:
    model = classifier()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
    watch = Watch(model, optimizer) if watched else None
    x, y = next(classes(1))

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(model(x), y)
        value.backward()
        return value

    for _ in range(12):
        optimizer.step(closure)
    if watch:
        watch.close()
        assert watch.step == 12
    return list(model.parameters())


class Words(nn.Module):
    """Sparse gradients, a tied weight and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8, sparse=True)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)
        self.out.weight = self.hidden.weight
        self.out.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(self.table(x)).tanh())


def sparse(watched: bool) -> list[Tensor]:
    torch.manual_seed(0)
    model = Words()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer) if watched else None
    for number in range(STEPS):
        words = torch.tensor([3, 3, number % 20, 7])
        optimizer.zero_grad()
        model(words).square().mean().backward()
        optimizer.step()
    if watch:
        watch.close()
        (player,) = watch._players
        assert player.names == ["table.weight", "hidden.weight", "hidden.bias"]
        assert player.frozen == ["out.bias"]
    gradient = model.table.weight.grad
    assert gradient is not None
    return [*model.parameters(), gradient._values(), gradient._indices()]


def game(watched: bool) -> list[Tensor]:
    torch.manual_seed(0)
    players = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    optimizers = {name: torch.optim.Adam(net.parameters(), lr=0.01) for name, net in players.items()}
    watch = Watch(players, optimizers) if watched else None
    for _ in range(STEPS):
        fake = players["generator"](torch.randn(32, 2))
        real = torch.randn(32, 2) + 2
        optimizers["discriminator"].zero_grad()
        score = players["discriminator"]
        (score(fake.detach()).sigmoid().mean() - score(real).sigmoid().mean()).backward()
        optimizers["discriminator"].step()
        optimizers["generator"].zero_grad()
        (-score(fake).sigmoid().mean()).backward()
        optimizers["generator"].step()
    if watch:
        watch.close()
        assert alarms(watch) == set()
    return [p for net in players.values() for p in net.parameters()]


@pytest.mark.parametrize("loop", [adam, accumulation, lbfgs, sparse, game], ids=lambda loop: loop.__name__)
def test_a_watched_loop_is_the_same_to_the_bit(loop):
    ends = []
    for watched in (False, True):
        torch.manual_seed(0)
        numbers = [x.detach().clone() for x in loop(watched)]
        ends.append([*numbers, torch.get_rng_state()])
    assert len(ends[0]) == len(ends[1]) > 2
    assert all(map(torch.equal, *ends))


def test_norms_and_update_ratios_are_those_of_float64(tmp_path):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, directory=tmp_path)
    norms, ratios, cosines, last = [], [], [], None
    for step, (x, y) in enumerate(classes(20), 1):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
        norms.append(gradient.norm().item())
        if step % 2:
            if last is not None:
                cosines.append(torch.cosine_similarity(gradient, last, dim=0).item())
        else:
            ratios.append(0.1 * norms[-1] / weights.norm().item())
        last = gradient
        optimizer.step()
    watch.close()
    curves = read_scalars(tmp_path)
    assert list(curves["gradient/norm"]) == list(range(2, 21, 2))
    assert list(curves["gradient/norm"].values()) == pytest.approx(
        [(a + b) / 2 for a, b in zip(norms[::2], norms[1::2], strict=True)], rel=1e-5
    )
    assert list(curves["gradient/update_ratio"].values()) == pytest.approx(ratios, rel=1e-4)
    assert list(curves["gradient/cosine"].values()) == pytest.approx(cosines, abs=1e-5)
    assert list(curves["gradient/effective_lr"].values()) == pytest.approx([0.1] * 10)
    assert "gradient/clipped" not in curves  # not known from outside


def test_the_loss_its_samples_and_ones_own_curves_are_heard(tmp_path):
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, loss=loss, directory=tmp_path)
    values, held_out = [], []
    for x, y in classes(4, batch=32):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        values.append(value.item())
        with torch.no_grad():
            held_out.append(loss(model(x), y).item())
        watch.log(loss=2 * value, **{"accuracy/held_out": 0.5})
    watch.close()
    curves = read_scalars(tmp_path)
    assert curves["loss/train"] == pytest.approx({2: sum(values[:2]) / 2, 4: sum(values[2:]) / 2}, rel=1e-6)
    # What comes after the last step is part of the next point.
    assert curves["loss/no_grad"][4] == pytest.approx(sum(held_out[1:3]) / 2, rel=1e-6)
    assert curves["loss/logged"][2] == pytest.approx(2 * values[0], rel=1e-6)
    assert set(curves["accuracy/held_out"].values()) == {0.5}
    assert watch._players[0].batch == 32


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_loss_scale_norms_are_in_the_losss_unit_and_skipped_steps_count(tmp_path, fused):
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=1000)
    watch = Watch(model, optimizer, directory=tmp_path, scaler=scaler)
    norms, bad = [], {5, 6, 11}
    for step, (x, y) in enumerate(classes(20), 1):
        optimizer.zero_grad()
        value = cross_entropy(model(x), y)
        if step not in bad:
            gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        scaler.scale(value * (math.inf if step in bad else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    watch.close()
    assert watch.step == 20
    curves = read_scalars(tmp_path)
    skipped = curves["gradient/skipped"]
    lengths = {at: at - before for before, at in zip([0, *skipped], skipped, strict=False)}  # of the windows
    assert sum(lengths[at] * share for at, share in skipped.items()) == pytest.approx(3)
    sums = sum(lengths[at] * (1 - skipped[at]) * norm for at, norm in curves["gradient/norm"].items())
    assert sums == pytest.approx(sum(norms), rel=1e-4)
    assert alarms(watch) == set()  # a scaler that finds its scale is healthy


def test_an_optimizer_that_gets_new_parameters_is_followed(tmp_path):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, directory=tmp_path)

    def grow(step: int) -> None:
        if step == 10:
            model.append(nn.Linear(3, 3))
            optimizer.add_param_group({"params": model[3].parameters()})

    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(30), grow)
    curves = read_scalars(tmp_path)
    assert "layer/3.weight/gradient_norm" in curves
    assert min(curves["layer/3.weight/gradient_norm"]) > 10
    assert max(curves["layer/0.weight/gradient_norm"]) == 30


def test_compiled_and_parallel_models_have_the_names_of_what_is_inside():
    model = classifier()
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    watch = Watch(compiled, optimizer)
    train(compiled, optimizer, nn.CrossEntropyLoss(), watch, classes(12))
    assert watch._players[0].names == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_fault_inside_is_said_once_and_the_training_goes_on(monkeypatch, capsys):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    monkeypatch.setattr(watch._diagnosis, "update", lambda *_: 1 / 0)
    before = copy.deepcopy(model[0].weight)
    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(20))
    assert not torch.equal(before, model[0].weight)
    said = capsys.readouterr().out
    assert said.count("not watched any longer: ZeroDivisionError") == 1


def test_after_close_nothing_is_left_behind():
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, optimizer, loss=loss) as watch:
        train(model, optimizer, loss, None, classes(9))
    assert not loss._forward_hooks
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._backward_hooks for p in model.parameters())
    watch.close()  # a second call does nothing
    for call in (lambda: watch.log(loss=1.0), lambda: watch.objective(lambda f, x: f(x), ())):
        with pytest.raises(RuntimeError, match="is closed: make another one"):
            call()


def test_what_cannot_be_watched_is_refused_by_one_clear_line(tmp_path):
    model, other = classifier(), classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the model has no parameters: hand over the module"):
        Watch(nn.ReLU(), optimizer)
    with pytest.raises(ValueError, match="none of them is a parameter of the model"):
        Watch(other, optimizer)
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, or several"):
        Watch(model, model)  # pyright: ignore
    with pytest.raises(ValueError, match="interval must be an integer >= 2, got 1"):
        Watch(model, optimizer, interval=1)
    Watch(model, optimizer, directory=tmp_path / "run").close()
    with Watch(model, optimizer, directory=tmp_path / "run2") as watch:
        with pytest.raises(ValueError, match="is watched already"):
            Watch(model, optimizer)
        with pytest.raises(ConfigError, match="in use"):
            Watch(other, torch.optim.SGD(other.parameters(), lr=0.1), directory=tmp_path / "run2")
        train(model, optimizer, nn.CrossEntropyLoss(), None, classes(3))
    assert watch.step == 3
    with pytest.raises(ConfigError, match="already holds a run: choose another directory"):
        Watch(model, optimizer, directory=tmp_path / "run2")


def test_a_point_has_five_gradients_and_the_sampled_one_is_followed_by_another():
    for interval in (2, 7, 200):
        busy = [step for step in range(1, 3000) if measured(step, interval)]
        points = [step for step in range(1, 3000) if due(step, interval)]
        assert set(points) <= set(busy)
        assert {step + 1 for step in points if step < 2998} <= set(busy)
        assert all(b - a >= 2 for a, b in itertools.pairwise(points))
        woken, step = [], 0
        while step < 2990:
            step = next_busy(step, interval)
            woken.append(step)
        wanted = {s for s in range(1, 2990) if measured(s, interval) or due(s + 1, interval)}
        assert wanted <= set(woken)
    assert [s for s in range(1, 400) if due(s, 200)][-4:] == [200, 250, 300, 350]
