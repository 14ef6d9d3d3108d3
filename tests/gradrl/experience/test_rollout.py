import pytest
import torch

from gradrl.experience.rollout import Batch, Rollout, epoch_order


def batch(size):
    rows = torch.arange(size, dtype=torch.float32)
    names = ("log_prob", "advantage", "value", "target")
    return Batch(obs=rows[:, None] * 10, action=rows.long(), **dict.fromkeys(names, rows + 0.5))


def test_an_epoch_shows_every_valid_row_once_and_fills_up_with_valid_ones():
    valid = torch.ones(60, dtype=torch.bool)
    valid[[3, 17, 18, 59]] = False
    order = epoch_order(valid, 56, torch.Generator().manual_seed(0))
    counts = torch.bincount(order, minlength=60)
    assert len(order) == 60
    assert not counts[~valid].any()
    assert (counts[valid] >= 1).all()
    assert counts.sum() == 60


def test_an_epoch_of_valid_rows_is_a_permutation_that_the_generator_decides():
    valid = torch.ones(20, dtype=torch.bool)
    first, second, third = (epoch_order(valid, 20, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert sorted(first.tolist()) == list(range(20))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_repeated_rows_are_spread_over_the_epoch_and_drawn_evenly():
    valid = torch.zeros(200, dtype=torch.bool)
    valid[:100] = True
    generator = torch.Generator().manual_seed(0)
    counts = sum(torch.bincount(epoch_order(valid, 100, generator)[:50], minlength=200) for _ in range(400))
    assert counts[:100].float().std() < 40  # each of 100 rows is expected 200 times
    assert counts[:100].min() > 120


def test_no_valid_row_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one valid row"):
        epoch_order(torch.zeros(4, dtype=torch.bool), 0, torch.Generator())


@pytest.mark.parametrize("num_invalid", [0, 1, 11])
def test_minibatches_have_one_static_shape_and_keep_rows_together(num_invalid):
    valid = torch.ones(24, dtype=torch.bool)
    valid[:num_invalid] = False
    minibatches = list(batch(24).shuffled(valid, 24 - num_invalid, 4, torch.Generator().manual_seed(0)))
    assert [len(m) for m in minibatches] == [6, 6, 6, 6]
    for m in minibatches:
        assert torch.equal(m.obs[:, 0], m.action * 10.0)
        assert torch.equal(m.target, m.action + 0.5)
        assert (m.action >= num_invalid).all()


def test_minibatches_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="num_minibatches=5 does not divide 24 rows"):
        next(batch(24).shuffled(torch.ones(24, dtype=torch.bool), 24, 5, torch.Generator()))


def test_the_next_value_is_the_following_one_unless_the_final_observation_has_its_own():
    no = torch.zeros(3, 2, dtype=torch.bool)
    rollout = Rollout(
        obs=torch.zeros(4, 2, 1),
        action=torch.zeros(3, 2),
        reward=torch.zeros(3, 2),
        terminated=no,
        truncated=no,
        valid=~no,
        num_valid=6,
        final_index=torch.tensor([3]),
        final_obs=torch.full((1, 1), 7.0),
        terminal_index=torch.tensor([4]),
        terminal_obs=torch.full((1, 1), 5.0),
        episode_start=torch.zeros(4, 2, dtype=torch.bool),
        recurrent_state=torch.zeros(2, 0),
    )
    value = torch.arange(8.0).view(4, 2)
    assert rollout.next_value(value, torch.tensor([99.0])).tolist() == [[2.0, 3.0], [4.0, 99.0], [6.0, 7.0]]
    assert value.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    assert rollout.next_obs[..., 0].tolist() == [[0.0, 0.0], [0.0, 7.0], [5.0, 0.0]]
