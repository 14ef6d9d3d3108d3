"""A loop that is lost, diverged or full of NaN, is watched to its end, and no remedy for it is absurd."""

import json
import math
import random
import re

import pytest
import torch
from torch import nn

from core import Watch
from core.diagnosis import Sign, diagnose
from core.watch.rules import LAST
from tests.core.watch.loops import classes, classifier, named, train

NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 1e-12, 1e-3, 0.3, 1.0, 3.0, 1e4, 1e38)


def diverging(rate: float, steps: int, directory=None, **options) -> Watch:
    """Linear regression by SGD, which 2 / 18 is the largest stable rate of."""
    torch.manual_seed(0)
    x = 3 * torch.randn(500, 3)
    y = x @ torch.tensor([[2.0], [-3.0], [0.5]]) + 1
    model, loss = nn.Linear(3, 1), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    watch = Watch(model, optimizer, loss=loss, directory=directory, **options)
    batches = (torch.randint(500, (64,)) for _ in range(steps))
    train(model, optimizer, loss, watch, ((x[i], y[i]) for i in batches))
    return watch


@pytest.mark.parametrize(("rate", "steps"), [(0.2, 300), (3.0, 30), (0.115, 300)])
def test_a_diverged_loop_is_watched_to_its_end(rate, steps, tmp_path, capsys):
    watch = diverging(rate, steps, tmp_path)
    assert "not watched any longer" not in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"], "watch_fault" in summary) == ("finished", steps, False)
    saved = json.loads((tmp_path / "findings.json").read_text())
    assert saved["step"] == steps
    assert [entry["name"] for entry in saved["findings"]] == [f.name for f in watch.findings]


def test_the_summary_says_what_ended_the_watch_before_the_training(tmp_path, monkeypatch, capsys):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, directory=tmp_path)
    monkeypatch.setattr(watch._diagnosis, "update", lambda *_: 1 / 0)
    monkeypatch.setattr("core.watch.journal.GradientCharts.draw", lambda *_: 1 / 0)
    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(20))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["watch_fault"] == "ZeroDivisionError: division by zero"
    assert capsys.readouterr().out.count("not watched any longer: ZeroDivisionError") == 2
    Watch(model, optimizer, directory=tmp_path, resume=True).close()  # it was released


def test_a_rule_of_ones_own_that_fails_is_left_out_alone(capsys):
    def bad(history, context):
        raise KeyError("none")

    def wrong(history, context):
        yield 3

    watch = diverging(0.2, 40, rules=[bad, wrong])
    said = capsys.readouterr().out
    assert said.count("left out, and the training goes on") == 2
    assert "a rule must yield core.diagnosis.Sign, got int" in said
    assert "update_too_large" in named(watch)


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_fails_whatever_the_numbers_are(seed):
    """Every curve of a watched loop, with numbers that are not finite, zero, tiny or huge."""
    draw = random.Random(seed)
    watch = diverging(0.01, 60)
    history, context = watch._diagnosis._history, watch._diagnosis._present()
    tags = [*history.tags(), "output/at_start", "loss/no_grad", "noise/noise_scale", "label/rms"]
    tags += [f"layer/{layer}/{q}" for layer in ("weight", "bias") for q in ("gradient_norm", "nonfinite")]
    signs: list[Sign] = []
    for step in range(62, 400, 2):
        few = draw.sample(NUMBERS, 3)
        history.add(step, {tag: draw.choice(few) for tag in tags if draw.random() < 0.9})
        signs += diagnose((*watch._rules, *LAST), history, context)
    assert len({sign.name for sign in signs}) > 3
    for part in (part for sign in signs for part in sign.remedy):
        assert not re.search(r"\b(nan|inf)\b", part), part
        assert not re.search(r"from (\S+) to \1\b", part), part
