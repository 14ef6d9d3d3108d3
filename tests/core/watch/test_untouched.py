"""Model, optimizer and loss of a watched loop are copied, saved and compiled as if nobody watched."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from core import Watch
from tests.core.watch.loops import classes, classifier, heard, named

STEPS = 130  # points every second step, then every fifth, every tenth, every twentieth


def no_hooks(model: nn.Module) -> bool:
    return not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_watched_model_is_copied_saved_and_scripted_at_every_step():
    torch.manual_seed(0)
    model, loss = classifier(nn.ReLU(), nn.Linear(3, 3)), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    watch = Watch(model, optimizer, loss=loss)
    for step, (x, y) in enumerate(classes(STEPS)):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        copied, saved = copy.deepcopy(model), io.BytesIO()
        torch.save(model, saved)
        saved.seek(0)
        loaded = torch.load(saved, weights_only=False)
        for other in (copied, loaded, pickle.loads(pickle.dumps(model))):
            assert no_hooks(other)
            assert torch.equal(other(x), model(x))
        pickle.dumps(optimizer)
        copy.deepcopy(optimizer)
        if step % 10 in (0, 1):
            assert torch.equal(torch.jit.script(model)(x), model(x))
            assert torch.equal(torch.jit.script(loaded)(x), model(x))
    assert watch.step == STEPS
    watch.close()
    assert not torch.nn.modules.module._has_any_global_hook()


def test_what_a_copy_is_called_with_is_not_criterion():
    """Dead units of a copy are not those of the model, nor its inputs the model's."""
    torch.manual_seed(0)
    model, loss = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, loss=loss)
    for x, y in classes(60):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        other = copy.deepcopy(model)
        other[0].bias.data.fill_(-1e6)
        copy.deepcopy(loss)(other(1e3 * x), y).backward()
    watch.close()
    assert named(watch).keys().isdisjoint({"dead_units", "unscaled_inputs"})
    assert watch._diagnosis._history.recent("loss/train", 1)[0] < 1.2


@pytest.mark.parametrize("module", [False, True])
def test_a_loss_that_is_heard_is_copied_and_saved_without_the_ear(module):
    model = classifier()
    loss = nn.CrossEntropyLoss() if module else nn.functional.cross_entropy
    watch = Watch(model, torch.optim.SGD(model.parameters(), lr=0.1), loss=loss)
    criterion = model.criterion = heard(watch)
    x, y = next(classes(1))
    scores = model[:3](x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.criterion(scores, y), nn.functional.cross_entropy(scores, y))
    assert watch._ear.samples == 0  # none of them was heard
    criterion(scores, y)
    assert watch._ear.samples == len(x)
    assert b"core.watch" not in pickle.dumps(model)  # whoever loads it needs no package of ours
    watch.close()


def test_a_compiled_part_is_compiled_as_often_as_without_a_watch():
    counts = []
    for watching in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        counter = CompileCounter()
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
        called = torch.compile(
            lambda x, model=model: model(x), backend=counter
        )  # a function: not seen to be one
        optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
        watch = Watch(model, optimizer, loss=loss) if watching else None
        for step, (x, y) in enumerate(classes(40)):
            model.train(step % 5 > 0)  # compiled anew, at a step that is looked at
            optimizer.zero_grad()
            loss(called(x), y).backward()
            optimizer.step()
        counts.append((counter.frame_count, counter.op_count))
        if watch:
            watch.close()
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_a_compiled_wrapper_beside_the_model_brings_no_warning():
    code = """
import warnings
warnings.simplefilter("error")
import torch
from torch import nn
from core import Watch
model = nn.Linear(3, 1)
called = torch.compile(model, backend="eager")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = Watch(model, optimizer)
for _ in range(6):
    called(torch.ones(4, 3)).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
watch.close()
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
