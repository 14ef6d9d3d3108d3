"""The tour: what its sentences state is compared with closed forms, and its pages with each other.

The notebook is run cell by cell, as a reader would; the command is then called with the stations that its
cells have made, so that every station is measured once.
"""

import ast
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from core.descend.batches import BatchStream
from core.descend.objectives import DeepLinear, DeepSigmoid, DigitsMLP, Logistic
from core.report.pictures import picture_size
from core.scripts import stations as tour_stations  # pyright: ignore[reportMissingImports]
from core.scripts.stations import depth, policy_gradient  # pyright: ignore[reportMissingImports]
from core.scripts.stations.station import Station  # pyright: ignore[reportMissingImports]
from core.seeding import Generators
from scripts import tour
from tests.core.report.browser import Browser, installed
from tests.core.report.test_browser import CONTRASTS, LEGIBLE, WIDE
from tests.pages import ROOT

pytestmark = pytest.mark.slow
PAGE, NOTEBOOK = ROOT / "docs" / "tour.md", ROOT / "examples" / "tour.ipynb"
NAMES = (
    "slope", "learning_rate", "batches", "optimizers", "critical_points", "depth", "noise", "clipping",
    "policy_gradient", "two_players",
)  # fmt: skip
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def stated(sentence: str) -> list[float]:
    """All numbers of a sentence, in order: 1,234 and −0.5 and 1.1·10⁻¹⁵."""
    found = re.findall(r"[−-]?\d[\d,]*(?:\.\d+)?(?:·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", sentence)
    return [
        float(text.replace(",", "").replace("−", "-").replace("·10", "e").translate(DIGITS)) for text in found
    ]


def close(value: float, digits: float = 5e-3):
    """Equal as far as three digits say."""
    return pytest.approx(value, rel=digits)


@pytest.fixture(scope="module")
def visited() -> dict[str, Station]:
    """What the code cells of the notebook end with."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, object] = {}
    found = []
    for cell in cells:
        if cell["cell_type"] == "code":
            *before, last = ast.parse("".join(cell["source"])).body
            assert isinstance(last, ast.Expr)
            exec(compile(ast.Module(before, []), "tour.ipynb", "exec"), namespace)
            found.append(eval(compile(ast.Expression(last.value), "tour.ipynb", "eval"), namespace))
    return dict(zip(NAMES, found, strict=True))


@pytest.fixture(scope="module")
def written(visited, tmp_path_factory) -> Path:
    """The folder that the command fills, with what it printed in `printed.txt`."""
    folder = tmp_path_factory.mktemp("tour")

    def known(make: Callable[[], Station]) -> Callable[[], Station]:
        return functools.wraps(make)(lambda: visited[make.__module__.rpartition(".")[2]])

    words = [f"directory={folder}", f"markdown={folder}/also/tour.md", f"notebook={folder}/tour.ipynb"]
    with pytest.MonkeyPatch.context() as patch, (folder / "printed.txt").open("w", encoding="utf-8") as out:
        makes = tuple(map(known, tour_stations.STATIONS))
        patch.setattr(tour_stations, "STATIONS", makes)
        patch.setattr("core.scripts.stations.page.STATIONS", makes)
        patch.setattr(sys, "argv", ["tour.py", *words])
        patch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as ended:
            tour.main()
    assert not ended.value.code
    return folder


def test_the_numbers_of_a_sentence_are_read_as_they_are_meant():
    assert stated("a 1,234 long (0, −0.5) to 1.1·10⁻¹⁵, 8.6·10⁹.") == [1234, 0, -0.5, 1.1e-15, 8.6e9]


def test_the_steepest_way_down_is_that_of_the_negative_gradient(visited):
    # 4x (x^2 + y - 11) + 2 (x + y^2 - 7) = -14 and 2 (x^2 + y - 11) + 4y (x + y^2 - 7) = -22 at (0, 0).
    found = stated(visited["slope"].sentence)
    assert found == [0, 0, 360, 58, 26.1, 14, 22, 57.5, 26.1, 90]
    assert [math.hypot(14, 22), math.degrees(math.atan2(22, 14))] == [close(26.1), close(57.5)]


def test_a_rate_above_two_over_the_curvature_goes_out(visited):
    sharpest, steps, first, *ends, _, border = stated(visited["learning_rate"].sentence)
    assert (sharpest, steps, border) == (10, 50, 0.2)
    assert first == close(math.sqrt(2))
    assert [rate for _, rate in zip(ends[::2], ends[1::2], strict=True)] == [0.02, 0.18, 0.21]
    for distance, rate in zip(ends[::2], ends[1::2], strict=True):
        assert distance == close(math.hypot((1 - rate) ** 50, (1 - 10 * rate) ** 50), 1e-2)


def sample_gradients(w: np.ndarray, x: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Of log(1 + exp(-s w.x)), for each sample, [N, 2]."""
    return (-s / (1 + np.exp(s * (x @ w))))[:, None] * x


def test_directions_and_losses_of_the_three_kinds_of_gradient(visited):
    data = Logistic().load()
    x, s = data.x.numpy(), 2 * data.y.numpy() - 1.0
    start = np.array([-2.0, 1.0])

    def loss(w: np.ndarray) -> float:
        return float(np.log1p(np.exp(-s * (x @ w))).mean())

    each = sample_gradients(start, x, s)
    found = stated(visited["batches"].sentence)
    single, thirty_two, few, total, before, one, some, _, all_of_them = found
    assert single == round(100 * ((each @ each.mean(0)) > 0).mean())
    assert (thirty_two, few, total) == (32, 100, len(x))
    assert before == close(loss(start))
    assert all_of_them == close(loss(start - 0.1 * each.mean(0)))
    for size, reached in ((1, one), (32, some)):
        stream, w = BatchStream(len(x), size, Generators(1).torch("data")), start
        for _ in range(len(x) // size):
            rows = stream.next().numpy()
            w = w - 0.1 * sample_gradients(w, x[rows], s[rows]).mean(0)
        assert reached == close(loss(w))


def test_optimizers_in_a_valley_have_the_rates_of_theory(visited):
    steep, along, across, adam, plain, momentum = stated(visited["optimizers"].sentence)
    assert (steep, adam) == (100, 0.1)
    assert (along, across) == (close(2 / 101), close(2 / 101 * 100 * 0.4))  # lr times slope, from (1, 0.4)
    assert plain == round(99 / 101, 2)
    assert momentum == round(9 / 11, 2)


def test_where_descents_from_a_grid_end_and_what_a_saddle_is(visited):
    found = stated(visited["critical_points"].sentence)
    starts, deepest, minima = found[:3]
    (west, east), (south, north) = (-2.1, 2.1), (-1.2, 1.2)
    centres = (np.arange(60) + 0.5) / 60
    x, y = np.meshgrid(west + (east - west) * centres, south + (north - south) * centres)
    for _ in range(400):
        slope_x = 8 * x - 8.4 * x**3 + 2 * x**5 + y
        slope_y = x - 8 * y + 16 * y**3
        x, y = x - 0.02 * slope_x, y - 0.02 * slope_y
    lowest = np.hypot(np.abs(x) - 0.08984201, np.abs(y) - 0.71265640) < 0.02 * np.hypot(4.2, 2.4)
    assert (starts, minima) == (3600, 6)
    assert deepest == round(100 * float((lowest & (x * y < 0)).mean()), 1)
    # (x^2 - 1)^2 + y^2: curvatures -4 and 2 and value 1 at the origin, 0 at (1, 0).
    assert found[3:] == [0, 0, -4, 2, 0.01, 1, 0, 1, 0]
    assert "saddle (0, 0)" in visited["critical_points"].sentence


def first_gradient(weights: list[np.ndarray], kind: str, data) -> float:
    """Length of the gradient of the first weight, by the chain rule written out; biases are 0."""
    steep: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "sigmoid": lambda h: h * (1 - h), "tanh": lambda h: 1 - h**2, "none": np.ones_like
    }  # fmt: skip
    act: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh, "none": lambda z: z
    }  # fmt: skip
    around, kind = kind == "residual", "sigmoid" if kind == "residual" else kind
    h, seen, inputs = data.x.numpy(), [], []
    for i, weight in enumerate(weights[:-1]):
        inputs.append(h)
        seen.append(act[kind](h @ weight.T))
        h = seen[-1] + (h if around and i else 0)
    output = h @ weights[-1].T
    target = np.eye(10)[data.y.numpy()]
    if kind == "none":
        back = (output - target) / len(h)
    else:
        likely = np.exp(output - output.max(1, keepdims=True))
        back = (likely / likely.sum(1, keepdims=True) - target) / len(h)
    back = back @ weights[-1]
    for i in reversed(range(1, len(seen))):
        back = (back * steep[kind](seen[i])) @ weights[i] + (back if around else 0)
    return float(np.linalg.norm((back * steep[kind](seen[0])).T @ inputs[0]))


def test_what_depth_does_to_the_first_layers_gradient_is_the_chain_rule(visited):
    few, many, *found = stated(visited["depth"].sentence)
    vanished, least, gain, exploded, most, _, plain, tanh, residual = found
    assert (few, many, gain) == (2, 24, 1.5)
    made = {
        "sigmoids": (lambda d: DeepSigmoid(depth=d), "sigmoid"),
        "large weights": (lambda d: DeepLinear(depth=d + 1, width=32, gain=1.5), "none"),
        "weights of gain 1": (lambda d: DeepLinear(depth=d + 1, width=32), "none"),
        "tanh": (lambda d: DigitsMLP(hidden_sizes=(32,) * d), "tanh"),
        "residual": (lambda d: DeepSigmoid(depth=d), "residual"),
    }
    ends = {}
    for name, (make, kind) in made.items():
        for layers in (2, 24):
            objective = make(layers)
            data = objective.load()
            network = objective.make(data, torch.Generator().manual_seed(depth.SEED))
            weights = [p.detach().numpy() for n, p in network.named_parameters() if n.endswith("weight")]
            ends[name, layers] = first_gradient(weights, kind, data)
    factors = {name: (ends[name, 24] / ends[name, 2]) ** (1 / 22) for name in made}
    assert [vanished, exploded, plain, tanh, residual] == [close(factors[name]) for name in
        ("sigmoids", "large weights", "weights of gain 1", "tanh", "residual")]  # fmt: skip
    assert (least, most) == (close(ends["sigmoids", 24], 5e-2), close(ends["large weights", 24], 5e-2))
    assert vanished < 0.25 < 1 < exploded


def test_noise_falls_with_the_root_of_the_batch_size(visited):
    size, missed, larger, less, before, after, steps, _, late = stated(visited["noise"].sentence)
    assert (size, larger, steps) == (16, 64, 300)
    objective = DigitsMLP()
    data = objective.load()
    network = objective.make(data, Generators(1).torch("network"))

    def gradient(rows: slice) -> Tensor:
        parts = torch.autograd.grad(objective.loss(network, data.x[rows], data.y[rows]), network.parameters())
        return torch.cat([part.flatten() for part in parts])

    total = len(data.x)
    each = torch.stack([gradient(slice(i, i + 1)) for i in range(total)])
    mean = each.mean(0)
    scale = float((each - mean).square().sum() / (total - 1) / mean.square().sum())
    assert before == round(scale)
    # The mean of 100 squared errors: 5 % and a margin.
    assert missed == pytest.approx(math.sqrt(scale * (1 / 16 - 1 / total)), rel=0.12)
    assert less == pytest.approx(math.sqrt(scale * (1 / 64 - 1 / total)), rel=0.12)
    assert late == pytest.approx(math.sqrt(after * (1 / 64 - 1 / total)), rel=0.12)
    assert after > 10 * before


def beale_gradient(x: float, y: float) -> np.ndarray:
    terms = [(c - x + x * y**k, y**k - 1, k * x * y ** (k - 1)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))]
    return np.array([sum(2 * t * dx for t, dx, _ in terms), sum(2 * t * dy for t, _, dy in terms)])


def test_a_clipped_descent_comes_down_the_wall_and_a_plain_one_flies_away(visited):
    found = stated(visited["clipping"].sentence)
    x, y, length, rate, away, longest, at_x, at_y, by_length, by_number = found
    assert (x, y, rate, longest, at_x, at_y, by_length) == (3.5, 3, 0.01, 0.05, 3, 0.5, 0)
    gradient = beale_gradient(x, y)
    assert length == close(np.linalg.norm(gradient))
    point = np.array([x, y])
    for _ in range(2):
        point = point - rate * beale_gradient(*point)
    assert away == close(np.linalg.norm(point), 2e-2)
    clamped = np.clip(gradient, -5, 5)
    cosine = clamped @ gradient / np.linalg.norm(clamped) / np.linalg.norm(gradient)
    assert by_number == close(math.degrees(math.acos(cosine)))


def test_a_baseline_changes_the_variance_of_the_policy_gradient_and_not_its_mean(visited):
    *lengths, none, mean, value, fewer = stated(visited["policy_gradient"].sentence)
    # Uniform policy: a score's squared length is 2/3, and grad J is (-1, 0, 1)/3 / 2 in either state.
    worth = policy_gradient.WORTH.numpy()
    squared = 2 * (1 / 4) * (2 / 9)
    baselines = (0.0, worth.mean(), worth.mean(1, keepdims=True))
    exact = [2 / 3 * float(((worth - b) ** 2).mean() + 1) - squared for b in baselines]
    assert exact == pytest.approx([125 / 3, 53 / 3, 1.0])
    for length, variance, got in zip(lengths, exact, (none, mean, value), strict=True):
        assert length == pytest.approx(math.sqrt(squared), abs=5 * math.sqrt(variance / 200_000))
        assert got == pytest.approx(variance, rel=2e-2)
    assert fewer == round(exact[0] / exact[2])


def test_players_circle_out_on_or_in_as_the_game_has_it(visited):
    h, out, away, steps, least, most, inward = stated(visited["two_players"].sentence)
    assert (h, steps) == (0.2, 60)
    assert out == round(math.sqrt(1 + h**2), 4)
    assert away == close(math.sqrt(1 + h**2) ** 60)
    assert inward == round(math.sqrt(1 - h**2 + h**4), 4)
    # In turn, x^2 + y^2 - h x y is conserved: the distance stays between the axes of that ellipse.
    assert 1 / math.sqrt(1 + h / 2) <= least + 5e-4 < 1 < most - 5e-3 <= 1 / math.sqrt(1 - h / 2)


def test_a_notebook_shows_a_station_as_its_sentence_and_its_picture(visited):
    html = visited["two_players"]._repr_html_()
    assert re.match(r'<p>With steps of .*</p><img width="100%" src="data:image/png;base64,', html)


def test_the_committed_page_and_notebook_are_what_the_command_writes(written):
    assert (written / "also" / "tour.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    assert (written / "tour.ipynb").read_text(encoding="utf-8") == NOTEBOOK.read_text(encoding="utf-8")


def test_the_command_prints_each_sentence_and_the_pages_state_it(written, visited):
    printed = (written / "printed.txt").read_text(encoding="utf-8")
    html = (written / "tour.html").read_text(encoding="utf-8")
    for i, station in enumerate(visited.values(), 1):
        assert f"{i}. {station.title}\n   {station.sentence}\n" in printed
        assert station.sentence.replace("'", "&#39;") in html
        assert station.sentence.endswith(".")
        assert not re.search(r"\. [A-Z]", station.sentence), "one sentence"


def test_every_station_has_one_picture_which_is_not_empty_and_the_committed_ones_are_of_its_size(written):
    names = [f"{i:02}_{name}.png" for i, name in enumerate(NAMES, 1)]
    pictures = [*names, *(f"dark/{name}" for name in names)]
    for folder in (written, written / "also" / "tour", ROOT / "docs" / "tour"):
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} >= {*pictures}
    assert len([*(ROOT / "docs" / "tour").rglob("*.*")]) == len(pictures)
    for name in pictures:
        committed = (ROOT / "docs" / "tour" / name).read_bytes()
        assert picture_size(committed) == picture_size((written / name).read_bytes())
        assert len(committed) < 120_000
        shades = np.asarray(Pillow.open(written / name).convert("L")).astype(int)
        for half in np.array_split(shades, 2, axis=1):
            assert (abs(half - shades[0, 0]) > 50).mean() > 0.004, f"{name}: a panel is empty"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.skipif(installed() is None, reason="no browser: install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "shape"), [(390, "tall"), (1280, "wide")])
def test_the_page_fits_and_can_be_read_and_is_alone(browser, written, width, shape, scheme):
    browser.open(written / "tour.html", width, 20_000, scheme=scheme)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(WIDE) == []
    assert [(round(c, 2), text) for c, text in browser.ask(CONTRASTS) if c < LEGIBLE] == []
    sizes = browser.ask("[...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    assert len(sizes) == 10
    assert all((across > down) == (shape == "wide") for across, down in sizes)
    assert browser.ask("document.scripts.length") == 0
    asked = [event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [(written / "tour.html").as_uri()]
    anchors = browser.ask(
        "[...document.querySelectorAll('.stations a')].map(a => !!document.querySelector('[id=\"' + "
        "a.getAttribute('href').slice(1) + '\"]'))"
    )
    assert anchors == [True] * 10


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("markdown=page.html", "markdown must be null or a file name in .md, got 'page.html'"),
        ("notebook=x.md", "notebook must be null or a file name in .ipynb, got 'x.md'"),
    ],
)
def test_files_of_another_kind_are_refused(word, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tour.py", word])
    with pytest.raises(SystemExit) as ended:
        tour.main()
    assert ended.value.code == 2
    assert line in capsys.readouterr().err
