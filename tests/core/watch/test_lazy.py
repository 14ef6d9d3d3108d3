"""Layers that take their shape from what they are called with first: they are watched from then on."""

import json

import pytest
import torch
from torch import nn

from core import Watch
from core.run.tensorboard import read_scalars
from tests.core.watch.loops import classes, classifier, heard


def lazy(first: bool) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(32) if first else nn.Linear(8, 32), nn.Tanh(), nn.LazyLinear(3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("error", [None, ZeroDivisionError])
def test_a_watch_that_ends_before_the_first_call_writes_a_whole_summary(first, error, tmp_path, capsys):
    model, optimizer = lazy(first)

    def loop() -> None:
        with Watch(model, optimizer, loss=nn.CrossEntropyLoss(), directory=tmp_path) as watch:
            assert watch.state_dict()["step"] == 0
            if error is not None:
                raise error

    if error is None:
        loop()
    else:
        with pytest.raises(error):
            loop()
    summary = json.loads((tmp_path / "summary.json").read_text())
    status = "finished" if error is None else "failed"
    assert (summary["status"], summary["steps"], "watch_fault" in summary) == (status, 0, False)
    assert "parameters: null" in (tmp_path / "config.yaml").read_text()
    assert "not watched any longer" not in capsys.readouterr().out


@pytest.mark.parametrize("first", [True, False])
def test_lazy_layers_are_measured_from_their_first_call_and_get_the_weights_that_nobody_watched(
    first, tmp_path
):
    weights = []
    for watching in (False, True):
        model, optimizer = lazy(first)
        loss = nn.CrossEntropyLoss()
        watch = Watch(model, optimizer, loss=loss, directory=tmp_path) if watching else None
        if watch:
            watch.state_dict()
            loss = heard(watch)
        for x, y in classes(30):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        weights.append([p.detach() for p in model.parameters()])
        if watch:
            watch.close()
    assert all(map(torch.equal, *weights))
    curves = read_scalars(tmp_path)
    assert min(curves["layer/2.weight/gradient_norm"]) == (2 if first else 4)
    assert "watch_fault" not in json.loads((tmp_path / "summary.json").read_text())


def test_what_would_give_a_layer_its_shape_is_refused_before_the_first_call():
    model, optimizer = lazy(True)
    watch = Watch(model, optimizer)
    said = r"^0.weight has no shape yet: call the model once, and then "
    with pytest.raises(ValueError, match=said + r"objective\(\)"):
        watch.objective(lambda forward, x: forward(x).mean(), (torch.ones(4, 8),))
    whole = classifier()
    other = Watch(whole, torch.optim.SGD(whole.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=said + r"load_state_dict\(\)"):
        watch.load_state_dict(other.state_dict())
    assert isinstance(model[0].weight, nn.parameter.UninitializedParameter)
    other.close()
    watch.close()
