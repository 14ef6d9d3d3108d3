"""`load_probe`: both players' losses on frozen samples are those that the game itself computes on them."""

import json

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.saved import saved_options
from core.config import ConfigError, build, config_dir
from core.run import checkpoint as checkpoints
from core.seeding import Generators
from gradgan.batch import Batch
from gradgan.game.game import FakeBatch, StepInfo
from gradgan.landscape import load_probe
from gradgan.train import build_trainer
from gradrl.landscape import load_probe as load_agent
from tests.conftest import assert_refused

pytestmark = pytest.mark.slow

TINY = ["data=ring", "total_images=1024", "batch_size=64", "network.width=8", "network.depth=1",
        "evaluation.samples=50", "device=cpu", "logging.progress=false"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("probe") / "gan"
    assert execute(compose_tree("gan", TINY, [config_dir()])[0], directory) == 0
    return directory


def test_the_losses_are_those_of_the_game(run):
    subject = load_probe(run, batch_size=48, seed=0)
    z, x, labels = subject.objectives["generator"].batch
    assert len(x) == 48
    trainer = build_trainer(build(saved_options(run)), Generators(1), torch.device("cpu"))
    state = checkpoints.load(run / "checkpoints" / "last.pt")
    for name in ("generator", "discriminator"):
        getattr(trainer, name).load_state_dict(state[name])
    real = Batch(x, labels)
    fake = FakeBatch(trainer.generator, z, labels, shared=False)
    info = StepInfo(0, 0.0, torch.zeros(()), 0)
    game, discriminator = trainer.game, trainer.discriminator
    _, generators = game.generator_loss(discriminator, real, fake, info)
    _, discriminators = game.discriminator_loss(discriminator, real, fake, info, trainer.regularizer_states)
    expected = {
        "generator": float(generators["loss/generator"]),
        "discriminator": float(discriminators["loss/discriminator"]),
    }
    for objectives in (subject.objectives, subject.game):
        found = {name: float(objective().detach()) for name, objective in objectives.items()}
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_joint_losses_depend_on_both_players(run):
    subject = load_probe(run, batch_size=48, seed=0)
    objective = subject.game["generator"]
    owners = {name.partition(".")[0] for name in objective.names}
    assert owners == {"generator", "discriminator"}
    gradients = torch.autograd.grad(objective(), objective.parameters)
    norms = dict.fromkeys(owners, 0.0)
    for name, gradient in zip(objective.names, gradients, strict=True):
        norms[name.partition(".")[0]] += float(gradient.norm())
    assert min(norms.values()) > 0


def test_the_command_draws_both_players_and_the_game(command, run):
    outcome = command("landscape", f"run={run}", "grid=5", "which=[surface,path,game]")
    assert outcome.status == 0, outcome.err
    views = ["discriminator_path", "discriminator_surface", "game", "generator_path", "generator_surface"]
    assert sorted(path.stem for path in (run / "media" / "landscape").glob("*.png")) == views
    numbers = json.loads((run / "landscape.json").read_text())
    assert sorted(numbers) == views
    for player in ("generator", "discriminator"):
        middle = numbers["game"][player]["losses"][2][2]
        assert middle == pytest.approx(numbers[f"{player}_surface"]["loss"], rel=1e-5)
    lines = [x for x in outcome.out.splitlines() if not x.startswith(("pictures: ", "next: "))]
    assert len(lines) == 7  # what it is of, a line for every picture, and the page


def test_a_run_of_the_other_kind_is_refused(run):
    with pytest.raises(ConfigError, match="holds no run of train_rl"):
        load_agent(run, batch_size=None, seed=0)


def test_a_checkpoint_that_is_not_there_is_refused(command, run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((run / "config.yaml").read_text())
    outcome = command("landscape", f"run={tmp_path / 'run'}", "checkpoint=best")
    assert_refused(outcome, "has no checkpoint best.pt yet")
