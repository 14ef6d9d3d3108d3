"""The last line of a run that cannot go on proposes only what its optimizer takes."""

import pytest
import torch
from torch import nn

from core.gradients import GlobalNorm, GradientStep
from core.run.finite import require_finite


@pytest.mark.parametrize("search", ["strong_wolfe", None])
def test_a_clipper_is_proposed_just_where_the_optimizer_takes_one(search):
    net = nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(net.parameters(), line_search_fn=search)
    step = GradientStep(net, optimizer)
    with pytest.raises(FloatingPointError, match="try a lower optimizer") as caught:
        require_finite(step, {"gradient/skipped": 1.0}, "10 iterations", "20 steps")
    proposed = "clipper=global_norm" in str(caught.value)
    try:
        GradientStep(net, optimizer, [GlobalNorm(max_norm=1.0)])
        taken = True
    except ValueError:
        taken = False
    assert proposed is taken is (search is None)
