import math

import numpy as np
import pytest

from gradrl.policies.exploration_noise import NoiseConfig, OrnsteinUhlenbeck, make_noise

NEVER = np.zeros(2, np.bool_)


def walk(process, steps, episode_start=NEVER, size=3):
    return np.stack([process((len(episode_start), size), episode_start).copy() for _ in range(steps)])


def test_gaussian_noise_has_its_deviation_and_no_memory():
    noise = walk(make_noise(NoiseConfig(std=0.3), np.random.default_rng(0)), 5000)
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs((noise[1:] * noise[:-1]).mean() / 0.09) < 0.02


def test_ornstein_uhlenbeck_follows_its_recursion():
    cfg = NoiseConfig(kind="ornstein_uhlenbeck", std=0.5, theta=0.3, dt=0.2)
    noise = walk(make_noise(cfg, np.random.default_rng(0)), 50)
    generator, x = np.random.default_rng(0), np.zeros((2, 3))
    for step in noise:
        n = generator.standard_normal((2, 3), dtype=np.float32)
        x = x + 0.3 * (0 - x) * 0.2 + 0.5 * math.sqrt(0.2) * n
        np.testing.assert_allclose(step, x, atol=1e-5)


def test_ornstein_uhlenbeck_has_the_deviation_and_the_correlation_of_its_closed_form():
    cfg = NoiseConfig(kind="ornstein_uhlenbeck", std=0.5, theta=1.0, dt=0.1)
    noise = walk(make_noise(cfg, np.random.default_rng(0)), 5000, np.zeros(100, np.bool_), 4)[100:]
    keep = 1 - 0.1
    assert noise.std() == pytest.approx(0.5 * math.sqrt(0.1 / (1 - keep**2)), rel=0.02)
    assert (noise[5:] * noise[:-5]).mean() / noise.var() == pytest.approx(keep**5, rel=0.02)


def test_ornstein_uhlenbeck_begins_anew_with_the_episode_of_its_own_environment():
    cfg = NoiseConfig(
        kind="ornstein_uhlenbeck", std=1.0, dt=1e-6
    )  # hardly moves: where it begins is where it is
    process = make_noise(cfg, np.random.default_rng(0))
    process.x = np.full((2, 3), 5.0, np.float32)
    noise = process((2, 3), np.array([True, False]))
    np.testing.assert_allclose(noise, [[0.0] * 3, [5.0] * 3], atol=0.01)


def test_a_resumed_process_continues():
    cfg = NoiseConfig(kind="ornstein_uhlenbeck")
    process, resumed = (OrnsteinUhlenbeck(cfg, np.random.default_rng(seed)) for seed in (0, 1))
    walk(process, 7)
    resumed.load_state_dict(process.state_dict())
    resumed.generator.bit_generator.state = process.generator.bit_generator.state
    np.testing.assert_array_equal(walk(process, 5), walk(resumed, 5))


@pytest.mark.parametrize("options", [{"std": -1.0}, {"theta": 0.0}, {"dt": 0.0}, {"theta": 2.0, "dt": 0.6}])
def test_impossible_constants_are_refused(options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        NoiseConfig(**options)
