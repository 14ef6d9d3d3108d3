"""Copies of states, and what of them a checkpoint could not give back."""

import collections
from collections import OrderedDict, deque

import pytest
import torch
from torch import nn

from core.state import copied, unreadable
from tests.foreign import Norm

Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize("wrap", [deque, lambda x: deque(x, maxlen=2), list, tuple, lambda x: Pair(*x, 1.0)])
def test_a_copy_shares_nothing_with_its_original(wrap):
    tensor = torch.zeros(2)
    original = {"inside": wrap([tensor]), "number": 3}
    copy = copied(original)
    tensor += 1
    assert torch.equal(copy["inside"][0], torch.zeros(2))
    assert type(copy["inside"]) is type(original["inside"])
    assert getattr(copy["inside"], "maxlen", None) == getattr(original["inside"], "maxlen", None)


@pytest.mark.parametrize(
    "state",
    [
        {
            "a": [torch.zeros(2), (1, 2.0, None, "word", b"bytes", True)],
            3: OrderedDict(b=nn.Parameter(torch.ones(1))),
        },
        {"size": torch.Size([2]), "dtype": torch.float32, "device": torch.device("cpu")},
        torch.optim.Adam([nn.Parameter(torch.ones(1))]).state_dict(),
    ],
)
def test_what_a_checkpoint_reads_is_readable(state):
    assert unreadable(state) is None


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"state": {0: {"recent": deque()}}}, "['state'][0]['recent'] is a collections.deque"),
        ({"groups": [{"lr": 1.0}, {"norm": Norm.SPECTRAL}]}, "['groups'][1]['norm'] is a tests.foreign.Norm"),
        ({Norm.SPECTRAL: 1}, "[<Norm.SPECTRAL: 1>] is a tests.foreign.Norm"),
        ((Pair(1, 2),), "[0] is a tests.core.test_state.Pair"),
        ({"rule": lambda: 0}, "['rule'] is a builtins.function"),
    ],
)
def test_what_it_would_not_read_is_named_with_its_place(state, found):
    assert unreadable(state) == found
