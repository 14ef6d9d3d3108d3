"""gradsight-tune: what is typed for it and for its trainer is checked before anything is made."""

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from core.cli.choices import YamlFile
from core.cli.completion import candidates
from core.config import config_dir
from tests.conftest import Command, assert_refused

NEEDED = pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
ACROBOT = ("search=ppo", "env=acrobot", "total_steps=50000")


@NEEDED
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search=pp",), "search=pp does not exist"),
        (("search=none",), "search=none does not exist"),
        (("trials=0",), "trials must be an integer >= 1, got 0"),
        (("jobs=-1",), "jobs must be an integer >= 1"),
        (("heartbeat=0",), "heartbeat must be an integer >= 1"),
        (("search.direction=up",), "search.direction must be one of"),
        (("search.space.optimizer.lr.high=1e-6",), "search.space.optimizer.lr is empty"),
        (
            ("search.space.agent.num_epochs.choices=[]",),
            "search.space.agent.num_epochs.choices must be a list",
        ),
        (("search.space.agent.num_epochs.choices=[0]",), "agent.num_epochs must be an integer >= 1, got 0"),
        (("search.trainer=rll",), "search.trainer must be one of rl, gan, descend, got rll"),
        (("agent.num_epoch=3",), "unknown option agent.num_epoch; did you mean agent.num_epochs?"),
        (("seed=1,2",), "seed=1,2 has several values"),
        (("hydra.run.dir=x",), "each trial has its own directory"),
        (("resume=x",), "each trial has its own directory"),
        (("-m",), "leave -m out"),
        (("study=last",), "there is no study in runs/tune/"),
        (
            ("storage=sqlite:////no/such/place.db",),
            "error: storage cannot be opened: unable to open database file\n",
        ),
        (
            ("storage=nonsense",),
            "storage must be a URL such as postgresql://USER@HOST/NAME, or null, got",
        ),
        (("sampler._target_=torch.nn.Identity",), "sampler._target_ must name a BaseSampler of Optuna"),
        (("pruner.min_resource=3",), "unknown option pruner.min_resource"),
        (("env=acrobt",), "env=acrobt does not exist"),
        (("search.objective=eval_retrn_mean",), "did you mean eval_return_mean?"),
        (("search.objective=eval/returns",), "search.objective=eval/returns: such runs have no number"),
        (
            ("search.evaluation=eval/fid",),
            "search.evaluation=eval/fid: such runs have no number",
        ),
        (("objective=eval_return_std",), "train_rl has no option objective; did you mean search.objective?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(command: Command, words, message):
    assert_refused(command("tune", *ACROBOT, *words), message)


@NEEDED
def test_a_study_is_not_written_into_a_run(command: Command):
    Path("run").mkdir()
    Path("run/config.yaml").write_text("_target_: gradrl.train.TrainConfig\n")
    outcome = command("tune", *ACROBOT, "study=run")
    assert (outcome.status, outcome.err) == (
        2,
        "error: study=run: it holds a run; a study has a folder of its own\n",
    )
    assert [path.name for path in Path("run").iterdir()] == ["config.yaml"]


@NEEDED
def test_a_study_is_not_written_into_a_sweep_nor_a_run_or_a_sweep_into_a_study(command: Command):
    Path("both").mkdir()
    Path("both/sweep.yaml").touch()
    outcome = command("tune", *ACROBOT, "study=both")
    said = "error: study=both: it is the folder of a sweep; a study has a folder of its own\n"
    assert (outcome.status, outcome.err) == (2, said)
    Path("both/sweep.yaml").rename("both/study.db")
    said = "error: both is the folder of a study, whose runs are in it; choose another\n"
    for words in (("hydra.run.dir=both",), ("-m", "seed=1,2", "hydra.sweep.dir=both")):
        outcome = command("descend", "steps=0", *words)
        assert (outcome.status, outcome.err, outcome.out) == (2, said, "")
    assert [path.name for path in Path("both").iterdir()] == ["study.db"]


@NEEDED
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=ring",), "search.objective=fid: such runs have no number of that name; they have modes,"),
        (
            ("data=ring", "search.objective=reverse_kl"),
            "search.evaluation=eval/fid: such runs have no number of that name; they have eval/modes, ",
        ),
        (("env=cartpole",), "gradgan has no option env"),
    ],
)
def test_a_search_for_what_the_trainer_does_not_measure_is_refused(command: Command, words, message):
    assert_refused(command("tune", "search=gan", *words), message)


@NEEDED
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ppo", ("env=acrobot",)),
        ("a2c", ("env=cartpole",)),
        ("sac", ("env=pendulum",)),
        ("td3", ("env=pendulum",)),
        ("gan", ("data=digits",)),
    ],
)
def test_every_search_fits_its_trainer_at_both_ends_of_its_space(name, words):
    from core.cli.launch import compose_tree
    from core.config import build
    from core.tune.search import _trainer
    from core.tune.space import read_space

    cfg = build(compose_tree("tune", [f"search={name}"], [config_dir()])[0])
    trainer = _trainer(cfg, read_space(cfg.search.space), words, [config_dir()], "'a b/tune.py'")
    assert trainer.interval < trainer.total
    command = "train_gan" if name == "gan" else "train_rl"
    assert trainer.typed == f"'a b/{command}.py'"


def test_without_optuna_the_extra_is_named(command: Command, monkeypatch):
    tune = importlib.import_module("core.scripts.tune")
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    assert_refused(command("tune", *ACROBOT), "pip install 'gradsight[tune]'")


def test_help_and_completion_know_the_command(command: Command):
    said = command("tune", "--help").out
    for text in ("search: a2c, gan, ppo, sac, td3", "trials: 20", "pruner: asha, median, none"):
        assert text in said
    root = YamlFile(config_dir() / "tune.yaml")
    assert candidates(root, "gradsight-tune search=s", [config_dir()]) == ["search=sac"]
    assert "trials=" in candidates(root, "gradsight-tune env=acrobot tr", [config_dir()])
