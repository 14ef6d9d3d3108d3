"""What is handed over by mistake is refused at once, by one line that says what to do."""

import os

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core import Watch
from core.config import ConfigError
from tests.core.watch.loops import classes, classifier, train


def plateau(history, context):
    yield from ()


class Rule:
    def __call__(self, history, context):
        yield from ()


WRONG = [
    (
        {"loss": nn.MSELoss},
        TypeError,
        r"loss must be a module or a function, got the class: make one, MSELoss\(\)",
    ),
    ({"loss": "mse"}, TypeError, "loss must be a module or a function, got str"),
    ({"rules": [3]}, TypeError, "rules must be a list of functions of the history and the context, got 3"),
    ({"rules": plateau}, TypeError, "rules must be a list of functions .* got <function plateau"),
    ({"rules": [plateau, Rule]}, TypeError, "rules must be a list of functions .* got <class"),
    ({"interval": "x"}, ValueError, "interval must be an integer >= 2, got 'x'"),
    ({"interval": 2.5}, ValueError, "interval must be an integer >= 2, got 2.5"),
    ({"scaler": 3}, TypeError, "scaler must be a torch.amp.GradScaler, got int"),
    ({"directory": ""}, ConfigError, "directory is an empty text: name a folder, or None"),
    ({"directory": 3}, TypeError, "directory must be a path or None, got int"),
    ({"directory": "a" * 300}, ConfigError, "directory 'aaa.*' cannot be looked at: File name too long"),
    ({"directory": "a\0b"}, ConfigError, "cannot hold a run: embedded null byte"),
    ({"resume": True}, ValueError, "resume=True needs the directory of the run that goes on"),
    ({"resume": "yes"}, TypeError, "resume must be True or False, got 'yes'"),
    (
        {"directory": "none", "resume": True},
        ConfigError,
        "none holds no run that could go on: leave out resume=True",
    ),
]


@pytest.mark.parametrize(
    ("options", "kind", "line"), WRONG, ids=lambda x: next(iter(x)) if isinstance(x, dict) else ""
)
def test_an_argument_of_another_kind_is_refused(options, kind, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(kind, match=line) as raised:
        Watch(model, optimizer, **options)
    assert "\n" not in str(raised.value)
    assert not optimizer._optimizer_step_pre_hooks
    assert os.listdir(tmp_path) == []
    Watch(model, optimizer, rules=(plateau, Rule())).close()


def test_names_on_one_side_only_and_names_that_no_tag_can_have_are_refused():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for models, optimizers in (({"a": model}, optimizer), (model, {"a": optimizer})):
        with pytest.raises(ValueError, match="has a name, 'a', and the other side has none"):
            Watch(models, optimizers)
    with pytest.raises(ValueError, match="texts without a slash, got 'a/b'"):
        Watch({"a/b": model}, {"a/b": optimizer})
    Watch({"a": model}, {"b": optimizer}).close()


def test_an_optimizer_under_two_names_is_refused():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="one optimizer has several names, of a, b: hand it over once"):
        Watch(model, {"a": optimizer, "b": optimizer})


@pytest.mark.parametrize(("file", "what"), [("sweep.yaml", "sweep"), ("study.db", "study")])
def test_the_folder_of_a_sweep_or_a_study_is_refused(tmp_path, file, what):
    (tmp_path / file).touch()
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match=f"is the folder of a {what}, whose runs are in it; choose another"):
        Watch(model, optimizer, directory=tmp_path)
    assert os.listdir(tmp_path) == [file]
    Watch(model, optimizer, directory=tmp_path / "mine").close()


@pytest.mark.parametrize(
    ("content", "of"),
    [
        ("_target_: gradrl.train.TrainConfig\n", "of another command, of gradrl.train.TrainConfig"),
        ("x: 1\n", "whose config.yaml names no class"),
    ],
)
def test_a_run_of_another_command_is_never_gone_on_with(tmp_path, content, of):
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "summary.json").write_text("{}")
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match=f"holds a run {of}: resume=True is for the directory"):
        Watch(model, optimizer, directory=tmp_path, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "summary.json"]
    assert (tmp_path / "config.yaml").read_text() == content


@pytest.mark.parametrize("steps", [0, 40])
def test_a_run_of_which_nothing_was_loaded_stays_what_it_was(tmp_path, steps, capsys):
    def watched(resume):
        model, loss = classifier(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2 if resume else 0.1)
        watch = Watch(model, optimizer, loss=loss, directory=tmp_path, resume=resume)
        train(model, optimizer, loss, watch, classes(steps if resume else 60))

    watched(False)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    watched(True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert "holds a run, and load_state_dict was not called: nothing is written" in capsys.readouterr().out


def test_a_second_watch_of_an_optimizer_waits_for_the_end_of_the_first():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = Watch(model, optimizer)
    with pytest.raises(ValueError, match="watched already: call close"):
        Watch(model, optimizer)
    first.close()
    Watch(model, optimizer).close()


LOGGED = [
    ({"a": "x"}, TypeError, "a must be a number or a tensor of one, got str"),
    ({"a": None}, TypeError, "a must be a number or a tensor of one, got NoneType"),
    ({"a": torch.ones(3)}, ValueError, r"a must be a single number, got a tensor of \(3,\): log its mean"),
    ({"a": 1j}, TypeError, "a must be a real number, got torch.complex64 on cpu"),
    ({"a": torch.ones((), device="meta")}, TypeError, "a must be a real number, got torch.float32 on meta"),
    ({"loss": torch.ones(3)}, ValueError, "loss must be a single number"),
    ({"gradient/norm": 1.0}, ValueError, "gradient/norm is a curve that Watch measures itself"),
    ({"critic/gradient/norm": 1.0}, ValueError, "is a curve that Watch measures itself"),
    ({"loss/train": 1.0}, ValueError, "loss/train is a curve that Watch measures itself"),
]


@pytest.mark.parametrize(("curves", "kind", "line"), LOGGED)
def test_what_is_no_curve_of_ones_own_is_refused_and_the_watch_goes_on(curves, kind, line):
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    with pytest.raises(kind, match=line):
        watch.log(**curves)
    watch.log(**{"a": float("nan"), "b": torch.ones(1, 1), "c": True, "accuracy/gradient": 1, "noise": 2})
    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(4))
    assert watch._diagnosis._history.last("b") == 1.0


OBJECTIVES = [
    ("x", torch.ones(4, 8), TypeError, "loss must be a function of forward and batch, got str"),
    (lambda f, x: f(x), (torch.ones(4, 8),), ValueError, r"one number, .* got a tensor of \(4, 3\)"),
    (lambda f, x: 1.0, (torch.ones(4, 8),), ValueError, "must return one number, .* got float"),
    (lambda f, x: 1 / 0, (torch.ones(4, 8),), ValueError, "loss raised ZeroDivisionError: division by zero"),
    (lambda f, x: f(x).mean(), (torch.ones(4, 5),), ValueError, "loss raised RuntimeError: .*mat1 and mat2"),
    (lambda f, x: f(x).mean(), torch.ones(4, 8), TypeError, "batch must be a tuple of tensors"),
    (lambda f, x: f(x).mean(), (3,), TypeError, "batch must be a tuple of tensors"),
    (lambda f: f(torch.ones(4, 8)).mean(), (), TypeError, "batch must be a tuple of tensors"),
    (lambda f, x: (x * 0).sum(), (torch.ones(4, 8),), ValueError, "loss depends on no parameter: it must"),
    (lambda f, x: f(x).detach().mean(), (torch.ones(4, 8),), ValueError, "loss depends on no parameter: "),
    (lambda f, x: f(x).mean() + 0j, (torch.ones(4, 8),), ValueError, "one number, .* torch.complex64"),
    (lambda f, x: f(x).mean(), (torch.ones(0, 8),), ValueError, r"one B >= 1, got the shapes \(0, 8\)"),
    (
        lambda f, x, y: f(x).mean() + y.mean(),
        (torch.ones(4, 8), torch.ones(3)),
        ValueError,
        r"one B >= 1, got the shapes \(4, 8\), \(3,\)",
    ),
]


@pytest.mark.parametrize(("loss", "batch", "kind", "line"), OBJECTIVES)
def test_an_objective_that_cannot_be_is_refused_at_once_and_changes_nothing(loss, batch, kind, line, capsys):
    model = classifier(nn.Dropout(0.5), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)
    before, state = [t.clone() for t in model.state_dict().values()], torch.get_rng_state()
    with pytest.raises(kind, match=line):
        watch.objective(loss, batch)
    watch.objective(lambda forward, x, y: cross_entropy(forward(x), y), next(classes(1)))
    assert all(map(torch.equal, before, model.state_dict().values()))
    assert all(p.grad is None for p in model.parameters())
    assert all(part.training for part in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(4))
    assert "any longer" not in capsys.readouterr().out


def test_an_objective_of_another_model_is_refused_and_names_it():
    models = {name: classifier() for name in ("a", "b")}
    optimizers = {name: torch.optim.SGD(m.parameters(), lr=0.1) for name, m in models.items()}
    watch, batch = Watch(models, optimizers), (torch.ones(4, 8),)
    with pytest.raises(
        ValueError, match="on no parameter of its model, but on those of 'b': call the forward"
    ):
        watch.objective(lambda forward, x: models["b"](x).mean(), batch, model="a")
    watch.objective(lambda forward, x: models["b"](forward(x).repeat(1, 3)[:, :8]).mean(), batch, model="a")
    watch.close()


def test_an_objective_that_calls_the_model_itself_is_refused():
    """Curvature and single-sample gradients are taken at other parameters, of which it would know nothing."""
    model = classifier()
    watch = Watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="calls the model itself: call the forward that it is given"):
        watch.objective(lambda forward, x: model(x).mean(), (torch.ones(4, 8),))
    watch.objective(lambda forward, x: forward(x).mean(), (torch.ones(4, 8),))
    watch.close()


def test_complex_parameters_are_refused_unless_no_optimizer_holds_them():
    model = nn.ModuleDict({"turn": nn.Linear(8, 8, bias=False, dtype=torch.cfloat), "head": nn.Linear(8, 3)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"^Watch takes only real parameters, and turn.weight is complex: make"
    ):
        Watch(model, optimizer)
    assert not optimizer._optimizer_step_pre_hooks
    Watch(model, torch.optim.SGD(model["head"].parameters(), lr=0.1)).close()


def test_an_objective_that_fails_later_is_left_out_alone(capsys):
    model, calls = classifier(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Watch(model, optimizer)

    def loss(forward, x, y):
        calls.append(1)
        return cross_entropy(forward(x), y if len(calls) == 1 else {}[y])

    watch.objective(loss, next(classes(1)))
    train(model, optimizer, nn.CrossEntropyLoss(), watch, classes(30))
    said = capsys.readouterr().out
    assert "not watched any longer" not in said
    assert "unit_health is no longer measured" in said
