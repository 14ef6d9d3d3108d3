"""Copies as tensors: when they reset and from where, what they refuse, and that they continue to the bit."""

import io
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy.stats import ks_2samp

from gradrl.envs.make import (
    EnvConfig,
    autoreset_mode,
    find_dynamics,
    find_spec,
    inspect_env,
    make_envs,
    make_torch_envs,
)
from gradrl.envs.torch_envs import STARTS_AT_ONCE, STEPS_AT_ONCE, TorchEnvs, split_mix, uniform
from tests.core.gradients.test_cuda import no_waiting

IDS = ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0"]
CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device")


def config(env_id, vectorization="torch", wrappers=(), **kwargs):
    return EnvConfig(
        id=env_id,
        kwargs=kwargs,
        import_module=None,
        wrappers=wrappers,
        train_wrappers=(),
        vectorization=vectorization,
        autoreset="same_step",
    )


def made(env_id, num_envs, device=CPU, first_seed=0, **kwargs):
    cfg = config(env_id, **kwargs)
    return make_torch_envs(cfg, inspect_env(cfg), range(first_seed, first_seed + num_envs), device)


def actions(envs: TorchEnvs, space, generator):
    if isinstance(space, gym.spaces.Discrete):
        return torch.randint(int(space.n), (envs.num_envs,), generator=generator)
    return (2 * torch.rand(envs.num_envs, 1, generator=generator) - 1) * float(space.high[0])


@pytest.mark.parametrize("env_id", IDS)
def test_episodes_end_and_begin_as_in_a_vector_environment_of_gymnasiums(env_id):
    """The copies have the run's own float32 actions, and begin every step from equal states."""
    kwargs = {"max_episode_steps": 10}
    envs = made(env_id, 8, **kwargs)
    theirs = SyncVectorEnv([lambda: gym.make(env_id, **kwargs)] * 8, autoreset_mode=AutoresetMode.SAME_STEP)
    theirs.reset(seed=0)
    generator, ended, terminated = torch.Generator().manual_seed(0), 0, 0
    for _ in range(70):
        for n, env in enumerate(theirs.envs):
            env.unwrapped.state = envs.state[:, n].numpy().copy()
        action = actions(envs, theirs.single_action_space, generator)
        ours = envs.step(action)
        _, reward, *ends, info = theirs.step(action.numpy())
        np.testing.assert_allclose(ours.reward.numpy(), reward, rtol=0, atol=1e-12)
        assert [ours.terminated.tolist(), ours.truncated.tolist()] == [end.tolist() for end in ends]
        done = ours.terminated | ours.truncated
        for n in done.nonzero()[:, 0].tolist():
            np.testing.assert_allclose(ours.final_obs[n].numpy(), info["final_obs"][n], rtol=0, atol=2e-6)
        assert torch.equal(ours.obs[~done], ours.final_obs[~done])
        assert torch.equal(ours.obs, envs.obs)
        assert (envs.elapsed == 0).tolist() == done.tolist()
        ended, terminated = ended + int(done.sum()), terminated + int(ours.terminated.sum())
    assert ended >= 8 * 7 - 1
    assert bool(terminated) == (env_id == "CartPole-v1")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_float32_episodes_stay_with_gymnasiums(env_id):
    """Neither is told the other's state after the first: 90 steps on, they see the same to the last bits."""
    envs, env = made(env_id, 1), gym.make(env_id).unwrapped
    env.reset(seed=0)
    env.state = envs.state[:, 0].numpy().copy()
    generator = torch.Generator().manual_seed(0)
    for t in range(90):
        action = actions(envs, env.action_space, generator)
        if env_id == "CartPole-v1":  # one that balances
            action = (envs.obs[:, 2] + envs.obs[:, 3] > 0).long()
        ours = envs.step(action)
        seen, reward, terminated, _, _ = env.step(action[0].numpy())
        assert not terminated
        np.testing.assert_allclose(ours.obs[0].numpy(), seen, rtol=1e-6, atol=1e-7, err_msg=str(t))
        assert float(ours.reward) == pytest.approx(reward, abs=1e-12)


def test_the_random_numbers_are_split_mix_64():
    """Its published first numbers for the seed 1234567, and its definition in Python's own integers."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    drawn = uniform(torch.tensor([1234567]), 0, 4)[:, 0]
    assert drawn.tolist() == [(number >> 11) * 2.0**-53 for number in published]

    def mixed(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    numbers = [0, 1, 2**63 - 1, 2**63, 2**64 - 1, 0x123456789ABCDEF0]
    signed = torch.tensor([n - 2**64 if n >= 2**63 else n for n in numbers])
    assert [n % 2**64 for n in split_mix(signed).tolist()] == [mixed(n) for n in numbers]
    assert torch.equal(uniform(torch.tensor([5, 6]), 3, 7), uniform(torch.tensor([5, 6]), 0, 10)[3:])


STARTS = 1500


@pytest.mark.parametrize("env_id", IDS)
def test_episodes_begin_where_gymnasiums_do(env_id):
    """By Kolmogorov and Smirnov, number by number; over copies at first, and over times of one copy."""
    env = gym.make(env_id).unwrapped
    env.reset(seed=5)
    wanted = np.array([(env.reset(), np.array(env.state, np.float64))[1] for _ in range(STARTS)])
    over_copies = made(env_id, STARTS).state.double().numpy().T
    envs = made(env_id, 1, max_episode_steps=1)
    space, generator, over_times = env.action_space, torch.Generator().manual_seed(0), []
    for _ in range(STARTS):
        envs.step(actions(envs, space, generator))
        over_times.append(envs.state[:, 0].double().numpy())
    moving = [column for column in range(wanted.shape[1]) if wanted[:, column].any()]
    for found in (over_copies, np.array(over_times)):
        assert {column for column in range(wanted.shape[1]) if found[:, column].any()} == {*moving}
        for column in moving:
            assert ks_2samp(found[:, column], wanted[:, column]).pvalue > 1e-3
        correlation = np.atleast_2d(np.corrcoef(found[:, moving], rowvar=False))
        assert np.abs(correlation - np.eye(len(moving))).max() < 0.1


def test_a_copys_episodes_follow_from_its_seed_whoever_else_there_is():
    crowd = STARTS_AT_ONCE // 4  # so many that fewer starts are drawn at once
    few, many = made("CartPole-v1", 3, max_episode_steps=7), made("CartPole-v1", crowd, max_episode_steps=7)
    assert (few.block_size, many.block_size) == (STEPS_AT_ONCE, 4)
    other = made("CartPole-v1", 3, first_seed=100)
    assert not torch.equal(few.state, other.state)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2 * STEPS_AT_ONCE + 3):
        action = torch.randint(2, (crowd,), generator=generator)
        many.step(action)
        few.step(action[:3])
        assert torch.equal(few.state, many.state[:, :3])
        assert len(many.state[0].unique()) == crowd


@pytest.mark.parametrize("steps", [1, STEPS_AT_ONCE - 1, STEPS_AT_ONCE, STEPS_AT_ONCE + 9])
def test_episodes_continue_to_the_bit(steps):
    whole, generator = made("Acrobot-v1", 5, max_episode_steps=11), torch.Generator().manual_seed(0)
    chosen = torch.randint(3, (steps + 40, 5), generator=generator)
    for action in chosen[:steps]:
        whole.step(action)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    assert file.tell() < 4000  # not the block of starts that they came from
    file.seek(0)
    resumed = made("Acrobot-v1", 5, max_episode_steps=11)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for action in chosen[steps:]:
        first, second = whole.step(action), resumed.step(action)
        assert all(map(torch.equal, first, second))


def test_the_time_limit_is_the_registrations_or_ones_own_or_none():
    assert made("CartPole-v0", 1).limit == 200
    assert made("MountainCarContinuous-v0", 1).limit == 999
    assert made("Pendulum-v1", 1, max_episode_steps=33).limit == 33
    assert made("Pendulum-v1", 1, max_episode_steps=None).limit == 200
    endless = made("Pendulum-v1", 1, max_episode_steps=-1)
    endless.elapsed += 10**9
    assert not endless.step(torch.zeros(1, 1)).truncated


def test_options_are_those_of_the_environment_and_of_its_registration():
    gym.register("Moon-v0", "gymnasium.envs.classic_control.pendulum:PendulumEnv", kwargs={"g": 1.62})
    try:
        assert made("Moon-v0", 1).dynamics.g == 1.62
        assert made("Moon-v0", 1, g=3).dynamics.g == 3
    finally:
        del gym.registry["Moon-v0"]
    assert made("CartPole-v1", 1, sutton_barto_reward=True).dynamics.sutton_barto_reward
    assert made("MountainCar-v0", 1, goal_velocity=0.02).dynamics.goal_velocity == 0.02


@pytest.mark.parametrize(
    ("cfg", "reason"),
    [
        (config("Taxi-v4"), "CartPole, Acrobot, Pendulum and MountainCar alone have a batched version"),
        (config("Counting-v0"), "CartPole, Acrobot, Pendulum and MountainCar alone have a batched version"),
        (config("Pendulum-v1", render_mode="rgb_array"),
         "its batched version takes env.kwargs.g and env.kwargs.max_episode_steps, not render_mode"),
        (config("Pendulum-v1", g="heavy"), "env.kwargs.g must be a number"),
        (config("Pendulum-v1", g=True), "env.kwargs.g must be a number"),
        (config("CartPole-v1", sutton_barto_reward=1),
         "env.kwargs.sutton_barto_reward must be true or false"),
    ],
)  # fmt: skip
def test_what_has_no_batched_version_is_refused(cfg, reason):
    message = f"env.vectorization=torch: {cfg.id}: {reason}; use auto, sync or async"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        inspect_env(cfg)


def test_evaluations_have_gymnasiums_own_copies():
    with_vector = make_envs(config("CartPole-v1"), 2)
    assert type(with_vector).__name__ == "CartPoleVectorEnv"
    single = make_envs(config("Pendulum-v1"), 2, max_episode_steps=5)
    assert isinstance(single, SyncVectorEnv)
    assert autoreset_mode(single) is AutoresetMode.SAME_STEP
    single.close()


@pytest.mark.parametrize("env_id", IDS)
def test_a_step_reads_no_number_and_makes_nothing_on_another_device(env_id):
    """On the device `meta`, whose tensors hold no numbers, either would raise."""
    meta = torch.device("meta")
    envs, space = made(env_id, 4, meta), gym.make(env_id).action_space
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS_AT_ONCE + 1):
        step = envs.step(actions(envs, space, generator).to(meta))
        assert {tensor.device for tensor in step} == {meta}
    assert (step.obs.dtype, step.final_obs.dtype) == (torch.float32, torch.float32)
    assert step.obs.shape == (4, *inspect_env(config(env_id)).observation_space.shape)


@needs_cuda
@pytest.mark.parametrize("env_id", IDS)
def test_on_a_gpu_a_step_never_waits_and_is_the_cpus(env_id):
    cuda = torch.device("cuda")
    ours, theirs = made(env_id, 64, cuda, max_episode_steps=40), made(env_id, 64, max_episode_steps=40)
    assert torch.equal(ours.state.cpu(), theirs.state)  # draws are integers: equal to the bit
    space, generator = gym.make(env_id).action_space, torch.Generator().manual_seed(0)
    chosen = [actions(theirs, space, generator) for _ in range(2 * STEPS_AT_ONCE + 1)]
    for action in chosen[:20]:
        there, here = ours.step(action.to(cuda)), theirs.step(action)
        for name in ("obs", "reward", "final_obs"):
            torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-5, atol=1e-5)
        ours.state = theirs.state.to(cuda)  # or what is chaotic grows apart
    on_device = [action.to(cuda) for action in chosen]
    with no_waiting():
        for action in on_device:
            ours.step(action)


def test_every_classic_control_environment_of_gymnasiums_has_a_batched_version():
    """A new one, or another registration, should be looked at."""
    classic = {
        spec.id
        for spec in gym.registry.values()
        if str(spec.entry_point).startswith("gymnasium.envs.classic_control.")
    }
    assert classic == {*IDS, "CartPole-v0"}
    for env_id in classic:
        find_dynamics(config(env_id), find_spec(config(env_id)))
