"""The collector of tensors against a slow loop over single copies, and against the one in NumPy."""

import io
import json

import numpy as np
import pytest
import torch

from core.cli.job import check, execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import ConfigError, config_dir
from core.form import require_form
from gradrl.envs.make import inspect_env, make_torch_envs
from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer, running_returns
from gradrl.policies.actor import StatelessActor
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.tensor_collector import TensorCollector
from tests.core.gradients.test_cuda import no_waiting
from tests.gradrl.envs.test_torch_envs import CPU, config, made, needs_cuda
from tests.test_resume import differences, dying

pytestmark = pytest.mark.slow

NUM_STEPS, NUM_ENVS = 13, 4


class Chosen:
    """A policy that follows from the observation alone."""

    def __init__(self, act):
        self.act = act

    def __call__(self, obs):
        self.obs = obs
        return self

    def sample(self, generator):
        return self.act(self.obs)


def acting(act):
    """An actor for tensors; its policy in NumPy is never asked for."""
    return StatelessActor(lambda: None, np.random.default_rng(0), distribution=Chosen(act))


def push(obs):
    """0 or 1 by the pole's angle, so badly that it falls in about ten steps."""
    return (obs[:, 2] > -0.1).long()


def collector(env_id="CartPole-v1", device=CPU, num_envs=NUM_ENVS, observation=None, reward=None, **kwargs):
    cfg = config(env_id, **kwargs)
    info = inspect_env(cfg)
    envs = make_torch_envs(cfg, info, range(num_envs), device)
    generator = torch.Generator(device).manual_seed(0)
    return TensorCollector(envs, info.action, NUM_STEPS, generator, observation, reward)


def single(n, count, limit):
    """(obs, action, reward, terminated, truncated, observation it led to) of copy n, by itself."""
    env = made("CartPole-v1", 1, first_seed=n, max_episode_steps=limit)
    for _ in range(count):
        obs = env.obs[0]
        action = push(env.obs)
        step = env.step(action)
        yield (
            obs,
            int(action),
            float(step.reward),
            bool(step.terminated),
            bool(step.truncated),
            step.final_obs[0],
        )


def test_rollouts_are_what_single_copies_do():
    collect, limit, rollouts = collector(max_episode_steps=11), 11, 4
    rows = [list(single(n, rollouts * NUM_STEPS, limit)) for n in range(NUM_ENVS)]
    episodes = []
    for number in range(rollouts):
        rollout = collect.collect(acting(push))
        assert rollout.num_valid == NUM_STEPS * NUM_ENVS == int(rollout.valid.sum())
        for n in range(NUM_ENVS):
            part = rows[n][number * NUM_STEPS : (number + 1) * NUM_STEPS]
            obs, action, reward, terminated, truncated, led_to = zip(*part, strict=True)
            assert torch.equal(rollout.obs[:-1, n], torch.stack(obs))
            assert torch.equal(rollout.next_obs[:, n], torch.stack(led_to))
            assert rollout.action[:, n].tolist() == list(action)
            assert rollout.reward[:, n].tolist() == list(reward)
            assert rollout.terminated[:, n].tolist() == list(terminated)
            assert rollout.truncated[:, n].tolist() == list(truncated)
            done = [a or b for a, b in zip(terminated, truncated, strict=True)]
            assert rollout.episode_start[1:, n].tolist() == done
        # Those that only the clock cut off are valued; those at which the world ended never are.
        ends = rollout.terminated | rollout.truncated
        assert rollout.final_index.tolist() == (ends & ~rollout.terminated).flatten().nonzero()[:, 0].tolist()
        assert rollout.terminal_index.tolist() == rollout.terminated.flatten().nonzero()[:, 0].tolist()
        assert bool(rollout.episode_start[0].all()) == (number == 0)
        drained = collect.drain()
        if drained:
            episodes += zip(
                drained["episode/return"].tolist(), drained["episode/length"].tolist(), strict=True
            )
        assert collect.drain() == {}
    assert collect.env_steps == rollouts * NUM_STEPS * NUM_ENVS
    wanted, running = [], [(0.0, 0)] * NUM_ENVS
    for t in range(rollouts * NUM_STEPS):
        for n in range(NUM_ENVS):
            _, _, reward, terminated, truncated, _ = rows[n][t]
            running[n] = (running[n][0] + reward, running[n][1] + 1)
            if terminated or truncated:
                wanted.append(running[n])
                running[n] = (0.0, 0)
    assert episodes == wanted
    assert {terminated for each in rows for *_, terminated, _, _ in each} == {True, False}
    assert {truncated for each in rows for *_, truncated, _ in each} == {True, False}


def test_box_actions_reach_the_environment_scaled_and_clipped():
    """2 units of torque are the policy's 1; what it asks beyond that, the environment cannot do."""
    asked = torch.tensor([[0.5], [1.0], [7.0], [-7.0]])
    collect, plain = collector("Pendulum-v1"), made("Pendulum-v1", 4)
    rollout = collect.collect(acting(lambda obs: asked))
    for t in range(NUM_STEPS):
        step = plain.step(torch.tensor([[1.0], [2.0], [2.0], [-2.0]]))
        assert torch.equal(rollout.obs[t + 1], step.obs)
    assert torch.equal(rollout.action[-1], asked)


def test_normalisers_have_the_statistics_and_results_of_numpys():
    observation, reward = ObservationNormalizer(4, clip=2.0), RewardNormalizer(NUM_ENVS, 0.9, clip=3.0)
    theirs = ObservationNormalizer(4, clip=2.0), RewardNormalizer(NUM_ENVS, 0.9, clip=3.0)
    options = {"max_episode_steps": 6, "sutton_barto_reward": True}
    collect, raw = collector(observation=observation, reward=reward, **options), collector(**options)
    for _ in range(4):
        # The policy sees what is normalised, so both are told the same actions.
        rollout = collect.collect(acting(push))
        plain_envs = raw.envs
        raw.obs[0], raw.episode_start[0] = raw.obs[-1], raw.episode_start[-1]
        obs, rewards, done = [plain_envs.obs], [], []
        for action in rollout.action:
            step = plain_envs.step(action)
            obs.append(step.obs)
            rewards.append(step.reward.float())
            done.append(step.terminated | step.truncated)
        unseen = torch.stack(obs).numpy()
        np.testing.assert_allclose(rollout.obs.numpy(), theirs[0](unseen), rtol=1e-6, atol=1e-6)
        theirs[0].update(unseen[:-1].reshape(-1, 4))
        done = torch.stack(done).numpy()
        scaled = theirs[1](torch.stack(rewards).numpy(), done, np.ones_like(done))
        np.testing.assert_allclose(rollout.reward.numpy(), scaled, rtol=1e-6)
        for ours, other in ((observation, theirs[0]), (reward, theirs[1])):
            for name, value in ours.state_dict().items():
                np.testing.assert_allclose(value, other.state_dict()[name], rtol=1e-12, err_msg=name)
    assert np.abs(rollout.obs.numpy()).max() == 2.0


def test_running_returns_are_sums_within_episodes():
    """By hand: rewards 1, 2, 3, 4 at discount 1/2, the second step ends an episode; 8 was running before."""
    reward, done = (
        torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        torch.tensor([[False], [True], [False], [False]]),
    )
    returns, running = running_returns(torch.tensor([8.0], dtype=torch.float64), reward, done, 0.5)
    assert returns[:, 0].tolist() == [5.0, 4.5, 3.0, 5.5]
    assert running.tolist() == [5.5]


def test_it_continues_to_the_bit_in_the_middle_of_episodes():
    whole = collector("Acrobot-v1", max_episode_steps=30)
    chosen = acting(lambda obs: torch.randint(3, (len(obs),), generator=random))
    random = torch.Generator().manual_seed(0)
    for _ in range(3):
        whole.collect(chosen)
    file = io.BytesIO()
    torch.save([whole.state_dict(), random.get_state()], file)
    file.seek(0)
    saved, drawn = torch.load(file, weights_only=True)
    resumed = collector("Acrobot-v1", max_episode_steps=30)
    require_form(saved, resumed.state_form())
    resumed.load_state_dict(saved)
    first = [vars(whole.collect(chosen)) | whole.drain() for _ in range(2)]
    random.set_state(drawn)
    second = [vars(resumed.collect(chosen)) | resumed.drain() for _ in range(2)]
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
    assert whole.env_steps == resumed.env_steps == 5 * NUM_STEPS * NUM_ENVS


def test_an_action_that_is_no_number_ends_the_run():
    collect = collector("Pendulum-v1")
    with pytest.raises(FloatingPointError, match="an action was not a finite number, near env step 0"):
        collect.collect(acting(lambda obs: torch.full((NUM_ENVS, 1), torch.nan)))


def test_what_acts_in_numpy_is_refused():
    with pytest.raises(ValueError, match="StatelessActor acts in NumPy"):
        collector().collect(StatelessActor(lambda: None, np.random.default_rng(0)))


def test_actions_are_drawn_as_the_policy_in_numpy_draws_them():
    """The shares of the three actions of a random network, against its probabilities."""
    cfg = config("Acrobot-v1")
    info = inspect_env(cfg)
    generator = torch.Generator().manual_seed(0)
    model = ActorCritic(MLPConfig(orthogonal=False), info.observation, info.action, generator)
    obs = torch.zeros(30_000, 6)
    sample = model.make_actor(np.random.default_rng(0)).distribution(obs).sample(generator)
    share = torch.bincount(sample, minlength=3) / len(obs)
    probability = model.policy(obs[:1]).log_probs[0].exp()
    assert torch.allclose(share, probability, atol=0.01)


SHORT = ["experiment=none", "env.vectorization=torch", "num_envs=4", "total_steps=256", "logging.interval=1",
         "evaluation.episodes=2", "evaluation.interval_episodes=2", "evaluation.num_envs=2",
         "evaluation.max_episode_steps=30", "logging.progress=false", "logging.draw_interval=1000000",
         "logging.eval_interval=128"]  # fmt: skip
STEPS = ["agent.num_steps=16", "env.kwargs={max_episode_steps: 9}"]


def tree(*overrides):
    return compose_tree("rl", list(overrides), [config_dir()])[0]


@pytest.mark.parametrize(
    "words",
    [
        "agent=reinforce env=cartpole",
        "agent=a2c env=pendulum normalize_observation=true normalize_reward=true",
        "agent=ppo env=mountain_car_continuous agent.num_minibatches=2 agent.num_epochs=2 optimizer.lr=auto",
        "agent=ppo env=acrobot agent.num_minibatches=2 agent.num_epochs=2 probe=[noise,policy_gradient]",
        "agent=ppo_kl env=mountain_car agent.num_minibatches=2 agent.num_epochs=2",
        "agent=npg env=pendulum agent.num_minibatches=2 agent.num_critic_updates=2 policy.squash=true",
        "agent=trpo env=cartpole agent.num_minibatches=2 agent.num_critic_updates=2",
        "agent=vtrace env=cartpole agent.policy_lag=2",
        "agent=ppo_rnd env=mountain_car agent.num_minibatches=2 agent.num_epochs=2",
        "agent=ppo_noveld env=mountain_car agent.num_minibatches=2 agent.num_epochs=2",
    ],
)
def test_every_on_policy_agent_learns_from_tensors(words, tmp_path):
    assert execute(tree(*SHORT, *STEPS, *words.split()), tmp_path / "run") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("agent=sac env=pendulum", "env.vectorization must be auto, native, sync or async for SAC"),
        ("agent=td3 env=pendulum", "env.vectorization must be auto, native, sync or async for TD3"),
        ("agent=ddpg env=pendulum", "env.vectorization must be auto, native, sync or async for DDPG"),
        (
            "agent=ppo_recurrent env=cartpole",
            "env.vectorization must be auto, .* for PPORecurrent, which acts",
        ),
        ("agent=ppo env=pendulum policy.sde=true", "for PPO with policy.sde=true, which acts in NumPy"),
        ("agent=ppo env=taxi", "env.vectorization=torch: Taxi-v4: wrappers go around single copies"),
        ("agent=ppo env=lunarlander", "env.vectorization=torch: LunarLander-v3: CartPole, Acrobot"),
    ],
)
def test_what_cannot_act_on_a_device_is_refused_by_name(words, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(tree("experiment=none", "env.vectorization=torch", "total_steps=20000", *words.split()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_a_run_that_dies_and_is_resumed_ends_the_same(tmp_path, device):
    words = [*SHORT, *STEPS, "agent=ppo", "env=acrobot", "agent.num_minibatches=2", "agent.num_epochs=1",
             "normalize_observation=true", "normalize_reward=true", "logging.checkpoint_interval=64",
             "total_steps=640", f"device={device}"]  # fmt: skip
    whole, directory = tmp_path / "whole", tmp_path / "run"
    assert execute(tree(*words), whole) == 0
    with dying(4):
        execute(tree(*words), directory)
    assert resume_run(directory, [], "rl") == 0
    assert differences(whole, directory) == []


@pytest.mark.slow
def test_cartpole_is_balanced_after_sixty_thousand_steps(tmp_path):
    """Of seeds 1 to 4 three reached 500 and one 466; with gymnasium's own copies all four reached 500."""
    words = ["agent=ppo", "env=cartpole", "experiment=none", "env.vectorization=torch", "seed=2",
             "num_envs=32", "total_steps=60000", "agent.num_steps=32", "agent.num_epochs=10",
             "agent.num_minibatches=4", "agent.gamma=0.98", "agent.gae_lambda=0.8", "optimizer.lr=2e-3",
             "schedule=linear", "evaluation.episodes=20", "logging.progress=false",
             "logging.eval_interval=60000", "logging.draw_interval=1000000"]  # fmt: skip
    assert execute(tree(*words), tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["eval_return_mean"] >= 400


@needs_cuda
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_on_a_gpu_everything_stays_there_and_is_the_cpus(env_id):
    cuda = torch.device("cuda")
    info = inspect_env(config(env_id))
    models = [
        ActorCritic(MLPConfig(), info.observation, info.action, torch.Generator().manual_seed(0)).to(device)
        for device in (CPU, cuda)
    ]
    here, there = (
        collector(env_id, device, observation=ObservationNormalizer(info.observation.size),
                  reward=RewardNormalizer(NUM_ENVS, 0.9), max_episode_steps=5)
        for device in (CPU, cuda)
    )  # fmt: skip
    for _ in range(2):
        rollouts = [
            collect.collect(StatelessActor(model.numpy_policy, np.random.default_rng(0), distribution=mode))
            for collect, model in ((here, models[0]), (there, models[1]))
            for mode in [MostLikely(model)]
        ]
        for name, value in vars(rollouts[1]).items():
            if name != "num_valid":
                assert value.device.type == "cuda", name
                wanted = getattr(rollouts[0], name)
                torch.testing.assert_close(value.cpu(), wanted, rtol=1e-4, atol=1e-4, msg=name)
    returns = [collect.drain()["episode/return"].cpu() for collect in (here, there)]
    torch.testing.assert_close(*returns, rtol=1e-4, atol=1e-4)
    actor = models[1].make_actor(np.random.default_rng(0))
    normalize, policy = there.observation_normalizer.on(cuda), actor.distribution
    generator = torch.Generator(cuda)
    with no_waiting(), torch.no_grad():  # a step as `collect` takes it
        for _ in range(3):
            there.envs.step(there.decode(policy(normalize(there.envs.obs)).sample(generator)))


class MostLikely:
    """A policy whose samples are its most likely actions: no random numbers, so devices agree."""

    def __init__(self, model):
        self.model = model

    def __call__(self, obs):
        self.policy = self.model.policy(obs)
        return self

    def sample(self, generator):
        return self.policy.mode()
