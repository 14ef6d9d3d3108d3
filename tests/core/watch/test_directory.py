"""The directory of a watched loop is like a trainer's: report, compare, resumption, landscape."""

import importlib
import json
import math

import pytest
import torch
import yaml
from torch import nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.compare.comparison import CompareConfig, compare_runs
from core.compare.find import find_runs, score_of
from core.config import ConfigError
from core.report.page import write_page
from core.report.read import read_run
from core.run import checkpoint
from core.run.tensorboard import read_scalars
from core.watch.keeping import Keeping
from core.watch.report import SCORE
from gradrl.report import SCORE as RETURN
from tests.core.watch.loops import classes, classifier, train

pytestmark = pytest.mark.usefixtures("blank_figures")

SCRIPTS = {name: importlib.import_module(f"core.scripts.{name}") for name in ("landscape", "report")}


def watched(directory, *, head=(), seed=0, lr=0.01, steps=60, resume=False, load=None):
    model, loss = classifier(*head), nn.CrossEntropyLoss()
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    watch = Watch(model, optimizer, loss=loss, directory=directory, resume=resume)
    train(model, optimizer, loss, watch, classes(steps))
    return watch


def test_its_files_are_those_of_a_trainer(tmp_path):
    watch = watched(tmp_path / "run", head=[nn.Softmax(dim=1)])
    record = read_run(tmp_path / "run", SCRIPTS["report"].kind_of)
    assert (record.status, record.unit, record.step) == ("finished", "steps", 60)
    assert record.options["optimizer"]["_target_"] == "torch.optim.sgd.SGD"
    assert record.options["optimizer"]["lr"] == 0.01
    assert record.options["model"] == {
        "_target_": "torch.nn.modules.container.Sequential", "parameters": 9 * 32 + 33 * 3,
    }  # fmt: skip
    assert record.summary["loss"] == pytest.approx(record.curves["loss/train"][60])
    assert {"versions", "wall_s", "device", "findings"} <= set(record.summary)
    assert list(record.findings) == watch.findings
    assert "gradient_heat_map" in record.media
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"] == 0


def test_its_good_checkpoint_is_the_last_one_with_a_point_without_an_error_behind_it(tmp_path, monkeypatch):
    monkeypatch.setattr("core.watch.keeping.PATIENCE", 0)
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watch, states = Watch(model, optimizer, loss=loss, directory=tmp_path), {}

    def poisoned(step: int) -> None:
        states[step] = {name: value.clone() for name, value in model.state_dict().items()}
        if step >= 33:
            model[0].weight.data[0, 0] = math.nan

    train(model, optimizer, loss, watch, classes(60), poisoned)
    assert "non_finite" in {finding.name for finding in watch.findings}
    good = checkpoint.load(tmp_path / "checkpoints" / "good.pt")
    assert good["run"] == {"step": 30}  # the last point before step 33
    assert all(torch.equal(value, states[30][name]) for name, value in good["model"].items())
    assert all(state["step"] == 30 for state in good["optimizer"]["state"].values())
    classifier().load_state_dict(good["model"])


def test_several_models_are_kept_by_name_and_seldom(tmp_path, monkeypatch):
    models = {name: classifier() for name in ("a", "b")}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.01) for name, model in models.items()}
    kept, path = Keeping(tmp_path, models, optimizers), tmp_path / "checkpoints" / "good.pt"
    kept.logged(3, sound=True)
    assert not path.exists()  # nothing has been seen of it yet
    kept.logged(4, sound=True)  # too soon for another
    good = checkpoint.load(path)
    assert (good["run"], set(good["model"]), set(good["optimizer"])) == ({"step": 3}, {"a", "b"}, {"a", "b"})
    monkeypatch.setattr("core.watch.keeping.num_ranks", lambda: 2)

    def logged(*points: tuple[int, bool]) -> int:
        again = Keeping(tmp_path, models, optimizers)
        for step, sound in points:
            again.logged(step, sound=sound)
        return checkpoint.load(path)["run"]["step"]

    assert logged((5, True), (6, True)) == 5
    assert logged((7, True), (8, False), (9, True)) == 5  # the error may come from what step 7 has
    assert logged((10, False), (11, True)) == 5
    monkeypatch.setattr("core.watch.keeping.DIVIDED", ("Tanh",))
    assert logged((12, True), (13, True)) == 5


def test_the_report_shows_sentences_and_no_command(tmp_path):
    watched(tmp_path / "a", head=[nn.Softmax(dim=1)])
    watched(tmp_path / "b")
    page = write_page(tmp_path / "a", None, SCRIPTS["report"].kind_of).read_text()
    assert "<b>Try</b> to leave out the softmax at the end of the model." in page
    assert "Output does not fit loss" in page
    assert "gradient norm of every layer" in page.lower() or "heat" in page.lower()
    assert 'class="command"' not in page
    assert "momentum" in page
    pair = write_page(tmp_path / "a", tmp_path / "b", SCRIPTS["report"].kind_of).read_text()
    assert "What differs" in pair


@pytest.mark.slow
def test_seeds_of_a_loop_are_compared_by_their_last_loss_and_the_lower_one_is_better(tmp_path):
    for seed in (1, 2, 3):
        watched(tmp_path / "slow" / str(seed), seed=seed, lr=0.01)
        watched(tmp_path / "fast" / str(seed), seed=seed, lr=0.1)
    runs = (str(tmp_path / "slow"), str(tmp_path / "fast"))
    score = score_of(runs, (RETURN, SCORE))
    assert score is SCORE
    cfg = CompareConfig(
        runs=runs, target=None, figure=str(tmp_path / "c.png"), table=None, resamples=200, seed=0
    )
    table = compare_runs(cfg, score)
    assert "SGD optimizer.lr=0.01" in table
    assert "SGD optimizer.lr=0.1" in table
    assert table.count("| 3 ") == 2
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"
    losses = [run.score for run in find_runs(runs, SCORE)]
    assert min(losses[:3]) > max(losses[3:])
    assert "| SGD optimizer.lr=0.1 | 1 [1, 1]" in " ".join(table.split())


@pytest.mark.parametrize("file", ["summary.json", "findings.json"])
def test_a_damaged_file_is_not_written_anew_when_the_loop_goes_on(tmp_path, file):
    watched(tmp_path).close()
    half = (tmp_path / file).read_text()[:20]
    (tmp_path / file).write_text(half)
    with pytest.raises(ConfigError, match=f"{file} is damaged"):
        watched(tmp_path, resume=True)
    assert (tmp_path / file).read_text() == half


def test_an_event_file_that_lost_its_end_is_told_when_the_loop_goes_on(tmp_path, capsys):
    watched(tmp_path).close()
    (events,) = tmp_path.glob("events*")
    events.write_bytes(events.read_bytes()[:-3])
    watched(tmp_path, resume=True, steps=0).close()
    assert f"{events} ends in the middle of an event" in capsys.readouterr().out


def test_a_resumed_watch_has_the_curves_and_findings_of_one_that_was_not_interrupted(tmp_path):
    def run(directory, stops):
        model, loss = classifier(nn.Softmax(dim=1)), nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        watch = Watch(model, optimizer, loss=loss, directory=directory)
        for step, (x, y) in enumerate(classes(70)):
            if step in stops:
                state = watch.state_dict()
                saved = torch.save(state, directory / "watch.pt")
                assert saved is None
                watch.close()
                watch = Watch(model, optimizer, loss=loss, directory=directory, resume=True)
                watch.load_state_dict(torch.load(directory / "watch.pt", weights_only=True))
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        watch.close()
        return read_scalars(directory), json.loads((directory / "findings.json").read_text())

    whole, findings = run(tmp_path / "whole", ())
    parts, resumed = run(tmp_path / "parts", (33, 50))
    assert resumed == findings
    assert findings["findings"]
    # Not looked at in the step after a resumption: nobody was there after the step before it.
    looked_at = ("time/", "gradient/carried", "gradient/lost", "input/", "output/", "label/",
                 "loss/constant", "loss/maximised", "layer/1/")  # fmt: skip
    for tag, curve in whole.items():
        if not tag.startswith(looked_at):
            for step, value in curve.items():
                if step not in (33, 34, 35, 50, 51):  # points that hold the steps about the interruption
                    assert parts[tag][step] == pytest.approx(value, rel=1e-12), (tag, step)


def test_a_frozen_batch_opens_noise_curvature_units_and_the_landscape(tmp_path):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer, directory=tmp_path)
    watch.objective(lambda forward, x, y: cross_entropy(forward(x), y), next(classes(1, batch=256)))
    for x, y in classes(60):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    for grid in (0, 2, 2.5, True, "a"):
        with pytest.raises(ValueError, match=r"^grid must be an integer >= 3, got "):
            watch.landscape(grid=grid)
    for views in ("slices", None, [[]], ["paths"]):
        with pytest.raises(
            ValueError, match=r"^views must be a list of some of slices, surface, spectrum, got"
        ):
            watch.landscape(views)
    pictures = watch.landscape(grid=5)
    watch.close()
    curves = read_scalars(tmp_path)
    assert list(curves["curvature/sharpness"]) == [2, 60]
    assert all(v > 0 for v in curves["noise/signal_to_noise"].values())
    assert [path.name for path in pictures] == ["slices.png", "surface.png", "spectrum.png"]
    assert json.loads((tmp_path / "landscape.json").read_text())["spectrum"]["step"] == 60
    with pytest.raises(ConfigError, match=r"call its Watch\.landscape\(\)"):
        SCRIPTS["landscape"].load(tmp_path, None)


def test_where_a_nan_is_born_is_named():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    batch = next(classes(1))

    def loss(forward, x, y):
        return (forward(x).square().sum(1) - 1e9).sqrt().mean()

    watch.objective(loss, batch)
    optimizer.zero_grad()
    for _ in range(4):
        loss(model, *batch).backward()
        optimizer.step()
    watch.close()
    found = next(f for f in watch.findings if f.name == "non_finite")
    assert "skipped" not in found.what
    assert "value of its loss is not" in found.what or "forward of 0" in found.what
    assert not math.isnan(found.evidence["skipped"])


def test_a_loop_that_fails_leaves_a_summary_that_says_so(tmp_path):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop() -> None:
        with Watch(model, optimizer, directory=tmp_path):
            train(model, optimizer, nn.CrossEntropyLoss(), None, classes(5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(("depth", "shown"), [(2, True), (20, False)])
def test_no_layer_of_a_deep_network_has_a_curve_and_the_rules_have_all_of_them(depth, shown, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(*[part for _ in range(depth) for part in (nn.Linear(4, 4), nn.ReLU())])
    with torch.no_grad():
        model[0].bias.fill_(-1e3)  # its units are dead
    loss, optimizer = nn.MSELoss(), torch.optim.SGD(model.parameters(), 1e-3)
    with Watch(model, optimizer, loss=loss, directory=tmp_path / "run") as watch:
        for x in torch.randn(60, 8, 4):
            optimizer.zero_grad()
            loss(model(x), x).backward()
            optimizer.step()
    of_layers = {tag.rpartition("/")[2] for tag in read_scalars(tmp_path / "run") if tag.startswith("layer/")}
    assert of_layers >= {"gradient_norm", "dead_units"} if shown else of_layers == set()
    assert "dead_units" in {finding.name for finding in watch.findings}
