import io
from collections import deque

import pytest
import torch

from gradrl.experience.replay import COLUMNS, Replay
from tests.gradrl.rollouts import random_rollout, rollout

CPU = torch.device("cpu")


def transitions(data):
    """A rollout's transitions one by one, by the definition."""
    t, n = data.reward.shape
    final = dict(zip(data.final_index.tolist(), data.final_obs, strict=True))
    for i in range(t):
        for j in range(n):
            if data.valid[i, j]:
                next_obs = final.get(i * n + j, data.obs[i + 1, j])
                done = float(data.terminated[i, j])
                yield data.obs[i, j], data.action[i, j], data.reward[i, j], next_obs, torch.tensor(done)


def rows(replay):
    """Everything the ring holds, oldest first."""
    state = replay.state_dict()
    shift = -(replay.total % replay.capacity) if replay.total > replay.capacity else 0
    return [torch.roll(state["rows"][name], shift, 0) for name in COLUMNS]


@pytest.mark.parametrize(("capacity", "t", "n"), [(1000, 5, 3), (17, 5, 3), (16, 4, 4), (7, 5, 3), (1, 3, 2)])
def test_the_ring_holds_the_last_transitions_of_a_list(capacity, t, n):
    replay, reference = Replay(capacity, CPU), deque(maxlen=capacity)
    for seed in range(9):
        data = random_rollout(t, n, seed)
        replay.add(data)
        reference.extend(transitions(data))
        assert len(replay) == len(reference)
        for column, expected in zip(rows(replay), zip(*reference, strict=True), strict=True):
            assert torch.equal(column, torch.stack(expected))


def test_the_next_observation_at_a_truncation_is_the_final_one_and_is_not_an_end():
    obs = torch.arange(3.0).view(3, 1, 1)  # 0, 1 | 2: the episode was cut off after the first step, at 9
    cut = torch.tensor([[True], [False]])
    data = rollout(
        obs, torch.zeros(2, 1, 1), torch.ones(2, 1), truncated=cut, final={(0, 0): torch.tensor([9.0])}
    )
    replay = Replay(8, CPU)
    replay.add(data)
    _, _, _, next_obs, terminated = rows(replay)
    assert next_obs.flatten().tolist() == [9.0, 2.0]
    assert terminated.tolist() == [0.0, 0.0]


def test_what_is_added_is_a_copy_and_images_stay_bytes():
    obs = torch.full((2, 1, 4), 7, dtype=torch.uint8)
    replay = Replay(3, CPU)
    replay.add(rollout(obs, torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1)))
    obs.fill_(9)
    batch = replay.sample(5, torch.Generator())
    assert batch.obs.dtype is batch.next_obs.dtype is torch.uint8
    assert (batch.obs == 7).all()
    assert batch.action.dtype is torch.int64
    assert batch.obs.shape == (5, 4)


def test_samples_are_rows_that_belong_together_and_every_row_is_as_likely():
    replay = Replay(8, CPU)
    obs = torch.arange(12.0).view(12, 1, 1)
    replay.add(rollout(obs, obs[:-1].clone(), obs[:-1, :, 0].clone()))  # 11 steps: 3 to 10 are left
    batch = replay.sample(8000, torch.Generator().manual_seed(0))
    assert torch.equal(batch.obs[:, 0], batch.reward)
    assert torch.equal(batch.obs, batch.action)
    assert torch.equal(batch.next_obs, batch.obs + 1)
    counts = torch.bincount(batch.reward.long(), minlength=11)
    assert counts[:3].sum() == 0
    chi_square = ((counts[3:] - 1000.0) ** 2 / 1000).sum()
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in a thousand


def test_an_empty_replay_has_nothing_to_draw():
    with pytest.raises(ValueError, match="empty"):
        Replay(3, CPU).sample(1, torch.Generator())


@pytest.mark.parametrize("num_rollouts", [0, 1, 5])
def test_a_resumed_replay_continues_bit_by_bit(num_rollouts):
    replay, resumed = Replay(40, CPU), Replay(40, CPU)
    for seed in range(num_rollouts):
        replay.add(random_rollout(5, 3, seed))
    file = io.BytesIO()
    torch.save(replay.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(10, 14):
        for one in (replay, resumed):
            one.add(random_rollout(5, 3, seed))
    assert replay.total == resumed.total
    for a, b in zip(rows(replay), rows(resumed), strict=True):
        assert torch.equal(a, b)
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    a, b = (one.sample(16, g) for one, g in zip((replay, resumed), generators, strict=True))
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in COLUMNS)


def test_a_saved_replay_holds_only_what_is_filled():
    replay, file = Replay(100_000, CPU), io.BytesIO()
    replay.add(random_rollout(5, 3))
    torch.save(replay.state_dict(), file)
    assert file.tell() < 10_000  # all of it would be 4 MB


def test_a_replay_of_another_capacity_is_refused():
    replay = Replay(4, CPU)
    replay.add(random_rollout(5, 3))
    with pytest.raises(ValueError, match="capacity is 8"):
        Replay(8, CPU).load_state_dict(replay.state_dict())
