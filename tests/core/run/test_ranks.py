"""What ranks agree on, and that it is seen when they no longer hold the same parameters."""

import pytest
import torch
from torch import nn

from core.gradients import GradientStep
from core.run.ranks import RankStates, agree, begin_alike, differing_tensors, is_first, told
from tests.ranks import on_ranks


def spoken() -> dict[str, object]:
    rank = torch.distributed.get_rank()
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    step = GradientStep(net, torch.optim.SGD(net.parameters(), lr=0.1))
    before = differing_tensors([step])
    begin_alike([net], seed=0)
    alike = differing_tensors([step])
    with torch.no_grad():
        net[0].weight.view(-1)[4].add_(1e-7 * rank)
    states = RankStates()
    saved = states.state_dict()
    drawn = torch.rand(3).tolist()
    states.load_state_dict(saved)
    return {
        "first": is_first(),
        "agreed": agree(rank, 5 - rank, 0),
        "told": told({"directory": rank}),
        "differing": [before, alike, differing_tensors([step])],
        "drawn": [drawn, torch.rand(3).tolist()],
    }


@pytest.mark.slow
def test_ranks_agree_and_are_compared():
    first, second = on_ranks(spoken, 2)
    assert (first["first"], second["first"]) == (True, False)
    assert first["agreed"] == second["agreed"] == (1, 5, 0)
    assert first["told"] == second["told"] == {"directory": 0}
    counts = [{"ranks/differing_tensors": count} for count in (2.0, 0.0, 1.0)]  # the affine pair begins alike
    assert first["differing"] == second["differing"] == counts
    assert first["drawn"][0] == first["drawn"][1] != second["drawn"][0] == second["drawn"][1]


def test_one_process_agrees_with_itself():
    step = GradientStep(net := nn.Linear(2, 1), torch.optim.SGD(net.parameters(), lr=0.1))
    assert (is_first(), agree(3, 0), told("x"), differing_tensors([step])) == (True, (3, 0), "x", {})
