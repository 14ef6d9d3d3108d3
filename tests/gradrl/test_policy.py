import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import create_empty_array

import gradrl
from core.config import ConfigError
from gradrl import load_policy
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.policies.actor import RawObservationActor
from gradrl.policy import Policy
from tests.gradrl.saved_runs import BOX3, NESTED, make_model, make_normalizer, write_run

BOUNDED = spaces.Box(np.float32([-2, 0]), np.float32([2, 0.5]))
MASKED = spaces.Dict({"x": BOX3, "action_mask": spaces.MultiBinary(5)})
CASES = {
    "discrete": ("actor_critic", BOX3, spaces.Discrete(4, start=3), {}),
    "multi_discrete": ("actor_critic", BOX3, spaces.MultiDiscrete([2, 3], start=[1, 0]), {}),
    "multi_binary": ("actor_critic", BOX3, spaces.MultiBinary(3), {}),
    "box": ("actor_critic", BOX3, BOUNDED, {}),
    "box_float64": (
        "actor_critic",
        spaces.Box(-9, 9, (2, 2), np.float64),
        spaces.Box(-1, 1, (1, 2), np.float64),
        {},
    ),
    "squashed": ("actor_critic", BOX3, BOUNDED, {"squash": True, "state_dependent_std": True}),
    "sde": ("actor_critic", BOX3, BOUNDED, {"sde": True}),
    "shared": ("actor_critic", BOX3, spaces.Discrete(4), {"shared": True}),
    "nested": ("actor_critic", NESTED, spaces.Discrete(4), {}),
    "tuple": ("actor_critic", spaces.Tuple((BOX3, spaces.Discrete(2))), spaces.Discrete(4), {}),
    "image": ("actor_critic", spaces.Box(0, 255, (1, 40, 50), np.uint8), spaces.Discrete(4), {}),
    "number": ("actor_critic", spaces.Discrete(6, start=2), spaces.Discrete(4), {}),
    "masked": ("actor_critic", MASKED, spaces.Discrete(5), {}),
    "masked_multi": ("actor_critic", MASKED, spaces.MultiDiscrete([2, 3]), {}),
    "recurrent": ("recurrent", BOX3, spaces.Discrete(4), {}),
    "recurrent_shared": ("recurrent", BOX3, BOUNDED, {"shared": True}),
    "recurrent_masked": ("recurrent", MASKED, spaces.Discrete(5), {}),
    "ddpg": ("ddpg", BOX3, BOUNDED, {}),
    "sac": ("sac", BOX3, BOUNDED, {}),
    "sac_sde": ("sac", BOX3, BOUNDED, {"sde": True}),
    "sac_discrete": ("sac", BOX3, spaces.Discrete(4), {}),
}


def batch(space, count, seed=0):
    """Random observations of a space, side by side as a vector environment gives them."""
    space.seed(seed)
    singles = [space.sample() for _ in range(count)]
    for each in singles:
        if isinstance(each, dict) and "action_mask" in each:
            each["action_mask"][:] = [0, 1, 1, 0, 1]
    stacked = create_empty_array(space, count, fn=np.zeros)
    return _stack(stacked, singles), singles


def _stack(stacked, singles):
    if isinstance(stacked, dict):
        return {key: _stack(stacked[key], [s[key] for s in singles]) for key in stacked}
    if isinstance(stacked, tuple):
        return tuple(_stack(part, [s[i] for s in singles]) for i, part in enumerate(stacked))
    stacked[:] = singles
    return stacked


def actor_of(model, normalizer):
    actor = RawObservationActor(model.make_actor(np.random.default_rng(0), deterministic=True), normalizer)
    actor.begin(6)
    return actor


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_policy_does_what_the_trainings_own_actor_does(case, normalize, tmp_path):
    kind, observed, acted, options = CASES[case]
    model, normalizer = write_run(tmp_path, kind, observed, acted, normalize, **options)
    policy, actor = load_policy(tmp_path), actor_of(model, normalizer)
    encoder, decoder, state = Observation(observed), action_decoder(acted), None
    for t in range(3):
        obs, _ = batch(observed, 6, seed=t)
        expected = decoder.decode(actor(encoder.encode(obs), np.full(6, t == 0)))
        action, state = policy(obs, state)
        assert action.dtype == expected.dtype
        np.testing.assert_array_equal(action, expected)
        assert all(acted.contains(a) for a in action)
    assert (state is None) == (kind != "recurrent")


@pytest.mark.parametrize("case", CASES)
def test_one_observation_gives_the_action_that_it_gives_in_a_batch(case):
    kind, observed, acted, options = CASES[case]
    model, _ = make_model(kind, observed, acted, **options)
    policy = Policy(model, observed, acted, make_normalizer(observed))
    states, state = None, [None] * 4
    for t in range(2):
        obs, singles = batch(observed, 4, seed=t)
        actions, states = policy(obs, states)
        for i, one in enumerate(singles):
            action, state[i] = policy(one, state[i])
            np.testing.assert_allclose(action, actions[i], rtol=1e-5, atol=1e-6)
            assert np.shape(action) == (acted.shape or ())
            if states is not None:
                np.testing.assert_allclose(state[i], states[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_drawn_actions_follow_the_generator_and_have_the_policys_distribution(case):
    kind, observed, acted, options = CASES[case]
    model, _ = make_model(kind, observed, acted, **options)
    policy = Policy(model, observed, acted)
    obs, _ = batch(observed, 50)

    def draw(seed):
        return policy(obs, deterministic=False, generator=np.random.default_rng(seed))[0]

    assert np.array_equal(draw(1), draw(1))
    assert np.array_equal(draw(1), draw(2)) == (kind == "ddpg")
    assert all(acted.contains(a) for a in draw(1))


def test_state_dependent_noise_has_the_deviation_of_each_state():
    model, _ = make_model("actor_critic", BOX3, spaces.Box(-1, 1, (2,)), sde=True, log_std=-2.0)
    policy = Policy(model, BOX3, spaces.Box(-1, 1, (2,)))
    obs = np.repeat(np.float32([[0.5, -0.3, 0.8]]), 40_000, 0)
    drawn, _ = policy(obs, deterministic=False, generator=np.random.default_rng(0))
    expected = model.policy(torch.from_numpy(obs[:1]))
    np.testing.assert_allclose(drawn.std(0), expected.log_std[0].exp().detach(), rtol=0.02)
    np.testing.assert_allclose(drawn.mean(0), expected.mean[0].detach(), atol=0.005)


def test_actions_that_are_not_allowed_are_never_drawn():
    model, _ = make_model("actor_critic", MASKED, spaces.Discrete(5))
    obs, _ = batch(MASKED, 2000)
    drawn, _ = Policy(model, MASKED, spaces.Discrete(5))(obs, deterministic=False)
    assert set(drawn.tolist()) == {1, 2, 4}


def test_a_state_of_zeros_begins_an_episode():
    model, _ = make_model("recurrent", BOX3, BOUNDED)
    policy = Policy(model, BOX3, BOUNDED)
    obs, _ = batch(BOX3, 3)
    _, state = policy(obs)
    state[1] = 0
    again, _ = policy(obs, state)
    fresh, _ = policy(obs)
    assert np.array_equal(again[1], fresh[1])
    assert not np.array_equal(again[0], fresh[0])
    assert state.shape == (3, policy.recurrent_state_size) == (3, 10)


@pytest.mark.parametrize("case", ["nested", "recurrent", "sac"])
def test_threads_may_share_a_policy(case):
    kind, observed, acted, options = CASES[case]
    model, _ = make_model(kind, observed, acted, **options)
    policy = Policy(model, observed, acted, make_normalizer(observed))
    _, singles = batch(observed, 40)
    expected, wrong = [policy(one) for one in singles], []

    def work():
        for _ in range(5):
            for one, (action, state) in zip(singles, expected, strict=True):
                found, after = policy(one)
                if not np.array_equal(found, action) or (
                    state is not None and not np.array_equal(after, state)
                ):
                    wrong.append(one)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_observation_is_left_as_it_is():
    model, _ = make_model("actor_critic", BOX3, BOUNDED)
    obs, _ = batch(BOX3, 3)
    before = obs.copy()
    Policy(model, BOX3, BOUNDED, make_normalizer(BOX3))(obs)
    assert np.array_equal(obs, before)


def test_lists_and_tensors_are_taken_as_arrays():
    model, _ = make_model("actor_critic", BOX3, BOUNDED)
    policy = Policy(model, BOX3, BOUNDED)
    array, _ = policy(np.float32([0.5, 0.25, -1]))
    for same in ([0.5, 0.25, -1], torch.tensor([0.5, 0.25, -1]), np.array([0.5, 0.25, -1])):
        assert np.array_equal(policy(same)[0], array)
    image = spaces.Box(0, 255, (40, 50, 3), np.uint8)
    model, _ = make_model("actor_critic", image, BOUNDED)
    policy, (pixels, _) = Policy(model, image, BOUNDED), batch(image, 1)
    assert np.array_equal(policy(pixels[0].astype(np.int64))[0], policy(pixels[0])[0])


@pytest.mark.parametrize(
    ("observed", "obs", "state", "words"),
    [
        (BOX3, np.zeros(4, np.float32), None, r"must have shape \(3,\)"),
        (BOX3, np.zeros((2, 2, 3), np.float32), None, "must have shape"),
        (BOX3, np.zeros(3, np.complex64), None, "must be of float32"),
        (BOX3, "abc", None, "must be of float32"),
        (BOX3, None, None, "must be of float32"),
        (BOX3, np.zeros(3, np.float32), np.zeros(3), "has none"),
        (spaces.Discrete(3), 0.5, None, "must be of int64"),
        (spaces.Discrete(3), 7, None, "outside its space"),
        (spaces.Box(0, 255, (40, 50, 3), np.uint8), np.full((40, 50, 3), 300), None, "must be of uint8"),
        (MASKED, {"x": np.zeros(3)}, None, r"lacks the observation\['action_mask'\]"),
        (MASKED, np.zeros(3), None, "lacks"),
        (MASKED, {"x": np.zeros((2, 3)), "action_mask": np.ones(5, np.int8)}, None, "one length"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(observed, obs, state, words):
    model, _ = make_model("actor_critic", observed, spaces.Discrete(5))
    with pytest.raises(ValueError, match=words) as caught:
        Policy(model, observed, spaces.Discrete(5))(obs, state)
    assert "\n" not in str(caught.value)


def test_a_recurrent_state_of_another_shape_is_refused():
    model, _ = make_model("recurrent", BOX3, BOUNDED)
    policy = Policy(model, BOX3, BOUNDED)
    with pytest.raises(ValueError, match=r"shape \(10,\)"):
        policy(np.zeros(3, np.float32), np.zeros((1, 10)))


def damage(directory, what):
    config, interface = directory / "config.yaml", directory / "interface.json"
    last = directory / "checkpoints" / "last.pt"
    if what == "no run":
        config.unlink()
        last.unlink()
    elif what == "config of noise":
        config.write_bytes(bytes(range(256)))
    elif what == "config of a list":
        config.write_text("[1, 2]")
    elif what == "config that runs code":
        config.write_text("!!python/object/apply:os.system ['true']")
    elif what == "config without end":
        config.write_text("[" * 5000)
    elif what == "config of nested aliases":
        lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
        config.write_text("\n".join([config.read_text(), *lines]))
    elif what == "config that is a pipe":
        config.unlink()
        os.mkfifo(config)
    elif what == "another trainer":
        config.write_text("_target_: gradgan.train.TrainConfig\n")
    elif what == "no policy":
        config.write_text("_target_: gradrl.train.TrainConfig\n")
    elif what == "a policy of another class":
        config.write_text(
            config.read_text().replace("gradrl.policies.networks.ActorCritic", "subprocess.Popen")
        )
    elif what == "a policy that is nowhere":
        config.write_text(
            config.read_text().replace("gradrl.policies.networks.ActorCritic", "nowhere.Policy")
        )
    elif what == "another width":
        config.write_text(config.read_text().replace("- 8\n", "- 9\n", 1))
    elif what == "no interface":
        interface.unlink()
    elif what == "interface of noise":
        interface.write_bytes(bytes(range(256)))
    elif what == "interface without end":
        interface.write_text("[" * 100_000)
    elif what == "interface of a list":
        interface.write_text("[]")
    elif what == "interface of nothing":
        interface.write_text("{}")
    elif what == "other spaces":
        interface.write_text(json.dumps(gradrl.policy.interface_of(spaces.Discrete(9), spaces.Discrete(4))))
    elif what == "spaces too large":
        interface.write_text(interface.read_text().replace('"n": 4', '"n": 4000000000'))
    elif what == "no checkpoint":
        last.unlink()
    elif what == "checkpoint of noise":
        last.write_bytes(bytes(range(256)))
    elif what == "checkpoint cut off":
        last.write_bytes(last.read_bytes()[:-100])


DAMAGES = (
    "no run", "config of noise", "config of a list", "config that runs code", "config without end",
    "config of nested aliases", "config that is a pipe",
    "another trainer", "no policy", "a policy of another class", "a policy that is nowhere", "another width",
    "no interface", "interface of noise", "interface without end", "interface of a list",
    "interface of nothing", "other spaces", "spaces too large", "no checkpoint", "checkpoint of noise",
    "checkpoint cut off",
)  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_run_is_refused_in_one_line(what, tmp_path):
    write_run(tmp_path, normalize=True)
    damage(tmp_path, what)
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("checkpoint", "newest"), ("device", "nowhere")])
def test_what_there_is_not_is_refused_in_one_line(name, value, tmp_path):
    write_run(tmp_path)
    with pytest.raises(ConfigError, match=name):
        load_policy(tmp_path, **{name: value})


COLD = """
import sys, torch, numpy
from gradrl import load_policy
load_policy(sys.argv[1], checkpoint="best")(numpy.zeros(3, numpy.float32))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
UNUSED = {
    "matplotlib",
    "tensorboard",
    "hydra",
    "omegaconf",
    "rich",
    "scipy",
    "sklearn",
    "torchvision",
    "pygame",
}


def test_the_first_action_comes_without_what_only_training_needs(tmp_path):
    write_run(tmp_path, normalize=True)
    ran = subprocess.run([sys.executable, "-c", COLD, tmp_path], capture_output=True, text=True, check=True)
    assert not UNUSED & set(ran.stdout.split())
