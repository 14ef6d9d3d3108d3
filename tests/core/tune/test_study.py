"""Studies: trials are asked, run, pruned, told; those that were killed are taken up again."""

import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from core.cli.launch import compose_tree  # noqa: E402
from core.config import Component, ConfigError, config_dir  # noqa: E402
from core.run.tensorboard import Writer  # noqa: E402
from core.tune import study as studies  # noqa: E402
from core.tune.config import Search, TuneConfig  # noqa: E402
from core.tune.report import page_of  # noqa: E402
from core.tune.space import as_value, contains, extremes, read_space, words_of  # noqa: E402
from core.tune.study import Study  # noqa: E402
from core.tune.trial import Trainer, Trial  # noqa: E402

SPACE = {"optimizer": {"lr": {"low": 0.01, "high": 1.0, "log": True}}, "steps": {"low": 1, "high": 9}}
TRAINER = Trainer("no.module", "trainer", (), (), 10, 100, "trainer")


class Ended:
    """A process that has ended."""

    def __init__(self, status: int) -> None:
        self.returncode = status

    def poll(self) -> int:
        return self.returncode


def config(pruner: Component | None = None, **changed: object) -> TuneConfig:
    search = Search(
        trainer="rl", words=(), objective="value", direction="minimize", evaluation=None, space=SPACE
    )
    sampler = Component(optuna.samplers.RandomSampler, {"seed": 3}, "sampler")
    pruner = pruner or Component(optuna.pruners.NopPruner, {}, "pruner")
    cfg = TuneConfig(
        search=search,
        sampler=sampler,
        pruner=pruner,
        study=None,
        storage=None,
        trials=5,
        jobs=1,
        heartbeat=20,
    )
    return replace(cfg, **changed)


def opened(folder: Path, cfg: TuneConfig | None = None, space: dict | None = None) -> Study:
    folder.mkdir(exist_ok=True)
    return Study(cfg or config(), folder, read_space(space or SPACE), TRAINER)


@pytest.fixture
def begun(monkeypatch) -> list[tuple[Path, list[str]]]:
    """Directories and words of trials that have begun: each ends at once, with (lr - 0.1)^2 + steps.

    A file DIRECTORY.status beside its directory is the exit status, once.
    """
    seen = []

    def begin(asked, directory, words, trainer, tag):
        seen.append((directory, words))
        directory.mkdir(parents=True, exist_ok=True)
        found = dict(word.split("=") for word in words)
        value = (float(found["optimizer.lr"]) - 0.1) ** 2 + float(found["steps"])
        (directory / "summary.json").write_text(json.dumps({"status": "finished", "value": value}))
        status = directory.with_suffix(".status")
        code = int(status.read_text()) if status.exists() else 0
        status.unlink(missing_ok=True)
        return Trial(asked, directory, Ended(code), tag, trainer)

    monkeypatch.setattr(studies, "begin", begin)
    monkeypatch.setattr(studies, "POLL_S", 0.0)
    monkeypatch.setattr(studies, "DATABASE_S", 0.0)
    return seen


def test_a_study_has_as_many_trials_as_were_asked_for_and_knows_its_best(tmp_path, begun):
    study, said = opened(tmp_path / "s"), []
    assert study.work(said.append) is None
    values = [json.loads((d / "summary.json").read_text())["value"] for d, _ in begun]
    assert [d.name for d, _ in begun] == ["0", "1", "2", "3", "4"]
    assert study.best.value == pytest.approx(min(values))
    assert len(said) == 5
    assert opened(tmp_path / "s").work(said.append) is None  # there are enough
    assert opened(tmp_path / "s", config(trials=7, jobs=2)).work(said.append) is None
    assert len(begun) == len(said) == 7


def test_a_trial_whose_process_was_killed_goes_on_in_its_directory(tmp_path, begun):
    (tmp_path / "s" / "trials").mkdir(parents=True)
    (tmp_path / "s" / "trials" / "2.status").write_text("-9")
    study, said = opened(tmp_path / "s"), []
    study.work(said.append)
    assert [d.name for d, _ in begun] == ["0", "1", "2", "2", "4", "5"]  # the second try is trial 3
    assert begun[2][1] == begun[3][1]  # with the same values
    assert said[2] == "trial 2: interrupted; it is queued again"
    assert len([t for t in study.optuna.trials if t.state.name == "COMPLETE"]) == 5


def test_a_trial_that_fails_counts_and_is_no_best(tmp_path, begun):
    (tmp_path / "s" / "trials").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "s" / "trials" / f"{number}.status").write_text("1")
    study, said = opened(tmp_path / "s"), []
    study.work(said.append)
    assert [d.name for d, _ in begun] == ["0", "1", "2", "3", "4"]
    assert study.best.number == 4
    assert said[0].startswith("trial 0: failed: ")


@pytest.mark.slow  # of waiting
def test_a_trial_whose_command_has_died_is_taken_over_by_another(tmp_path, begun):
    dead = opened(tmp_path / "s", config(heartbeat=1))
    dead._ask()
    alive = opened(tmp_path / "s", config(heartbeat=1))
    assert alive.work(lambda line: None) is None
    assert [d.name for d, _ in begun].count("0") == 2
    assert len([t for t in alive.optuna.trials if t.state.name == "COMPLETE"]) == 5


def evaluated(study: Study, directory: Path, points: dict[int, float]) -> Trial:
    """A trial at work whose events have these evaluations."""
    writer = Writer(directory)
    for step, value in points.items():
        writer.scalars({"eval/x": value}, step)
    writer.close()
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    return Trial(study.optuna.ask(study.space), directory, running, "eval/x", TRAINER)


def test_a_trial_below_the_median_at_the_same_evaluation_is_stopped(tmp_path):
    pruner = Component(optuna.pruners.MedianPruner, {"n_startup_trials": 1, "n_warmup_steps": 0}, "pruner")
    study = opened(tmp_path / "s", config(pruner))
    trials = {
        "good": evaluated(study, tmp_path / "good", {12: 1.0, 21: 0.5, 100: 0.1}),
        "bad": evaluated(study, tmp_path / "bad", {10: 3.0, 100: 0.0}),
        "better": evaluated(study, tmp_path / "better", {19: 0.9, 20: 0.4}),
    }
    try:
        for name, trial in trials.items():
            trial.look()
            if name == "good":
                study.optuna.tell(trial.asked, 0.1)
        assert {name: trial.pruned for name, trial in trials.items()} == {
            "good": False,
            "bad": True,
            "better": False,
        }
        assert trials["bad"].process.wait(10) == -signal.SIGTERM
        noted = study.optuna.trials
        assert noted[0].intermediate_values == {1: 1.0, 2: 0.5}  # by number, and without the final one
        assert noted[2].intermediate_values == {1: pytest.approx(0.9), 2: pytest.approx(0.4)}
    finally:
        for trial in trials.values():
            trial.process.kill()
            trial.process.wait()


def test_a_study_is_about_one_space_one_objective_and_one_set_of_words(tmp_path):
    opened(tmp_path / "s")
    other = {**SPACE, "steps": {"low": 1, "high": 10}}
    with pytest.raises(ConfigError, match="holds a study of another space"):
        opened(tmp_path / "s", space=other)
    with pytest.raises(ConfigError, match="holds a study of another objective"):
        opened(tmp_path / "s", config(search=replace(config().search, objective="loss")))
    with pytest.raises(ConfigError, match="holds a study of another direction"):
        opened(tmp_path / "s", config(search=replace(config().search, direction="maximize")))


@pytest.mark.parametrize(
    ("storage", "line"),
    [
        ("nonsense", "storage must be a URL such as postgresql://USER@HOST/NAME, or null, got 'nonsense'"),
        ("sqlite:////no/such/folder/x.db", "storage cannot be opened: "),
        ("nodatabase://host/x", "storage cannot be opened: "),
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused(tmp_path, storage, line):
    with pytest.raises(ConfigError, match=line):
        opened(tmp_path / "s", config(storage=storage))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "search.space is empty"),
        ({"a": 3}, "search.space.a must be a range"),
        ({"a": {"low": 2, "high": 1}}, "search.space.a is empty: low must be below high"),
        ({"a": {"low": 1, "high": 1}}, "search.space.a is empty"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "low must be above 0 and below high"),
        ({"a": {"b": {"low": 1}}}, "search.space.a.b must have two numbers"),
        ({"a": {"low": 1, "hihg": 2}}, "unknown option search.space.a.hihg; did you mean high?"),
        ({"a": {"choices": []}}, "search.space.a.choices must be a list"),
        ({"a": {"choices": "tanh"}}, "search.space.a.choices must be a list"),
        ({"a": {"low": True, "high": 2}}, "must have two numbers"),
    ],
)
def test_a_space_that_says_nothing_is_refused(tree, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_space(tree)


def test_values_become_words_and_typed_values_are_found_in_the_space():
    space = read_space(
        {"a": {"b": {"low": 0.1, "high": 10.0, "log": True}}, "c": {"choices": [[64, 64], None, True, "x"]}}
    )
    assert [*extremes(space)] == [{"a.b": 0.1, "c": "[64,64]"}, {"a.b": 10.0, "c": "x"}]
    assert words_of({"a.b": 0.1, "c": None, "d": True}) == ["a.b=0.1", "c=null", "d=true"]
    assert as_value([64, 64]) == "[64,64]"
    assert [contains(space["c"], value) for value in ([64, 64], True, "y")] == [True, True, False]
    assert [contains(space["a.b"], value) for value in (0.1, 0.05, "auto")] == [True, False, False]


SEARCH = """
trainer: descend
words: [function=booth, "pictures=[]", logging.progress=false]
objective: value
direction: minimize
evaluation: null
space: {optimizer: {lr: {low: 0.001, high: 0.5, log: true}}}
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_search_whose_command_is_killed_goes_on_and_writes_what_it_has_found(tmp_path):
    (tmp_path / "own" / "search").mkdir(parents=True)
    (tmp_path / "own" / "search" / "booth.yaml").write_text(SEARCH)
    line = [sys.executable, "-m", "core.scripts.tune", "--config-dir", "own", "search=booth", "steps=3000"]
    line += ["study=s", "trials=4", "jobs=2", "heartbeat=1"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while not [*tmp_path.glob("s/trials/*/config.yaml")]:
        time.sleep(0.1)
        assert process.poll() is None
    process.kill()
    process.wait()
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "trials: 4 finished" in done.stdout
    values = [json.loads(p.read_text())["value"] for p in tmp_path.glob("s/trials/*/summary.json")]
    assert len(values) == 4
    assert f"best: value {min(values):.4g} " in done.stdout
    (said,) = [each for each in done.stdout.splitlines() if each.startswith("run it with: ")]
    again = shlex.split(said.removeprefix("run it with: "))
    assert again[:4] == [sys.executable, "-m", "core.scripts.descend", "--config-dir"]
    subprocess.run([*again, "hydra.run.dir=again"], cwd=tmp_path, check=True, capture_output=True)
    value = json.loads((tmp_path / "again" / "summary.json").read_text())["value"]
    assert value == pytest.approx(min(values), rel=1e-3, abs=1e-12)  # the rate has six digits


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (
            "rl",
            [
                "agent=ppo",
                "env=acrobot",
                "total_steps=50000",
                "optimizer.lr=0.002",
                "policy.hidden_sizes=[64]",
            ],
        ),
        ("rl", ["agent=sac", "env.id=Pendulum-v1", "env=by_id", "agent.gradient_steps=null", "num_envs=3"]),
        ("gan", ["data=digits", "penalty.gamma=0.3", "discriminator.lr=0.01", "optimizer.betas=[0.5,0.9]"]),
    ],
)
def test_the_page_of_the_best_options_composes_to_what_the_words_do(tmp_path, trainer, words):
    folders = [config_dir(), tmp_path / "conf"]
    assert page_of(trainer, words, tmp_path, "return 7", folders[:1]) == f"{trainer}/tuned"
    page = compose_tree(trainer, [f"experiment={trainer}/tuned"], folders)[0]
    assert page == compose_tree(trainer, words, folders[:1])[0]


def test_a_command_without_experiments_has_no_page(tmp_path):
    assert page_of("descend", ["function=booth"], tmp_path, "", [config_dir()]) is None
    assert not (tmp_path / "conf").exists()
