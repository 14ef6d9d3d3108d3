"""One style: colours that anybody tells apart, letters that a phone leaves readable, nothing cut."""

import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import core.report
from core.compare.find import Score, SeedRun
from core.compare.groups import SeedGroup
from core.compare.learning_curves import draw_learning_curves
from core.descend.functions import Himmelblau, PlaneFunction
from core.descend.pictures.basin_map import draw_basins
from core.descend.pictures.curves import draw_curves, draw_training
from core.descend.pictures.maps import draw_paths
from core.descend.pictures.relief import draw_surface as draw_relief
from core.descend.trajectory import Trajectory
from core.draw.figure import new_figure, picture
from core.draw.media import Image, dark_of, encode
from core.draw.palette import DARK, LETTER, LIGHT, TINTS, Look
from core.landscape.curvature import Spectrum
from core.landscape.draw_loss import (
    Slices,
    draw_game,
    draw_path_surface,
    draw_slices,
    draw_spectrum,
    draw_surface,
)
from core.landscape.plane import path_plane
from core.landscape.surface import Surface
from tests.drawn import figure_of, require_legible, require_whole, texts

# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color vision
# deficiency", table 1, severity 1.0; for linear RGB.
VISIONS = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip  # noqa: E501
LOOKS = pytest.mark.parametrize(
    "look", [LIGHT, pytest.param(DARK, marks=pytest.mark.slow)], ids=["light", "dark"]
)
HEADING = (
    "A title that says what is shown",
    "and a note on how it was made that needs more than one line of this",
)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, white D65."""
    t = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(first: str, second: str) -> float:
    """WCAG 2.2."""
    low, high = sorted(float(XYZ[1] @ linear(c)) for c in (first, second))
    return (high + 0.05) / (low + 0.05)


def require_apart(colours: tuple[str, ...], least: float) -> None:
    for vision, matrix in VISIONS.items():
        seen = [lab(np.array(matrix) @ linear(c)) for c in colours]
        for (a, first), (b, second) in itertools.combinations(zip(colours, seen, strict=True), 2):
            assert np.linalg.norm(first - second) >= least, (vision, a, b)


def test_the_simulation_knows_which_colours_are_hard_to_tell() -> None:
    """Of equal lightness, red and green differ for most, and hardly for the green-blind."""
    red, green = "#c06000", "#808000"
    usual, green_blind = (
        np.linalg.norm(lab(np.array(VISIONS[v]) @ linear(red)) - lab(np.array(VISIONS[v]) @ linear(green)))
        for v in ("usual", "deuteranopia")
    )
    assert usual > 40
    assert green_blind < 0.5 * usual


@LOOKS
def test_series_stay_apart_for_the_colour_blind_and_stand_out_from_their_page(look: Look) -> None:
    require_apart(look.series, 15.0)
    assert all(contrast(colour, look.page) >= 3.0 for colour in look.series)  # WCAG 2.2, 1.4.11
    for ink in (look.ink, look.faint):
        assert contrast(ink, look.page) >= 4.5  # 1.4.3
    assert contrast(look.level, look.ground[0]) >= 1.5


def test_areas_stay_apart_and_letters_on_them_can_be_read() -> None:
    require_apart(TINTS, 12.0)
    assert all(contrast(LETTER, tint) >= 4.5 for tint in TINTS)


def test_the_report_has_the_same_colours() -> None:
    sheet = (Path(core.report.__file__).parent / "style.css").read_text()
    roots = [
        dict(re.findall(r"--(\w+): (#\w+)", part)) for part in re.findall(r":root \{(.*?)\}", sheet, re.S)
    ]
    light, dark, paper = roots
    for root, look in ((light, LIGHT), (dark, DARK), (paper, LIGHT)):
        assert tuple(root[f"c{i}"] for i in (1, 2, 3, 4)) == look.series[:4]
        assert root["card"] == look.page


def trajectory(name: str, seed: int = 0, **more: list[float]) -> Trajectory:
    """A path that falls from 1 to 1e-28 in 40 steps."""
    random = np.random.default_rng(seed)
    steps, value = list(range(41)), np.geomspace(1.0, 1e-28, 41)
    noise = {
        "samples": [float(32 * s) for s in steps], "seconds": [0.01 * s for s in steps],
        "held_out_accuracy": random.uniform(0, 1, 41).tolist(),
        "noise_scale": random.uniform(1, 1e4, 41).tolist(),
        "gradient_cosine": random.uniform(-0.95, 1, 41).tolist(),
    }  # fmt: skip
    return Trajectory(
        name=name, ended="minimum", steps=steps, value=value.tolist(), gradient_norm=np.sqrt(value).tolist(),
        path=torch.linspace(-2, 3, 41, dtype=torch.float64)[:, None].expand(41, 2), path_steps=steps,
        more={**noise, **more},
    )  # fmt: skip


def plane() -> PlaneFunction:
    function = Himmelblau()
    return PlaneFunction(function, function.domain, function.critical_points, "Himmelblau")


def several() -> list[Trajectory]:
    return [trajectory(name, i) for i, name in enumerate(("stochastic", "momentum", "rmsprop", "adam"))]


def surface() -> Surface:
    x = torch.linspace(-1, 1, 15, dtype=torch.float64)
    return Surface(x, x, x[:, None] ** 2 + 1e4 * x[None] ** 4 + 0.018, None)


def slices(**more: float) -> Slices:
    t = torch.linspace(-1, 1, 21, dtype=torch.float64)
    named = {"steepest": -t + 40 * t**2, "sharpest": 20 * t**2, "lowest": t**4 - t**2}
    return Slices(t, torch.stack([t**2, t**3, 3 * t**2, t]), t, named, (40.0, -2.0), **more)


def spectrum() -> Spectrum:
    from core.curvature.spectrum import SpectralDensity

    grid = torch.linspace(-2, 40, 400, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) + 1e-4 * torch.exp(-0.5 * (grid - 38) ** 2)
    nodes = torch.tensor([-1.0, 0.0, 38.0], dtype=torch.float64)
    found = SpectralDensity(nodes=nodes, weights=torch.ones(3).double() / 3, grid=grid, density=density)
    return Spectrum(1000, found, [38.0, 2.0], [-1.0, -0.5], 0.1, 50.0, 2.0, 0.3)


def path() -> tuple:
    points = torch.randn(6, 30, generator=torch.Generator().manual_seed(0)).cumsum(0).double()
    losses = torch.linspace(100.0, 0.1, 6).double()
    return surface(), path_plane(points), losses, [0, 1000, 2000, 3000, 4000, 123_456], "real images", HEADING


def curves(points: int) -> tuple[list[SeedGroup], Score]:
    score = Score(
        package="gradrl", command="train_rl", runs="runs", label="mean return of evaluation",
        unit="env steps",
        long_unit="environment steps", entries=("x",), curves=("y",), task=("env",), task_options=("env.id",),
        method="agent",
    )  # fmt: skip
    groups = []
    for label in ("PPO", "A2C with a longer name"):
        runs = []
        for seed in range(2):
            curve = {8051 + 2 * seed + 1000 * i: 100.0 * (i + seed) for i in range(points)}
            runs.append(seed_run(seed, curve))
        groups.append(SeedGroup(task="CartPole-v1", label=label, details="", runs=tuple(runs)))
    return groups, score


def seed_run(seed: int, curve: dict[int, float]) -> SeedRun:
    return SeedRun(
        path=Path(), pattern="", seed=seed, status="finished", task="CartPole-v1", method="PPO", options={},
        score=1.0, floor=None, steps=max(curve), curve=curve, lost=0,
    )  # fmt: skip


ENDS = torch.ones(60, 60, 2, dtype=torch.float64)
DRAWINGS = {
    "paths": lambda: (draw_paths, plane(), several()),
    "relief": lambda: (draw_relief, plane(), several()),
    "basins": lambda: (draw_basins, plane(), dict.fromkeys(("sgd", "adam", "rmsprop"), ENDS),
                       "none of lbfgs: it looks at more than one number at a time, and so do some others"),
    "curves": lambda: (draw_curves, several(), 0.25),
    "training": lambda: (draw_training, several()),
    "slices": lambda: (draw_slices, slices(bend=1.0, nearest=0.1), HEADING),
    "surface": lambda: (draw_surface, surface(), 0.018, HEADING),
    "path over a loss": lambda: (draw_path_surface, *path()),
    "spectrum": lambda: (draw_spectrum, spectrum(), HEADING),
    "game": lambda: (draw_game, {"generator": surface(), "discriminator": surface()}, HEADING),
    "learning curves": lambda: (draw_learning_curves, *curves(4)),
}  # fmt: skip


@LOOKS
@pytest.mark.parametrize("name", DRAWINGS)
def test_every_word_of_a_picture_can_be_read_on_a_phone(name: str, look: Look) -> None:
    draw, *args = DRAWINGS[name]()
    require_legible(figure_of(draw, *args, look=look))


@pytest.mark.parametrize(
    "name", ["curves", "training", "slices", "path over a loss", "spectrum", "learning curves"]
)
def test_no_line_is_cut(name: str) -> None:
    draw, *args = DRAWINGS[name]()
    require_whole(figure_of(draw, *args))


def test_a_value_of_1e_28_and_a_cosine_of_minus_0_95_are_shown() -> None:
    upper, _ = figure_of(draw_curves, several(), None).axes
    assert upper.get_yscale() == "log"
    assert upper.get_ylim()[0] <= 1e-28
    cosine = next(a for a in figure_of(draw_training, several()).axes if "cosine" in a.get_title(loc="left"))
    lowest = min(min(t.more["gradient_cosine"]) for t in several())
    assert cosine.get_ylim()[0] <= lowest < -0.5


def test_a_logarithmic_panel_leaves_a_gap_where_a_value_is_exactly_0() -> None:
    still = trajectory("sgd")
    still.value[-1] = 0.0
    upper, _ = figure_of(draw_curves, [still], None).axes
    (line,) = upper.lines
    assert np.isnan(np.asarray(line.get_ydata(), dtype=float)[-1])
    assert upper.get_ylim()[0] < still.value[-2]


@pytest.mark.parametrize(
    ("bend", "nearest", "said"),
    [(0.25, 0.1, "bends down within ±0.25"), (0.0, 0.005, "bends down within less than ±0.005"),
     (1.0, 0.1, "bends down all the way")],
)  # fmt: skip
def test_a_curvature_is_said_to_be_that_of_the_centre_and_how_far_it_reaches(bend, nearest, said) -> None:
    made = figure_of(draw_slices, slices(bend=bend, nearest=nearest), HEADING)
    words = [text for text, *_ in texts(made)]
    assert f"lowest: curvature −2 at the centre, {said}" in words
    assert "sharpest: curvature 40 at the centre" in words


def test_one_evaluation_of_each_run_is_a_point_and_numbers_of_the_axis_differ() -> None:
    made = figure_of(draw_learning_curves, *curves(1))
    (axes,) = made.axes
    assert all(line.get_marker() not in ("None", None) for line in axes.lines)
    labels = [text for text, _, box in texts(made) if box.y1 < axes.bbox.y0 and text[:1].isdigit()]
    assert len(labels) > 1
    assert len(set(labels)) == len(labels)


def test_what_the_user_has_set_for_figures_changes_nothing_and_stays() -> None:
    @picture
    def drawn(look: Look):
        made = new_figure(2.0, "A title")
        made.subplots().plot([0, 1], [0, 1])
        return made

    usual = drawn()
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "#ff0000", "figure.dpi": 20}):
        changed = drawn()
        assert matplotlib.rcParams["font.size"] == 30.0
    np.testing.assert_array_equal(usual.pixels, changed.pixels)
    assert usual.dark is not None
    assert usual.pixels.shape == usual.dark.shape
    for pixels, look in ((usual.pixels, LIGHT), (usual.dark, DARK)):
        page = [int(look.page[i : i + 2], 16) for i in (1, 3, 5)]
        assert pixels[0, 0].tolist() == page


@pytest.mark.slow
def test_a_diagrams_file_has_256_colours_that_are_nearly_its_own() -> None:
    import io

    from PIL import Image as Pillow

    drawn = draw_surface(surface(), 0.018, HEADING)
    photograph = Image(drawn.pixels)
    small, exact = (encode(each)[0] for each in (drawn, photograph))
    assert len(small) < 0.5 * len(exact)
    back = [np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (small, exact)]
    assert len(np.unique(back[0].reshape(-1, 3), axis=0)) <= 256
    off = np.abs(back[0] - drawn.pixels)
    assert off.mean() < 0.7
    assert off[0, 0].max() == 0  # the page around
    assert off.max() < 32
    np.testing.assert_array_equal(back[1], drawn.pixels)
    dark = dark_of(drawn)
    assert dark is not None
    assert drawn.dark is not None
    np.testing.assert_array_equal(dark.pixels, drawn.dark)
    assert dark_of(photograph) is None
