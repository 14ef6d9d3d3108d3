"""The short way to torch's fused kernels gives torch's numbers, and is taken only where it may be."""

import copy

import pytest
import torch
from torch import nn

from core.gradients.optimizer_step import OptimizerStep, lacks_velocity

KINDS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.5, 0.9), amsgrad=True, fused=True),
    "maximize": lambda p: torch.optim.Adam(p, lr=0.01, maximize=True, fused=True),
    "default": lambda p: torch.optim.Adam(p, lr=0.01),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
}


def groups(net: nn.Module) -> list[dict]:
    weight, *rest = net.parameters()
    return [{"params": [weight]}, {"params": rest, "lr": 0.1, "weight_decay": 0.01}]


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_that_of_the_optimizers_own_step(kind):
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    theirs = copy.deepcopy(ours)
    a, b = KINDS[kind](groups(ours)), KINDS[kind](groups(theirs))
    short = OptimizerStep(a)
    for i in range(6):
        for net in (ours, theirs):
            net.zero_grad()
            loss = net(torch.full((2, 3), float(i))).square().sum()
            torch.autograd.backward(
                loss, inputs=[*net.parameters()][: 3 if i == 2 else 4]
            )  # one has no gradient
        if i == 4:  # new state tensors
            a.load_state_dict(copy.deepcopy(a.state_dict()))
        short()
        b.step()
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(p, q)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert a.state[p].keys() == b.state[q].keys()
        assert all(torch.equal(a.state[p][k], b.state[q][k]) for k in a.state[p] if a.state[p][k] is not None)


def test_a_state_that_somebody_clears_or_a_group_that_is_added_is_seen():
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    more, others = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    a, b = (torch.optim.Adam([p], lr=0.1, fused=True) for p in (ours, theirs))
    short = OptimizerStep(a)
    for i in range(9):
        if i == 3:
            a.state.clear()
            b.state.clear()
        if i == 6:
            a.add_param_group({"params": [more]})
            b.add_param_group({"params": [others]})
        for p in (ours, theirs, more, others):
            p.grad = torch.arange(float(len(p))) - i
        short()
        b.step()
        assert torch.equal(ours, theirs)
        assert torch.equal(more, others)
    assert not torch.equal(more, torch.ones(2))


def test_hooks_and_schedulers_of_others_are_called():
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([p], lr=0.1, fused=True)
    short = OptimizerStep(optimizer)
    calls = []
    for _ in range(2):
        p.grad = torch.ones(2)
        short()
    handle = optimizer.register_step_post_hook(lambda *_: calls.append("hook"))
    short()
    handle.remove()
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # wraps `step` to count its calls
    before = optimizer._step_count if hasattr(optimizer, "_step_count") else None
    short()
    assert calls == ["hook"]
    assert before is None or optimizer._step_count == before + 1


def test_a_velocity_that_is_about_to_begin_is_told():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([first, second], lr=0.1, momentum=0.9, fused=True)
    first.grad = torch.ones(2)
    assert lacks_velocity(optimizer)
    optimizer.step()
    assert not lacks_velocity(optimizer)  # the second has no gradient yet
    second.grad = torch.ones(2)
    assert lacks_velocity(optimizer)
    assert not lacks_velocity(torch.optim.SGD([first], lr=0.1, fused=True))
    assert not lacks_velocity(torch.optim.Adam([first], fused=True))
