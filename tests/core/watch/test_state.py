"""The state of a Watch: it comes back as it was, and what is not its own is refused and changes nothing."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from core import Watch
from core.state import copied
from tests.core.watch.loops import classes, classifier

pytestmark = pytest.mark.usefixtures("blank_figures")

STEPS = 33  # amid a window


def watched(directory=None, outputs=3, players=("",), spoilt=False) -> Watch:
    """A loop in the middle: as many optimizers as players, each with its model; a spoilt loss is NaN."""
    models = {name: classifier(outputs=outputs) for name in players}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.1) for name, model in models.items()}
    loss = nn.CrossEntropyLoss()
    one = players == ("",)
    watch = Watch(models[""] if one else models, optimizers[""] if one else optimizers, loss, directory)
    for x, y in classes(STEPS):
        watch.log(noise=math.nan if spoilt else 0.5)
        for name in players:
            optimizers[name].zero_grad()
            (loss(models[name](x), y) * (math.nan if spoilt else 1.0)).backward()
            optimizers[name].step()
    return watch


def like(one: object, other: object) -> bool:
    """To the bit, NaN for NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one.nan_to_num(123.0), other.nan_to_num(123.0))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(like(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(like, one, other))
    return repr(one) == repr(other)


@pytest.mark.parametrize(
    "loop",
    [{}, {"spoilt": True}, {"players": ("actor", "critic")}, {"spoilt": True, "players": ("g", "d")}],
    ids=str,
)
@pytest.mark.parametrize("files", [False, True])
def test_what_a_watch_saves_it_takes_and_is_then_the_same(loop, files, tmp_path):
    one, other = (watched(tmp_path / name if files else None, **loop) for name in ("one", "other"))
    one.log(more=3.0)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.step == STEPS
    assert like(one.state_dict(), other.state_dict())
    for each in (one, other):
        each.close()


def put(state, place, value):
    """A state with another value at a place, a path of keys; the ellipsis stands for the first key.

    As a value it takes the place away.
    """
    state = part = copied(state)
    *path, last = place
    for key in path:
        part = part[next(iter(part)) if key is ... else key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return state


MONITOR = ("players", "", "monitor")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The state of a loop, and another loop, whose state differs from it."""
    folder = tmp_path_factory.mktemp("two")
    one, other = watched(folder / "one"), watched(folder / "other")
    one.log(noise=7.0)
    state = copied(one.state_dict())
    one.close()
    yield state, other
    other.close()


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("step",), -1, "state.step is -1, not a whole number >= 0"),
        (("step",), "33", "state.step is '33', not a whole number >= 0"),
        (("players",), {}, "it lacks state.players"),
        (("players", "", "steps"), 2.5, "state.players.steps is 2.5"),
        (("players", "", "base_lrs"), [math.nan], "state.players.base_lrs.0 is nan"),
        ((*MONITOR, "totals"), torch.zeros(5), r"size mismatch for state.players.monitor.totals: \[5\]"),
        ((*MONITOR, "totals"), torch.zeros(2, dtype=torch.complex64), "totals is a Tensor, not a tensor"),
        ((*MONITOR, "exponents"), {}, "it lacks state.players.monitor.exponents"),
        ((*MONITOR, "previous"), ..., "it lacks state.players.monitor.previous"),
        (MONITOR, ..., "it lacks state.players.monitor"),
        (("ear", "constant", "total"), ..., "it lacks state.ear.constant.total"),
        (("diagnosis", "history", "series", ..., "course"), 3, "course is 3, not a list"),
        ((*MONITOR, "ring"), [(torch.zeros(3), torch.zeros(4))], r"monitor.ring.0.0: \[3\], not \[4\]"),
        (("window", "sums"), {"noise": 3}, "state.window.sums.noise is 3, not a tensor"),
        (("window", "counts"), {}, "window has sums and counts of different tags"),
        (("ear", "means", "folded"), {"loss/train": [1.0]}, "loss/train is a list of 1, not of 2"),
        (("ear", "constant", "total"), [1.0], "state.ear.constant.total is a list, not a tensor"),
        (("diagnosis", "history", "series", ..., "points"), [], "a list of 1 to inf"),
        (("diagnosis", "ledger"), {"x|": {"streak": 1, "quiet": 0, "began": 0, "finding": None, "new": 1}},
         "state.diagnosis.ledger.x|.new is of another version"),
        (("journal", "heat_maps"), {}, "it lacks state.journal.heat_maps"),
        (("journal", "heat_maps", ..., "steps"), [1], "parts of different lengths"),
    ],
)  # fmt: skip
def test_a_state_that_is_none_of_its_own_is_refused_in_one_line_and_nothing_is_loaded(
    place, value, says, two
):
    state, other = two
    damaged, before = put(state, place, value), copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=says) as caught:
        other.load_state_dict(damaged)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert like(other.state_dict(), before)


@pytest.mark.parametrize("state", [None, [], 3, {}])
def test_what_is_no_state_at_all_is_refused(state):
    watch = watched()
    with pytest.raises(ValueError, match=r"^(state is|it lacks state)"):
        watch.load_state_dict(state)


def test_a_loop_of_other_models_or_optimizers_is_another():
    state = watched().state_dict()
    with pytest.raises(ValueError, match=r"it lacks state.players.critic"):
        watched(players=("critic",)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"previous.2: \[3, 32\], not \[4, 32\]"):
        watched(outputs=4).load_state_dict(state)


def test_a_monitor_for_what_is_frozen_now_is_refused():
    state = watched().state_dict()
    other = classifier().requires_grad_(False)
    head = nn.Linear(3, 3)
    frozen = Watch(
        nn.Sequential(other, head),
        {"": torch.optim.SGD(other.parameters(), lr=0.1), "head": torch.optim.SGD(head.parameters(), lr=0.1)},
    )
    with pytest.raises(ValueError, match=r"state.players.monitor is a dict"):
        frozen.load_state_dict(state | {"players": state["players"] | {"head": state["players"][""]}})
