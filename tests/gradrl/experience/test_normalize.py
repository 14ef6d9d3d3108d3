import numpy as np
import pytest

from gradrl.experience.normalize import ObservationNormalizer, RewardNormalizer, RunningMoments


def test_running_moments_equal_numpys_over_all_rows_however_they_are_cut():
    rows = np.random.default_rng(0).normal(1e3, 2.0, (101, 4)).astype(np.float32)
    moments = RunningMoments((4,))
    for piece in np.split(rows, [0, 1, 2, 50, 50]):
        moments.update(piece)
    assert moments.count == 101
    assert moments.mean == pytest.approx(rows.astype(np.float64).mean(0), rel=1e-12)
    assert moments.variance == pytest.approx(rows.astype(np.float64).var(0), rel=1e-9)


def test_before_any_row_observations_pass_and_the_statistics_move_only_by_update():
    normalizer = ObservationNormalizer(2)
    obs = np.array([[1.0, -2.0]], np.float32)
    assert normalizer(obs) == pytest.approx(obs)
    normalizer(obs * 100)
    assert normalizer.moments.count == 0


def test_observations_are_whitened_clipped_and_a_constant_element_becomes_zero():
    rows = np.random.default_rng(0).normal(5.0, 3.0, (1000, 3)).astype(np.float32)
    rows[:, 2] = 7.0
    normalizer = ObservationNormalizer(3, clip=2.0)
    normalizer.update(rows)
    expected = np.clip((rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-8), -2, 2)
    assert normalizer(rows)[:, :2] == pytest.approx(expected[:, :2], abs=1e-4)
    assert not normalizer(rows)[:, 2].any()


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    generator = np.random.default_rng(1)
    reward = generator.normal(3.0, 2.0, (40, 2)).astype(np.float32)
    done = generator.random((40, 2)) < 0.1
    valid = np.ones_like(done)
    valid[1:] = ~done[:-1]
    reward[~valid] = 0.0
    normalizer = RewardNormalizer(2, gamma=0.9)
    scaled = np.concatenate(
        [normalizer(reward[:15], done[:15], valid[:15]), normalizer(reward[15:], done[15:], valid[15:])]
    )
    seen = []
    for n in range(2):
        running = 0.0
        for t in range(40):
            if valid[t, n]:
                running = 0.9 * running + float(reward[t, n])
                seen.append(running)
            if done[t, n]:
                running = 0.0
    assert normalizer.moments.count == valid.sum()
    assert normalizer.moments.variance == pytest.approx(np.var(seen))
    assert scaled[15:] == pytest.approx(np.clip(reward[15:] / np.std(seen), -10, 10), rel=1e-5)


def test_the_running_return_begins_anew_right_after_an_episode_that_ended_with_a_valid_step():
    """Under SAME_STEP nothing lies between two episodes: the sums are 1, 2.5, then 4 alone."""
    normalizer = RewardNormalizer(1, gamma=0.5)
    reward, valid = np.array([[1.0], [2.0], [4.0]], np.float32), np.ones((3, 1), bool)
    normalizer(reward, np.array([[False], [True], [False]]), valid)
    assert normalizer.moments.variance == pytest.approx(np.var([1.0, 2.5, 4.0]))
    assert normalizer.running.tolist() == [4.0]


def test_a_restored_normaliser_continues_with_identical_numbers():
    generator = np.random.default_rng(2)
    reward = generator.normal(size=(8, 3)).astype(np.float32)
    no, yes = np.zeros((8, 3), bool), np.ones((8, 3), bool)
    first = RewardNormalizer(3, 0.99)
    first(reward, no, yes)
    second = RewardNormalizer(3, 0.99)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(first(reward, no, yes), second(reward, no, yes))
    one, two = ObservationNormalizer(3), ObservationNormalizer(3)
    one.update(reward)
    two.load_state_dict(one.state_dict())
    one.update(reward * 2)
    two.update(reward * 2)
    assert np.array_equal(one(reward), two(reward))


def test_columns_that_are_no_vector_are_left_alone():
    columns = np.array([True, False, True])
    rows = np.random.default_rng(0).normal(3.0, 2.0, (50, 3)).astype(np.float32)
    some, whole = ObservationNormalizer(3, columns=columns), ObservationNormalizer(3)
    some.update(rows)
    whole.update(rows)
    assert some(rows)[:, 1].tolist() == rows[:, 1].tolist()
    assert some(rows)[:, columns].tolist() == whole(rows)[:, columns].tolist()
