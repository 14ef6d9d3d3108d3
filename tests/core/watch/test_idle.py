"""An optimizer that is never called is named, and one that waits for its turn is not."""

import json

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.watch.idle import MANY
from tests.core.watch.loops import classes, classifier, named


def loop(steps: int, directory=None, each=lambda step, optimizer: optimizer.zero_grad()) -> Watch:
    """A loop that never calls step."""
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, directory=directory)
    for step, (x, y) in enumerate(classes(steps)):
        each(step, optimizer)
        cross_entropy(model(x), y).backward()
    watch.close()
    return watch


def test_a_forgotten_step_is_named_while_the_loop_runs_and_at_its_end(tmp_path, capsys):
    watch = loop(MANY + 30, tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert "error: optimizer_never_steps: 50 gradients of its parameters were cleared" in said[0]
    assert "nothing was seen" in said[1]
    found = named(watch)["optimizer_never_steps"]
    assert found.remedy == (
        "call optimizer.step() after loss.backward(), on the optimizer that Watch was given",
    )
    (entry,) = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert entry["evidence"] == {"unused": MANY + 29.0}  # the last one was not cleared
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["steps"], summary["findings"][0]["name"]) == (0, "optimizer_never_steps")


def test_a_short_loop_without_a_step_is_named_at_its_end():
    assert list(named(loop(4))) == ["optimizer_never_steps"]


def test_an_optimizer_made_anew_in_each_step_is_not_the_one_that_is_watched():
    model = classifier()
    watch = Watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for x, y in classes(MANY + 2):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    watch.close()
    found = named(watch)["optimizer_never_steps"]
    assert "something else moves the parameters" in found.what
    assert found.remedy == ("make the optimizer once, before the loop, and hand that one to Watch",)


def test_accumulation_and_gradients_that_are_only_returned_are_no_idleness():
    watch = loop(3 * MANY, each=lambda step, optimizer: None)
    assert (watch._idle[""].unused, watch.findings) == (0, [])
    model = classifier()
    watch = Watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for x, y in classes(2 * MANY):
        torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
    watch.close()
    assert watch.findings == []


@pytest.mark.parametrize("turns", [MANY + 10])
def test_a_player_that_waits_for_its_turn_is_not_idle_and_no_hook_is_left_after_the_first_step(turns):
    players = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=1e-3) for name, net in players.items()}
    watch = Watch(players, optimizers)
    for number in range(2 * turns):
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        players["discriminator"](players["generator"](torch.randn(8, 2))).square().mean().backward()
        optimizers["generator" if number % turns == turns - 1 else "discriminator"].step()
    assert watch._idle == {}
    assert not any(p._post_accumulate_grad_hooks for net in players.values() for p in net.parameters())
    watch.close()
    assert "optimizer_never_steps" not in named(watch)
