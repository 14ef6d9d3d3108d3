"""What somebody else's optimizer raises before a run, with the place where it did."""

from pathlib import Path

import pytest
import torch
from torch import nn

from core.config import Component
from core.optim.factory import check_optimizer


class Careless(torch.optim.SGD):
    """Meant for an option that nobody gave it, when it is made or in its first step."""

    def __init__(self, params, lr=0.1, late=False):
        super().__init__(params, lr)
        if not late:
            self.defaults["average"]

    def step(self, closure=None):
        self.defaults["average"]


@pytest.mark.parametrize(
    ("late", "what"), [(False, "refuses its options"), (True, "cannot take a step here")]
)
def test_what_a_class_did_not_mean_to_raise_is_named_with_its_place(late, what):
    line = Careless.__init__.__code__.co_firstlineno + (6 if late else 3)
    with pytest.raises(ValueError, match=rf"^optimizer: Careless {what}: KeyError: 'average' \(") as found:
        check_optimizer(Component(Careless, {"late": late}, "optimizer"), lambda: [nn.Linear(2, 1)])
    assert str(found.value).endswith(f"({Path(__file__)}, line {line})")
