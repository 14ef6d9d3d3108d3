"""The command line: a bad override ends in one line and status 2, nothing made; a good one gets through."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.cli import launch, sweeps
from core.config import config_dir
from tests.conftest import Command, assert_refused
from tests.thinned import thinned

TRAINERS = ("gan", "rl")
BOTH = [
    (["seeed=2"], "unknown option seeed; did you mean seed?"),
    (["+seeed=2"], "unknown option seeed; did you mean seed?"),
    (["++logging.intervl=3"], "unknown option logging.intervl; did you mean logging.interval?"),
    (["optimizer=adm"], "optimizer=adm does not exist; choose from adadelta, adafactor, "),
    (["seed=one"], "seed must be an integer, got 'one'"),
    (["optimizer.lr=fast"], "optimizer.lr must be a number, got 'fast'"),
    (["seed=-1"], "seed must be an integer >= 0, got -1"),
    (["optimizer.lr=nan"], "optimizer.lr must be a finite number, got nan"),
    (["optimizer.lr=inf"], "optimizer.lr must be a finite number, got inf"),
    (["optimizer.lr=-0.1"], "optimizer.lr must be a number >= 0, got -0.1"),
    (["device=cuda:99"], "device=cuda:99 is not available: this machine has"),
    (["seed=1,2"], "seed=1,2 has several values; add -m to run all of them"),
    (["-m", "seed=1,-2"], "seed must be an integer >= 0, got -2"),
    (["resume=nowhere"], "there is no run in nowhere"),
]
OWN = {
    "rl": [
        (["optimzer=adam"], "unknown option optimzer; did you mean optimizer"),
        (["seed"], "cannot read 'seed': expected option=value"),
        (["=3"], "cannot read '=3': expected option=value"),
        (["agent={clip_coeff: 0.3}"], "unknown option agent.clip_coeff; did you mean agent.clip_coef?"),
        (["logging={intervl: 3}"], "unknown option logging.intervl; did you mean logging.interval?"),
        (["logging={interval: fast}"], "logging.interval must be an integer, got 'fast'"),
        (["env.kwargs=null"], "env.kwargs must be a group of options, got null"),
        (["agent=null"], "agent=null must name different choices of agent, as agent=A"),
        (["probe=[noise,noise]"], "probe=[noise,noise] must name different choices of probe, as probe=[A,B]"),
        (["-m", "clipper=glob(*)"], "clipper=glob(*): -m cannot count these; write a,b or"),
        (["-m", "optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1): -m cannot count these"),
        (["-m", "seed=range(0,inf)"], "seed=range(0,inf) must have between 1 and 100,000 values"),
        (["-m", "seed=range(3,1)"], "seed=range(3,1) must have between 1 and 100,000 values"),
        (["-m", "seed=range(1,3,0)"], "seed=range(1,3,0) must have between 1 and 100,000 values"),
        (["-m", "seed=1,2", "hydra.sweeper.params.seed=1,2"], "hydra.sweeper.params.seed is not read here"),
        (["-m", "clipper=none,value", "hydra.sweep.subdir=${clipper}"], "hydra.sweep.subdir: While"),
        (["-m", "seed=1,2", "hydra.sweep.subdir=${hydra:runtime.choices.no}"], "hydra.sweep.subdir: While"),
        (["~seed"], "seed is missing"),
        (["hydra.rnu.dir=there"], "rnu"),
        (["seed=1.5"], "seed must be an integer, got 1.5"),
        (["logging.progress=3"], "logging.progress must be true or false, got 3"),
        (["clipper.max_norm=nan"], "clipper.max_norm must be a finite number, got nan"),
        (["schedule.final=1.5"], "schedule.final must be"),
        (
            ["clipper=none", "clipper.max_norm=0.5"],
            "clipper.max_norm: clipper is none here; it is one of clipper=global_norm, per_layer, zclip\n",
        ),
        (["agent=trpo", "clipper.max_norm=3"], "clipper.max_norm: clipper is none here; it is one of"),
        (["probe=none", "probe.noise.interval=3"], "probe is none here; it is one of probe=noise\n"),
        (["probe=noise", "probe.curvature.interval=3"], "probe has no curvature, only noise\n"),
        (["logger=[csv,mlflow]", "logger.csvv.x=2"], "logger.csvv.x; did you mean logger.csv?\n"),
        (["env=[cartpole,pendulum]"], "env=[cartpole,pendulum] must name one env\n"),
        (["optimizer._target_=torch.optim.NAdm"], "torch.optim has no NAdm; did you mean NAdam?"),
        (["optimizer._target_=torch.optim.SGD", "optimizer.betas=[0,0]"], "unknown option optimizer.betas: "),
        (["-m", "seeed=1,2"], "unknown option seeed; did you mean seed?"),
        (["--config-name", "other"], "use --config-dir FOLDER"),
        (["agent.clip_coeff=0.3"], "unknown option agent.clip_coeff; did you mean agent.clip_coef?"),
        (["agent.clip_coef=nan"], "agent.clip_coef must be a finite number, got nan"),
        (["agent.clip_coef=2.0"], "agent.clip_coef must be"),
        (["agent.clip_schedule=linaer"], "agent.clip_schedule must be one of constant, linear"),
        (["experiment=none", "agent.num_minibatches=7"], "agent.num_minibatches must"),
        (["total_steps=0"], "total_steps must be an integer >= 1, got 0"),
        (["num_envs=-8"], "num_envs must be an integer >= 1, got -8"),
        (["policy.hidden_sizes=[64,-1]"], "policy.hidden_sizes must be"),
        (["evaluation.episodes=0"], "evaluation.episodes must be"),
        (["env=cartpol"], "did you mean cartpole?"),
        (["env.id=CartPol-v1"], "gymnasium knows, got 'CartPol-v1'; did you mean CartPole-v1?"),
        (["env.kwargs.wind=1"], "env.id=CartPole-v1 cannot be made"),
        (["env.import_module=no_such_package"], "env.import_module=no_such_package cannot be imported"),
        (["env.id=no_such_package:X-v0"], "env.id=no_such_package:X-v0 cannot be imported: Mod"),
        (["env.id=gymnasium:CartPol-v1"], "gymnasium knows, got 'CartPol-v1'; did you mean CartPole-v1?"),
        (["env=by_id"], "env.id must be a string, got null"),
        (
            ["env.wrappers=[{_target_: gymnasium.wrappers.vector.ClipReward}]"],
            "env.wrappers.0._target_ must be a class of gymnasium.Wrapper, got 'ClipReward'",
        ),
        (["env.wrappers=[{_target_: gradrl.envs.wrappers.KeepElement}]"], "did you mean KeepElements?"),
        (["env=cartpole_no_velocity", "env.wrappers.0.column=[0]"], "did you mean env.wrappers.0.columns?"),
        (["env=cartpole_no_velocity", "env.wrappers.0.columns=[9]"], "KeepElements does not fit CartPole-v1"),
    ],
    "gan": [
        (["++seeed=2"], "unknown option seeed; did you mean seed?"),
        (["optimizer.lr=[1,2]"], "optimizer.lr must be a number, got [1, 2]"),
        (["data=ring", "optimizer.lr=null"], "optimizer.lr must be a number >= 0, got null"),
        (["optimizer.betas=0.9"], "optimizer.betas must be a list"),
        (["clipper=value", "clipper.max_value=inf"], "clipper.max_value must be a finite number, got inf"),
        (["logging.interval=0"], "logging.interval must be an integer >= 1, got 0"),
        (["num_threads=0"], "num_threads must be an integer >= 1 or null, got 0"),
        (["device=abacus"], "device must be auto, cpu, cuda, cuda:N or mps, got 'abacus'"),
        ([f"device={'x' * 3000}"], f"cuda:N or mps, got '{'x' * 43}...{'x' * 22}'"),
        (["optimizer._target_=torch.optim.NAdam", "optimizer.momentun=1"], "optimizer.momentun: torch.optim"),
        (["-m", "seed=1,two"], "seed must be an integer, got 'two'"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder"),
        (["--sede", "3"], "--sede"),
        (["penalty.gama=2"], "unknown option penalty.gama; did you mean penalty.gamma?"),
        (["penalty.gamma=nan"], "penalty.gamma must be a finite number, got nan"),
        (["discriminator.lr=-1.0"], "discriminator.lr must be a number >= 0 or null, got -1.0"),
        (["discriminator.lr=fast"], "discriminator.lr must be a number or null, got 'fast'"),
        (["average.half_life=0"], "average.half_life must be"),
        (["total_images=0"], "total_images must be an integer >= 1, got 0"),
        (["batch_size=-1"], "batch_size must be an integer >= 1, got -1"),
        (["batch_size=5000"], "batch_size must be at most 1347, the images of data=digits, got 5000"),
        (["data=digit"], "data=digit does not exist"),
        (["data=ring", "network=dcgan"], "network=dcgan takes square images"),
        (["data=ring", "data.std=-0.01"], "data.std must be a finite number > 0, got -0.01"),
        (["data=folder"], "data.root must be a folder or a zip archive of images, got null"),
        (["data=folder", "data.root=nowhere"], "data.root=nowhere is not a folder"),
        (["update=alternatin"], "did you mean alternating?"),
        (["agent=ppo"], "error: gradgan has no option agent"),
        (["experiment=rl/ppo_acrobot"], "experiment/rl/ppo_acrobot belongs to another command"),
        (["data=folder", "data.root=.", "data.held_out=0.2"], "data.root=. holds no image"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(("overrides", "message"), BOTH, ids=lambda value: str(value)[:40])
def test_a_bad_override_ends_in_one_line_with_nothing_made(command: Command, name, overrides, message):
    quick = ["data=ring"] if name == "gan" else []  # nothing to load
    assert_refused(command(name, *quick, *overrides), message)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    thinned(((name, overrides, message) for name in sorted(OWN) for overrides, message in OWN[name]), 2),
    ids=lambda value: str(value)[:40],
)
def test_a_bad_override_of_one_trainer_ends_in_one_line_with_nothing_made(
    command: Command, name, overrides, message
):
    assert_refused(command(name, *overrides), message)


@pytest.mark.parametrize(
    ("name", "typed", "nearest"),
    [("rl", "rl/ppo_cartpol", "rl/ppo_cartpole"), ("gan", "gan/rng", "gan/ring"), ("gan", "nonsense", None)],
)
def test_a_misspelt_experiment_is_named_as_typed_with_the_pages_of_that_command(
    command, name, typed, nearest
):
    outcome = command(name, f"experiment={typed}")
    assert_refused(outcome, f"error: experiment={typed} does not exist", f"choose from none, {name}/")
    assert ("gan/" in outcome.err, "rl/" in outcome.err) == (name == "gan", name == "rl")
    assert nearest is None or outcome.err.endswith(f"did you mean {nearest}?\n")


def test_the_configuration_of_a_sweep_is_not_one_to_print(command: Command):
    assert_refused(command("rl", "-m", "seed=1,2", "--cfg", "job"), "leave -m out")


@pytest.mark.parametrize("several", ["[sgd,sgd]", "3", "[3]", "[[sgd]]", "{sgd: 1}", "[sgd,null]"])
def test_several_choices_that_are_none_are_refused_in_our_own_words(command: Command, several):
    message = f"optimizers={several} must name different choices of optimizer, as optimizers=[A,B]"
    assert_refused(command("descend", f"optimizers={several}"), message)


@pytest.mark.parametrize("env", ["Reads-v0", "Writes-v0"])
def test_a_space_that_no_policy_serves_is_refused_by_name(command: Command, odd_envs, env):
    outcome = command("rl", "env.import_module=odd_envs", f"env.id={env}")
    assert_refused(outcome, f"env.id={env}", "Text")


def test_an_empty_image_folder_is_refused(command: Command, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("no image")
    assert_refused(command("gan", "data=folder", "data.root=../images"), "data.root=../images holds no image")


def test_a_half_broken_image_folder_is_refused_with_the_names_of_the_broken_files(command: Command, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        Image.effect_noise((16, 16), 50.0).save(folder / f"{i}.png")
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "3.png").write_text("not an image")
    outcome = command("gan", "data=folder", "data.root=../images", "data.size=16", "batch_size=2")
    assert_refused(outcome, "2 of 4 images cannot be read: 2.png, 3.png")


@pytest.fixture
def jobs(monkeypatch) -> list[tuple[dict, Path]]:
    """What would have been trained, and where: the launcher up to the training itself."""
    seen = []

    def note(tree: dict, directory: Path, **options: object) -> int:
        seen.append((tree, directory))
        return 0

    monkeypatch.setattr(launch, "execute", note)
    monkeypatch.setattr(sweeps, "execute", note)
    return seen


def test_an_environment_id_drops_the_named_environments_experiment(command: Command, jobs):
    assert command("rl", "hydra.run.dir=named").status == 0
    assert command("rl", "env=cartpole", "env.id=CartPole-v1", "hydra.run.dir=by_id").status == 0
    (named, _), (by_id, _) = jobs
    assert named["agent"]["num_steps"] == 32
    assert by_id["agent"]["num_steps"] == 128
    assert by_id["env"] == named["env"]
    assert by_id["optimizer"]["lr"] == 3e-4


def test_options_of_the_environment_need_no_plus(command: Command, jobs):
    overrides = ["env.kwargs.sutton_barto_reward=true", "+env.kwargs.render_mode=rgb_array"]
    assert command("rl", *overrides, "hydra.run.dir=one").status == 0
    assert command("rl", "-m", *overrides, "seed=1,2", "hydra.sweep.dir=two").status == 0
    assert [tree["env"]["kwargs"] for tree, _ in jobs] == [
        {"sutton_barto_reward": True, "render_mode": "rgb_array"}
    ] * 3
    assert [tree["seed"] for tree, _ in jobs] == [1, 1, 2]
    assert [directory.name for _, directory in jobs] == ["one", "seed=1", "seed=2"]


@pytest.mark.parametrize("name", TRAINERS)
def test_another_optimizer_class_takes_its_own_options(command: Command, jobs, name):
    overrides = ["optimizer._target_=torch.optim.NAdam", "optimizer.momentum_decay=0.01"]
    assert command(name, *overrides, "hydra.run.dir=run").status == 0
    assert jobs[0][0]["optimizer"]["momentum_decay"] == 0.01


def test_a_users_own_yaml_is_found_with_config_dir_and_checked_as_ours(command: Command, jobs, tmp_path):
    own = tmp_path / "own" / "agent"
    own.mkdir(parents=True)
    text = (config_dir() / "agent" / "ppo.yaml").read_text()
    (own / "mine.yaml").write_text(text.replace("gamma: 0.99 ", "gamma: 0.95 "))
    (own / "typo.yaml").write_text(text.replace("gamma:", "gama:"))
    (own / "wild.yaml").write_text(text.replace("gamma: 0.99 ", "gamma: 1.50 "))
    flags = ["--config-dir", "../own", "hydra.run.dir=run"]
    assert_refused(
        command("rl", *flags, "agent=typo"), "unknown option agent.gama; did you mean agent.gamma?"
    )
    assert_refused(command("rl", *flags, "agent=wild"), "agent.gamma must be")
    assert_refused(command("rl", *flags, "agent=min"), "did you mean mine?")
    assert command("rl", *flags, "agent=mine").status == 0
    assert jobs[0][0]["agent"]["gamma"] == 0.95


def test_the_experiment_that_is_meant_is_named_in_the_first_line(command: Command, jobs):
    outcome = command("rl", "agent=a2c", "env=acrobot", "hydra.run.dir=run")
    assert outcome.out.splitlines()[0] == (
        "settings: experiment=rl/a2c_acrobot; type experiment=none for the agent's defaults"
    )
    noted = Path("run", ".hydra", "overrides.yaml").read_text().splitlines()
    assert noted == ["- experiment=rl/a2c_acrobot", "- agent=a2c", "- env=acrobot"]
    assert "settings:" not in command("rl", "experiment=none", "hydra.run.dir=plain").out


def test_every_job_of_a_sweep_has_the_experiment_of_its_own_choices(command: Command, jobs):
    overrides = [
        "agent=ppo",
        "env=cartpole,acrobot",
        "hydra.sweep.dir=sweep",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
    ]
    assert command("rl", "-m", *overrides).status == 0
    assert [tree["agent"]["num_steps"] for tree, _ in jobs] == [32, 256]
    assert [place.name for _, place in jobs] == ["agent=ppo,env=cartpole", "agent=ppo,env=acrobot"]


@pytest.mark.parametrize("name", TRAINERS)
def test_help_lists_the_groups_of_its_own_command(command: Command, name):
    lines = command(name, "--help").out.splitlines()
    groups = dict(line.split(": ", 1) for line in lines[: lines.index("")] + lines if ": " in line)
    assert ("agent" in groups) == (name == "rl")
    assert ("network" in groups) == (name == "gan")
    other = "gan" if name == "rl" else "rl"
    assert f"{name}/" in groups["experiment"]
    assert f"{other}/" not in groups["experiment"]


def test_the_configuration_is_printed_as_it_would_be_run(command: Command, jobs):
    outcome = command("rl", "env=lunarlander", "num_envs=3", "--cfg", "job")
    tree = yaml.safe_load(outcome.out)
    assert (tree["num_envs"], tree["agent"]["gamma"]) == (3, 0.999)
    assert command("rl", "env=lunarlander", "--cfg", "job", "--package", "agent.gamma").out == "0.999\n"
    assert (outcome.status, outcome.made, jobs) == (0, [], [])


LIGHT = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from core.scripts import compare, descend, evaluate, landscape, train_gan, train_rl

answers = []
for overrides in json.loads(sys.argv[1]):
    sys.argv = ["script", *overrides]
    for script in (train_rl, train_gan, descend, evaluate, compare, landscape):
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            try:
                script.main()
            except SystemExit as ended:
                answers.append([ended.code, out.getvalue(), err.getvalue()])
print(json.dumps([answers, "torch" in sys.modules]))
"""


def test_help_misspelt_names_and_wrong_types_are_answered_without_torch(tmp_path):
    overrides = [["--help"], ["seeed=1"], ["++seeed=1"], ["seed=[1]"], ["sed=one"]]
    command = [sys.executable, "-c", LIGHT, json.dumps(overrides)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    answers, torch_imported = json.loads(done.stdout)
    assert not torch_imported
    assert [status for status, _, _ in answers] == [0] * 6 + [2] * 24
    for status, out, err in answers:
        assert err.count("\n") == (1 if status else 0)
        assert ("seed:" in out) == (status == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_real_process_ends_with_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "core.scripts.train_gan", "data=ring", "data.std=0.0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: data.std must be a finite number > 0, got 0.0\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_reader_who_has_seen_enough_of_the_help_gets_no_traceback(tmp_path):
    unread, write = os.pipe()
    os.close(unread)
    command = [sys.executable, "-m", "core.scripts.train_rl", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == b""
