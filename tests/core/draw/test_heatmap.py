"""Pictures of every layer's gradient: what is kept of a long run, what the colours say, which names show."""

import numpy as np
import pytest
import torch

from core.draw.heatmap import COLUMNS, LONGEST, HeatMap, draw_exponents, shortened
from core.draw.palette import LIGHT
from core.gradients.measure.exponents import BINS

pytestmark = pytest.mark.usefixtures("light_figures")

STEM = "generator.encoder.blocks.{}.attention.query.parametrizations.weight."


def drawn(names, norms):
    """A picture of these norms [layers, points]."""
    heat = HeatMap(names)
    for step, column in enumerate(np.transpose(norms), start=1):
        heat.add(step, {f"layer/{n}/gradient_norm": v for n, v in zip(names, column, strict=True)})
    return heat.draw("steps").pixels.astype(int)


def share(pixels, colour):
    """Of the picture's pixels, how many have this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(pixels - rgb).sum(2) == 0).mean())


def test_a_long_history_keeps_every_second_point_and_its_place():
    heat = HeatMap(["a"])
    for step in range(3 * COLUMNS):
        heat.add(step, {"layer/a/gradient_norm": float(step)})
    assert len(heat.rows) <= COLUMNS
    assert all(row == [float(step)] for step, row in zip(heat.steps, heat.rows, strict=True))
    assert len({b - a for a, b in zip(heat.steps, heat.steps[1:], strict=False)}) == 1
    again = HeatMap(["a"])
    again.load_state_dict(heat.state_dict())
    assert again.draw("steps").pixels.shape == heat.draw("steps").pixels.shape


def test_a_gradient_of_0_none_at_all_and_one_that_is_not_finite_have_colours_of_their_own():
    colours = {1.0: None, 0.0: LIGHT.ink, np.nan: LIGHT.missing, np.inf: LIGHT.orange}
    for value, own in colours.items():
        norms = np.ones((4, 10))
        norms[1] = value
        found = drawn(list("abcd"), norms)
        for colour in (LIGHT.ink, LIGHT.missing, LIGHT.orange):
            assert share(found, colour) > 0.05 if colour == own else share(found, colour) < 0.01


def test_a_layer_without_a_norm_had_no_gradient_or_none_that_was_finite():
    heat = HeatMap(["a", "b", "c"], "generator/")
    heat.add(10, {"generator/layer/a/gradient_norm": 2.0, "generator/layer/c/nonfinite": 1.0})
    assert np.array_equal(heat.rows, [[2.0, np.nan, np.inf]], equal_nan=True)


@pytest.mark.parametrize(("length", "number"), [(88, "{:02d}"), (400, "{:02d}"), (150, "{:02d}" + 60 * "x")])
def test_long_names_leave_room_and_stay_different(length, number):
    """Of every second layer the norm is largest: its colour, viridis's last, fills much of the width."""
    norms = np.where(np.arange(12)[:, None] % 2, 1.0, 0.01) * np.ones((12, 40))
    groups = [
        [(STEM.format(number.format(i + shift)) + 400 * "original_")[:length] for i in range(12)]
        for shift in (0, 40)
    ]
    maps = [drawn(names, norms) for names in groups]
    bright = np.abs(maps[0] - [253, 231, 36]).sum(2) < 12
    assert bright.mean(1).max() > 0.4
    assert not np.array_equal(*maps)
    counts = torch.ones(12, BINS + 1, dtype=torch.int64)
    assert not np.array_equal(*(draw_exponents(counts, names).pixels for names in groups))


def test_shortened_names_say_what_differs():
    long = [STEM.format(i) + "0.original" for i in (3, 12)]
    assert shortened(long) == ["generator.encoder.blocks.3…", "generator.encoder.blocks.12…"]
    deep = ["a." * 30 + name for name in ("conv.weight", "norm.weight")]
    assert shortened(deep) == ["…" + 12 * "a." + "conv…", "…" + 12 * "a." + "norm…"]
    assert shortened(["actor.0", "critic.0"]) == ["actor.0", "critic.0"]
    alike = [50 * "x" + letter + 50 * "y" for letter in "ab"]
    assert len(set(shortened(alike))) == 2
    for names in (long, deep, alike):
        assert max(map(len, shortened(names))) <= LONGEST
