"""Pictures of every layer's gradient: what is kept of a long run, what the colours say, what is written."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL.ImageColor import getrgb

from core.draw.heatmap import COLUMNS, HeatMap, _cells, _ends, draw_norms
from core.draw.palette import LIGHT
from core.draw.pen import Box
from core.draw.viridis import viridis
from tests.drawn import require_legible_pen

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


def test_every_cell_has_the_colour_of_its_norm_and_the_width_of_its_window():
    """Points of the windows 0 to 10, 10 to 20, 20 to 40: the last one has a half of the width."""
    norms = np.array([[1e-2, 1e-1, 1.0], [1.0, 0.0, np.nan], [np.inf, 1e-9, 1e9]])
    found = _cells(LIGHT, [10, 20, 40], norms, (-2.0, 0.0), Box(5, 7, 85, 99))
    first, half, last = viridis(np.array([0.0, 0.5, 1.0]))
    zero, missing, infinite = (getrgb(c) for c in (LIGHT.ink, LIGHT.missing, LIGHT.orange))
    rows = [(first, half, last), (last, zero, missing), (infinite, first, last)]
    assert np.array_equal(found, [np.repeat(row, [20, 20, 40], axis=0) for row in rows])


def test_the_key_says_what_the_cells_are():
    """Equal norms have the colour of the middle, half a decade from both ends; without any there is none."""
    assert _ends(np.full((2, 3), 0.01)) == pytest.approx((-2.5, -1.5), abs=1e-12)
    assert _ends(np.geomspace(1e-3, 1e3, 101)) == pytest.approx((-2.94, 2.94), abs=1e-9)
    written = require_legible_pen(lambda: draw_norms(["a"], [1], np.array([[np.nan]]), "steps"))
    assert written == [
        "Gradient norm of every layer",
        "a",
        "no gradient",
        "length of the gradient",
        "0",
        "1",
        "steps",
    ]


def test_the_colours_are_matplotlibs():
    shares = np.linspace(-0.1, 1.1, 1000)
    expected = matplotlib.colormaps["viridis"](shares, bytes=True)[:, :3]
    assert np.array_equal(viridis(shares), expected)


@pytest.mark.parametrize(
    ("names", "steps", "norms"),
    [
        ([f"actor.{i}.weight" for i in range(8)], [10, 20, 30], np.geomspace(1e-9, 10, 24).reshape(8, 3)),
        ([STEM.format(i) for i in range(300)], [5], np.ones((300, 1))),
        (["a", "b\x1b[31m\n", "c"], range(1, 60), np.tile([[0.0], [np.nan], [np.inf]], 59)),
        (["a"], [0], np.full((1, 1), 3.0)),
        (["a", "b"], [1], np.full((2, 1), 1.7e308)),
        (["a", "b"], [1], np.full((2, 1), 5e-324)),
        (["a", "b"], [10**11, 2 * 10**11], np.array([[1e-300, 1e300], [1e-5, 1.0]])),
    ],
)
def test_every_word_can_be_read_and_none_is_cut(names, steps, norms):
    written = require_legible_pen(lambda: draw_norms(names, steps, norms, "env steps", "generator"))
    assert written[0] == "Gradient norm of every layer of the generator"


def test_a_run_draws_it_without_matplotlib():
    code = "import sys; from core.draw.heatmap import draw_norms as d; import numpy as n; "
    draws = "d(['a'], [1], n.ones((1, 1)), 'steps'); print('matplotlib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code + draws], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
