"""A loop that is lost, diverged or full of NaN, is watched to its end, and no remedy for it is absurd."""

import json
import math
import random
import re
import shutil

import pytest
import torch
from torch import nn

from core import Watch
from core.diagnosis import Sign, diagnose
from core.watch.rules import LAST
from tests.core.watch.loops import classes, classifier, heard, named, train

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
    again = Watch(model, optimizer, directory=tmp_path, resume=True)  # it was released
    again.close()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary  # nothing was loaded
    assert "load_state_dict was not called: nothing is written" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["removed", "moved", "made anew", "emptied"])
@pytest.mark.parametrize("step", [0, 25, 40])
def test_a_directory_that_is_taken_away_is_told_once_and_not_made_anew(how, step, tmp_path, capsys):
    directory, model, loss = tmp_path / "run", classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, loss=loss, directory=directory)

    def take_away(now: int) -> None:
        if now == step and how == "emptied" and step:
            for path in directory.glob("events.*"):  # `rm -r run/*` leaves the lock
                path.unlink()
        elif now == step and how == "moved":
            directory.rename(tmp_path / "moved")
        elif now == step:
            shutil.rmtree(directory)
            if how == "made anew":
                directory.mkdir()

    train(model, optimizer, loss, None, classes(41), take_away)
    files = sorted(directory.rglob("*"))
    watch.state_dict()
    watch.close()
    said = capsys.readouterr().out
    line = f"ConfigError: {directory} was removed, moved or emptied meanwhile: nothing more is written there"
    assert (said.count(line), said.count("not watched any longer"), "finished" in said) == (1, 1, False)
    assert sorted(directory.rglob("*")) == files
    assert directory.exists() == (how == "made anew" or (how == "emptied" and step > 0))
    assert all(p.isfinite().all() for p in model.parameters())


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


@pytest.mark.parametrize("rate", [0.2, 3.0, 30.0])
def test_after_a_blow_up_remedies_have_the_numbers_of_before(rate):
    """The loss is 9 |w - w*|^2 / 2 and more: the first gradients have norms of some dozens."""
    watch = diverging(rate, 60)
    found = named(watch)
    assert found["update_too_large"].consequence_of == ""
    for finding in watch.findings:
        for part in finding.remedy:
            for old, new in re.findall(r"learning rate from (\S+) to (\S+)", part):
                assert (float(old), float(new) >= float(old) / 1000 * 0.999) == (rate, True)
            assert "max_norm" not in part or float(re.findall(r"max_norm=([^)]+)", part)[0]) < 1e4


def test_a_consequence_has_the_remedy_of_its_cause():
    watch = diverging(0.2, 300)
    consequences = [f for f in watch.findings if f.consequence_of]
    assert {"exploding_gradient", "non_finite"} <= {f.name for f in consequences}
    assert {f.remedy for f in consequences} == {named(watch)["update_too_large"].remedy}


def test_the_default_decay_of_adamw_is_not_blamed_for_a_rate_that_is_too_high():
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3)
    watch = Watch(model, optimizer, loss=loss)
    train(model, optimizer, loss, watch, classes(60))
    assert "weight_decay_dominates" not in named(watch)
    assert named(watch)["update_too_large"].remedy[0].startswith("lower the learning rate from 0.3 to 0.00")


def penalised(clips: bool) -> Watch:
    """The derivative of a root at 0 makes the gradient of the first weight NaN at every step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watch = Watch(model, optimizer)
    for x, y in classes(20):
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(model(x), y) + (model[0].weight * 0).abs().sum().sqrt()
        value.backward()
        assert next(n for n, p in model.named_parameters() if not p.grad.isfinite().all()) == "0.weight"
        if clips:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    watch.close()
    return watch


@pytest.mark.parametrize(("clips", "layer"), [(False, "0.weight"), (True, None)])
def test_the_layer_that_was_not_finite_at_first_is_named_and_the_operation_that_did_it(clips, layer):
    """Clipping by a norm that is NaN spreads it over all layers: then none is named."""
    watch = penalised(clips)
    (found,) = watch.findings  # and no dead units, whose outputs are NaN
    assert (found.name, found.layer, found.severity) == ("non_finite", layer, "error")
    assert "add an epsilon" in found.remedy[0]
    assert not any("learning rate" in part or "clip" in part for part in found.remedy)


def test_an_infinite_loss_with_finite_gradients_has_a_remedy():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = Watch(
        model, optimizer, loss=lambda p, y: nn.functional.cross_entropy(p, y) - torch.zeros(1).log()[0]
    )
    criterion = heard(watch)
    for x, y in classes(12):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    watch.close()
    found = named(watch)["non_finite"]
    assert "every gradient is" in found.what
    assert "add an epsilon" in found.remedy[0]


@pytest.mark.parametrize("half", [False, True])
def test_a_gradient_that_is_zero_everywhere_has_advice_on_autocast_only_with_autocast(half):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = Watch(model, optimizer, loss=lambda p, y: nn.functional.cross_entropy(p.float(), y) * 0)
    criterion = heard(watch)
    for x, y in classes(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            criterion(model(x), y).backward()
        optimizer.step()
    watch.close()
    assert any("autocast" in part for part in named(watch)["vanishing_gradient"].remedy) == half


def test_dead_units_explain_a_gradient_that_vanishes_and_what_no_optimizer_has_explains_a_constant():
    torch.manual_seed(0)
    model, loss = nn.Sequential(*(p for _ in range(3) for p in (nn.Linear(8, 8), nn.ReLU()))), nn.MSELoss()
    model[0].bias.data.fill_(-50.0)
    model.append(nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    watch = Watch(model, optimizer, loss=loss)
    train(model, optimizer, loss, watch, ((x, x[:, :1]) for x, _ in classes(100)))
    found = named(watch)
    assert found["vanishing_gradient"].consequence_of == "dead_units"
    assert found["no_better_than_constant"].consequence_of == "dead_units"
    model = classifier(outputs=1)
    optimizer = torch.optim.SGD([model[2].bias], lr=0.1)
    watch = Watch(model, optimizer, loss=loss)
    train(model, optimizer, loss, watch, ((x, x[:, :1]) for x, _ in classes(100)))
    found = named(watch)["no_better_than_constant"]
    assert (found.consequence_of, found.remedy) == (
        "unoptimized_parameters",
        named(watch)["unoptimized_parameters"].remedy,
    )
