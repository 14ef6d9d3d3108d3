"""Loops whose parts are frozen by turns, wrapped, called by other names, or logged at the end."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.run.tensorboard import read_scalars
from tests.core.watch.loops import alarms, classes, classifier, train

pytestmark = pytest.mark.usefixtures("blank_figures")

STEPS = 65


def test_a_player_that_is_frozen_while_the_other_moves_is_watched_like_any(tmp_path):
    def run(directory, freezes):
        torch.manual_seed(0)
        nets = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
        optimizers = {name: torch.optim.Adam(net.parameters(), lr=1e-3) for name, net in nets.items()}
        for name in nets:
            nets[name].requires_grad_(not freezes)
        nets["discriminator"].requires_grad_()
        watch = Watch(nets, optimizers, directory=directory)
        for number in range(2 * STEPS):
            mover = ("discriminator", "generator")[number % 2]
            for name, net in nets.items():
                net.requires_grad_(name == mover or not freezes)
            optimizers[mover].zero_grad()
            score = nets["discriminator"](nets["generator"](torch.randn(32, 2)))
            (score if number % 2 else score.square()).mean().backward()
            optimizers[mover].step()
        watch.close()
        return read_scalars(directory), alarms(watch)

    frozen, found = run(tmp_path / "frozen", True)
    free, _ = run(tmp_path / "free", False)
    assert found == set()
    for tag in ("generator/gradient/norm", "discriminator/gradient/norm", "generator/gradient/cosine"):
        assert frozen[tag] == pytest.approx(free[tag], rel=1e-6), tag
    assert frozen["generator/gradient/norm"]


def test_an_optimizer_whose_parameters_are_all_frozen_disturbs_nothing():
    players = {"moving": nn.Linear(2, 2), "frozen": nn.Linear(2, 2).requires_grad_(False)}
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=1e-3) for name, net in players.items()}
    watch = Watch(players, optimizers)
    for _ in range(STEPS):
        players["frozen"](players["moving"](torch.randn(8, 2))).square().mean().backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
    watch.close()
    assert watch.step == STEPS
    assert [player.name for player in watch._followed] == ["moving"]


def test_an_optimizer_inside_of_another_object_is_found(tmp_path):
    class Shell(torch.optim.Optimizer):
        """As accelerate's: it has no hooks of its own."""

        def __init__(self, optimizer):
            self.optimizer, self.param_groups = optimizer, optimizer.param_groups

        def step(self, closure=None):
            self.optimizer.step(closure)

        def zero_grad(self):
            self.optimizer.zero_grad()

    model = classifier()
    shell = Shell(torch.optim.SGD(model.parameters(), lr=0.1))
    watch = Watch(model, shell, directory=tmp_path)
    train(model, shell, nn.CrossEntropyLoss(), watch, classes(8))
    assert watch.step == 8
    assert len(read_scalars(tmp_path)["gradient/norm"]) == 4


class Inner(nn.Module):
    """A part that is called by a method other than forward, which scales what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.bare = nn.Parameter(torch.zeros(3))
        self.first = nn.Linear(8, 3)

    def score(self, x):
        return self.first(x / 255) + self.bare


def test_the_first_layer_is_asked_for_its_inputs_whoever_calls_it(tmp_path):
    model, loss = Inner(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, optimizer, loss=loss, directory=tmp_path) as watch:
        for x, y in classes(12, scale=255):
            optimizer.zero_grad()
            loss(model.score(x), y).backward()
            optimizer.step()
    assert read_scalars(tmp_path)["input/rms"][10] == pytest.approx(1, rel=0.1)
    assert alarms(watch) == set()


def test_what_is_logged_after_the_last_point_is_kept(tmp_path):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, optimizer, directory=tmp_path) as watch:
        for x, y in classes(10):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
            watch.log(number=watch.step)
        watch.log(accuracy=0.5)
    curves = read_scalars(tmp_path)
    assert curves["accuracy"] == {10: 0.5}
    assert curves["number"][10] == 8.5  # of steps 8 and 9: step 10 logs after its point, which is not doubled
