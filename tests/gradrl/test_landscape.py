"""`load_probe`: an agent's losses on fresh experience are those that the agent itself computes on it."""

import json

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir
from gradrl.agents.a2c import A2C
from gradrl.agents.ppo import PPO
from gradrl.agents.sac import SAC
from gradrl.agents.trpo import TRPO
from gradrl.landscape import load_probe

pytestmark = pytest.mark.slow

TINY = ["experiment=none", "total_steps=64", "num_envs=2", "agent.num_steps=32", "evaluation.episodes=1",
        "evaluation.interval_episodes=1", "evaluation.num_envs=1", "evaluation.max_episode_steps=5",
        "logging.progress=false", "policy.hidden_sizes=[8]"]  # fmt: skip
# On Pendulum no episode ends here, so a minibatch of the whole rollout is the rollout.
OVERRIDES = {
    "ppo": ["agent=ppo", "env=pendulum", "agent.num_minibatches=1", "agent.num_epochs=1"],
    "a2c": ["agent=a2c", "normalize_observation=true", "normalize_reward=true"],
    "trpo": ["agent=trpo", "env=pendulum", "agent.num_critic_updates=1", "agent.num_minibatches=1"],
    "sac": ["agent=sac", "env=pendulum", "agent.num_steps=4", "agent.learning_starts=8",
            "agent.batch_size=16"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directories = {}
    for name, overrides in OVERRIDES.items():
        directories[name] = tmp_path_factory.mktemp("probe") / name
        tree = compose_tree("rl", [*TINY, *overrides], [config_dir()])[0]
        assert execute(tree, directories[name]) == 0
    return directories


def seen_by(agent_class, monkeypatch):
    """What `observe` is called with while a probe is loaded: the agent and the rollout."""
    seen = []
    observe = agent_class.observe

    def remembering(self, rollout):
        seen[:] = [self, rollout]
        return observe(self, rollout)

    monkeypatch.setattr(agent_class, "observe", remembering)
    return seen


def losses(subject) -> dict[str, float]:
    return {name: float(objective().detach()) for name, objective in subject.objectives.items()}


def test_of_ppo(runs, monkeypatch):
    seen = seen_by(PPO, monkeypatch)
    subject = load_probe(runs["ppo"], batch_size=None, seed=0)
    (loss,) = losses(subject).values()
    agent, rollout = seen
    state = torch.load(runs["ppo"] / "checkpoints" / "last.pt", weights_only=True)
    assert all(torch.equal(p, state["policy"][name]) for name, p in agent.model.state_dict().items())
    metrics = agent.update(rollout, progress=0.0)
    cfg = agent.cfg
    own = metrics["loss/policy"] + cfg.value_coef * metrics["loss/value"]
    own = own + cfg.entropy_coef * metrics["loss/entropy"]
    assert loss == pytest.approx(float(own), rel=1e-5)
    assert float(metrics["policy/approx_kl"]) == pytest.approx(0, abs=1e-6)  # the policy that acted
    assert subject.batch == "a fresh rollout of 64 steps"
    assert (subject.step, subject.unit) == (64, "env steps")


def test_of_a2c(runs, monkeypatch):
    seen = seen_by(A2C, monkeypatch)
    (loss,) = losses(load_probe(runs["a2c"], batch_size=None, seed=0)).values()
    agent, rollout = seen
    metrics = agent.update(rollout, progress=0.0)
    own = metrics["loss/policy"] + agent.cfg.value_coef * metrics["loss/value"]
    own = own + agent.cfg.entropy_coef * metrics["loss/entropy"]
    assert loss == pytest.approx(float(own), rel=1e-5)


def test_of_trpo(runs, monkeypatch):
    seen = seen_by(TRPO, monkeypatch)
    found = losses(load_probe(runs["trpo"], batch_size=None, seed=0))
    agent, rollout = seen
    metrics = agent.update(rollout, progress=0.0)
    assert found["policy"] == pytest.approx(float(metrics["loss/policy"]), rel=1e-5, abs=1e-7)
    assert found["critic"] == pytest.approx(float(metrics["loss/value"]), rel=1e-5)


def test_of_sac_on_fresh_transitions_alone(runs, monkeypatch):
    seen = seen_by(SAC, monkeypatch)
    subject = load_probe(runs["sac"], batch_size=24, seed=0)
    found = losses(subject)
    agent, rollout = seen
    assert subject.batch == "24 of 96 fresh transitions"
    assert agent.replay.total == 96
    batch = agent.learner.frozen_batch()
    rows = rollout.obs[:-1].flatten(0, 1)
    assert all((row == rows).all(-1).any() for row in batch.obs)
    # The trainer's own two closures, with the draws of the objective: first the actor's, then the target's.
    agent.generator = torch.Generator().manual_seed(agent.replay.total)
    temperature = agent.log_temperature.detach().exp()
    noise = agent.action_noise(batch, agent.generator)
    critic = float(agent.update_critic(batch, temperature)["loss/critic"])
    assert found["critic"] == pytest.approx(critic, rel=1e-5)
    agent.model.load_state_dict(
        torch.load(runs["sac"] / "checkpoints" / "last.pt", weights_only=True)["policy"]
    )
    monkeypatch.setattr(agent, "action_noise", lambda batch, generator: noise)
    assert found["actor"] == pytest.approx(
        float(agent.update_actor(batch, temperature)["loss/actor"]), rel=1e-5
    )


def test_the_seed_decides_the_batch_and_the_size_is_as_asked(runs):
    first, again, other = (load_probe(runs["a2c"], batch_size=40, seed=seed) for seed in (3, 3, 4))
    assert losses(first) == losses(again)
    assert losses(first) != losses(other)
    assert first.batch == f"a fresh rollout of {first.objectives[''].samples} steps"
    assert 36 <= first.objectives[""].samples <= 40  # resets are no steps


def test_the_normalisers_stand_still(runs, monkeypatch):
    seen = seen_by(A2C, monkeypatch)
    load_probe(runs["a2c"], batch_size=None, seed=0)
    state = torch.load(runs["a2c"] / "checkpoints" / "last.pt", weights_only=True)
    # CartPole pays 1 a step, so every scaled reward is the inverse of the saved deviation.
    scale = (float(state["reward_normalizer"]["variance"]) + 1e-8) ** -0.5
    rewards = seen[1].reward[seen[1].valid].tolist()
    assert rewards == pytest.approx([min(scale, 10.0)] * len(rewards))


def test_what_is_no_run_or_has_no_checkpoint_is_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="there is no run in"):
        load_probe(tmp_path, batch_size=None, seed=0)
    (tmp_path / "config.yaml").write_text((runs["a2c"] / "config.yaml").read_text())
    with pytest.raises(ConfigError, match="no checkpoint at"):
        load_probe(tmp_path, batch_size=None, seed=0)


def test_the_command_draws_a_run_and_keeps_the_numbers(command, runs):
    run = runs["sac"]
    outcome = command("landscape", f"run={run}", "grid=5", "players=[actor]")
    assert outcome.status == 0, outcome.err
    pictures = sorted(path.name for path in (run / "media" / "landscape").glob("*.png"))
    assert pictures == ["actor_path.png", "actor_slices.png", "actor_spectrum.png", "actor_surface.png"]
    numbers = json.loads((run / "landscape.json").read_text())
    surface = numbers["actor_surface"]
    assert surface["losses"][2][2] == pytest.approx(surface["loss"], rel=1e-5)
    assert (surface["step"], surface["checkpoint"]) == (64, "last")
    path = numbers["actor_path"]
    assert path["snapshot_losses"][-1] == pytest.approx(surface["loss"], rel=1e-5)
    assert path["distance_out_of_plane"][-1] == 0.0
    assert path["coordinates"][-1] == [0.0, 0.0]
    assert command("landscape", f"run={run}", "grid=3", "players=[critic]", "which=[surface]").status == 0
    assert set(json.loads((run / "landscape.json").read_text())) == {*numbers, "critic_surface"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["players=[generator]"], "players must be some of critic, actor, got generator"),
        (["which=[game]"], "which=game cannot be drawn: a picture of the game needs two players"),
        (
            ["which=[film]"],
            "which must be null or some of slices, surface, path, walk, spectrum, game, got 'film'",
        ),
        (["grid=2"], "grid must be an integer in [3, 501], got 2"),
        (["span=0"], "span must be a finite number > 0"),
        (["checkpoint=first"], "checkpoint must be one of last, best, good, got 'first'"),
        (["run=nowhere"], "there is no run in nowhere"),
        (["run=null"], "run must be a run directory"),
    ],
)
def test_the_command_refuses_bad_overrides(command, runs, overrides, message):
    run = [] if overrides[0].startswith("run=") else [f"run={runs['sac']}"]
    outcome = command("landscape", *run, *overrides)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert outcome.out == "" or overrides == ["which=[game]"]  # which is not known before
