"""The landscape one can walk in: closed forms of its numbers, and what a real browser makes of its page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.config import ConfigError
from core.landscape.keep import keep
from core.landscape.page import NAME, scenes_of, write_page
from core.landscape.plane import path_plane
from core.landscape.subject import Subject
from core.landscape.surface import surface_of
from core.landscape.views import ViewConfig, path, surface, walk
from core.landscape.walk import FRAMES, frames_of, moved_to
from core.report.page import write_page as write_report
from core.run import checkpoint
from tests.core.landscape.test_landscape import generator, quadratic
from tests.core.report.browser import Browser, installed
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run
from tests.core.report.test_browser import WIDE

CFG = ViewConfig(grid=9, span=1.0, seed=0)
POINTS = 9
seen = pytest.mark.skipif(
    installed() is None, reason="no browser: install chromium (Debian and Ubuntu: apt-get install chromium)"
)


def bowl(size: int = 6) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with the eigenvalues -1 to 9, and a path of points [T, d] that ends near 0."""
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator(), dtype=torch.float64))
    a = q @ torch.diag(torch.linspace(-1, 9, size, dtype=torch.float64)) @ q.T
    start = torch.randn(size, generator=generator(1), dtype=torch.float64)
    shares = torch.linspace(1, 0.1, POINTS, dtype=torch.float64)[:, None]
    wiggle = torch.randn(POINTS, size, generator=generator(2), dtype=torch.float64)
    return a, shares * start + 0.05 * wiggle


def loss_at(a: Tensor, x: Tensor) -> float:
    return float(0.5 * x @ a @ x)


def test_the_frames_of_a_quadratic_are_closed_forms():
    a, points = bowl()
    objective, plane = quadratic(a, points[-1].clone()), path_plane(points)
    axes = [torch.linspace(-1.5, 1.5, 5), torch.linspace(-1, 1, 4)]
    frames = frames_of(objective, points, plane, axes, generator(3))
    assert [f.index for f in frames] == [0, 2, 3, 5, 6, 8]
    assert len(frames) == FRAMES
    values, vectors = torch.linalg.eigh(a)
    for frame in frames:
        here = points[frame.index]
        assert frame.loss == pytest.approx(loss_at(a, here))
        assert frame.gradient_norm == pytest.approx(float((a @ here).norm()))
        assert frame.curvatures == (pytest.approx(float(values[-1])), pytest.approx(float(values[0])))
        ends = vectors[:, [-1, 0]].T
        assert [abs(s) for s in frame.slopes] == pytest.approx((ends @ a @ here).abs().tolist())
        assert frame.arrows.abs().numpy() == pytest.approx((ends @ plane.axes.T).abs().numpy(), abs=1e-6)
        away = here - points[-1] - plane.coordinates[frame.index] @ plane.axes  # out of the plane
        assert float(away.norm()) == pytest.approx(float(plane.distances[frame.index]), abs=1e-6)
        for i, y in enumerate(axes[1].double()):
            for j, x in enumerate(axes[0].double()):
                at = points[-1] + away + x * plane.axes[0] + y * plane.axes[1]
                assert float(frame.plane.values[i, j]) == pytest.approx(loss_at(a, at), abs=1e-6)
        # Over eigenvectors a quadratic is its own second-order model, without a mixed term.
        x, y = frame.bends.x, frame.bends.y
        model = (
            frame.loss
            + frame.slopes[0] * x[None] + 0.5 * frame.curvatures[0] * x[None] ** 2
            + frame.slopes[1] * y[:, None] + 0.5 * frame.curvatures[1] * y[:, None] ** 2
        )  # fmt: skip
        assert frame.bends.values.numpy() == pytest.approx(model.numpy(), abs=1e-5)
    assert torch.equal(objective.parameters[0], points[-1])


def test_the_plane_of_the_last_frame_is_that_of_the_still_picture():
    a, points = bowl()
    objective, plane = quadratic(a, points[-1].clone()), path_plane(points)
    axes = [torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5)]
    last = frames_of(objective, points, plane, axes, generator(3))[-1]
    still = surface_of(objective, plane.axes, *axes)
    assert torch.equal(last.plane.values, still.values)


def test_parameters_come_back_to_the_bit_when_a_measurement_fails():
    a, points = bowl()
    objective = quadratic(a, points[-1].clone())
    there = []

    def measured():
        with moved_to(objective, points[0]):
            there.append(objective.parameters[0].detach().clone())
            raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        measured()
    assert torch.equal(there[0], points[0])
    assert torch.equal(objective.parameters[0], points[-1])


def walked(directory: Path) -> Subject:
    """A run with snapshots, whose loss is a quadratic in its only parameter, and its landscape.json."""
    a, points = bowl()
    for i, point in enumerate(points):
        content = {"step": 100 * i, "parameters": {"": {"x": point.float()}}}
        checkpoint.save(directory / "snapshots" / f"{100 * i:012}.pt", content)
    objective = quadratic(a.float(), points[-1].float().clone())
    subject = Subject(
        directory=directory,
        checkpoint="last",
        objectives={"": objective},
        batch="one",
        step=800,
        unit="steps",
    )
    for name, view in (("path", path), ("walk", walk)):
        keep(subject, name, view(subject, "", CFG), CFG.seed)
    return subject


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a walk and a surface of random directions, a report, and the page."""
    directory = make_run(tmp_path_factory.mktemp("runs") / "a<b", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    walked(directory)
    tree = json.loads((directory / "landscape.json").read_text(encoding="utf-8"))
    grid = [-1.0, 0.0, 1.0]
    tree["surface"] = tree["walk"] | {
        "loss": 1.0,
        "x": grid,
        "y": grid,
        "losses": [[5, 2, None], [3, 1, 4], [9, 8, 7]],
    }
    (directory / "landscape.json").write_text(json.dumps(tree), encoding="utf-8")
    assert write_page(directory) == directory / NAME
    return directory


def test_the_scenes_are_the_numbers_of_the_file_and_a_path_lies_on_its_surface(run):
    tree = json.loads((run / "landscape.json").read_text(encoding="utf-8"))
    over_path, bends, random = scenes_of(tree)
    assert [s["title"] for s in (over_path, bends, random)] == ["Path", "Curvature", "Random directions"]
    for kind, scene in (("plane", over_path), ("bends", bends)):
        for frame, kept in zip(scene["frames"], tree["walk"]["frames"], strict=True):
            assert frame["surface"]["loss"] == kept[kind]["losses"]
            assert (frame["surface"]["x"], frame["surface"]["y"]) == (kept[kind]["x"], kept[kind]["y"])
            assert [arrow["curvature"] for arrow in frame["arrows"]] == kept["curvatures"]
    heights = np.concatenate([np.ravel(f["surface"]["z"]) for f in over_path["frames"]])
    losses = np.concatenate([np.ravel(f["surface"]["loss"]) for f in over_path["frames"]])
    assert (np.diff(heights[losses.argsort()]) >= 0).all(), "one scale for all frames of a scene"
    for frame in over_path["frames"]:
        _, marks = frame["path"]
        at = tree["walk"]["coordinates"]
        assert [[x, y] for x, y in zip(marks["x"], marks["y"], strict=True)] == at
        # The mark of the chosen snapshot is on its own surface, up to the grid's coarseness.
        number = tree["walk"]["steps"].index(int(frame["name"].split()[0]))
        assert marks["z"][number] - 0.015 == pytest.approx(frame["mark"][2], abs=0.12)
    assert np.isnan(random["frames"][0]["surface"]["z"][0][2])


def test_the_still_picture_stays_and_a_walk_has_none(run):
    assert [p.name for p in (run / "media" / "landscape").glob("*.png")] == ["path.png"]


def test_a_report_links_the_page_and_has_no_script(run, tmp_path):
    text = write_report(run).read_text(encoding="utf-8")
    assert f'<a href="{NAME}">' in text
    assert "<script" not in text
    bare = make_run(tmp_path / "bare", RL_OPTIONS, RL_CURVES, RL_SUMMARY)
    assert NAME not in write_report(bare).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text", ['{"walk": {}}', '{"surface": {"losses": "x"}}', '{"path_walk": 3}', "[1]"], ids=str
)
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "landscape.json").write_text(text)
    with pytest.raises(ConfigError, match=r"landscape\.json is damaged"):
        write_page(tmp_path)


def test_without_a_surface_there_is_no_page(tmp_path):
    assert write_page(tmp_path) is None
    (tmp_path / "landscape.json").write_text('{"spectrum": {"size": 3}}')
    assert write_page(tmp_path) is None
    assert not (tmp_path / NAME).exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"), "--enable-unsafe-swiftshader")
    yield browser
    browser.close()


# What is drawn: the surface, the marks of the path, and the curvature that the keys state.
DRAWN = """(() => {
  const of = name => plot.data.find(trace => trace.name === name || trace.type === name);
  const list = x => x && Array.from(x, v => ArrayBuffer.isView(v) ? Array.from(v) : v);
  const surface = of("surface"), path = of("path"), here = of("here");
  return {
    x: list(surface.x), y: list(surface.y), loss: list(surface.customdata),
    path: path && [list(path.x), list(path.y), list(path.text)],
    here: [here.x[0], here.y[0], here.z[0]], name: title.textContent,
    keys: [...document.querySelectorAll(".key")].map(key => key.textContent),
    canvas: !!plot.querySelector("canvas"),
  };
})()"""


@pytest.mark.slow
@seen
def test_a_browser_shows_the_numbers_of_the_file_at_every_snapshot(browser, run):
    kept = json.loads((run / "landscape.json").read_text(encoding="utf-8"))["walk"]
    browser.open(run / NAME, 1280)
    for number, frame in enumerate(kept["frames"]):
        browser.ask(f"(slider.value = {number}, slider.dispatchEvent(new Event('input')), 0)")
        shown = browser.ask(DRAWN)
        assert shown["canvas"]
        assert shown["loss"] == frame["plane"]["losses"]
        assert (shown["x"], shown["y"]) == (frame["plane"]["x"], frame["plane"]["y"])
        x, y, steps = shown["path"]
        assert [list(pair) for pair in zip(x, y, strict=True)] == kept["coordinates"]
        assert steps == [f"{step} steps" for step in kept["steps"]]
        assert shown["here"][:2] == kept["coordinates"][frame["index"]]
        assert shown["name"] == f"{kept['steps'][frame['index']]} steps"
        ends = [re.match(r"(largest|lowest) curvature ([−.\d]+), ", key) for key in shown["keys"]]
        assert [m[1] for m in ends] == ["largest", "lowest"]
        assert [float(m[2].replace("−", "-")) for m in ends] == pytest.approx([9, -1], rel=1e-2)
    browser.ask("(choice.value = 1, choice.dispatchEvent(new Event('change')), 0)")
    shown = browser.ask(DRAWN)
    assert shown["loss"] == kept["frames"][-1]["bends"]["losses"]
    assert "path" not in shown
    assert browser.ask("[...choice.options].map(o => o.text)") == ["Path", "Curvature", "Random directions"]
    browser.ask("(choice.value = 2, choice.dispatchEvent(new Event('change')), 0)")
    assert browser.ask(DRAWN)["loss"] == [[5, 2, None], [3, 1, 4], [9, 8, 7]]
    assert browser.ask("document.getElementById('slider').hidden")


@pytest.mark.slow
@seen
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_follows_the_scheme_asks_nobody_and_is_soon_there(browser, run, width, scheme):
    browser.call("Performance.enable", timeDomain="threadTicks")
    browser.open(run / NAME, width, scheme=scheme)
    spent = {m["name"]: m["value"] for m in browser.call("Performance.getMetrics")["metrics"]}
    assert (
        spent["TaskDuration"] < 2.0
    )  # seconds of one thread, so that other work on the machine does not count
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(WIDE) == []
    assert browser.ask("plot.getBoundingClientRect().height") >= 300
    assert browser.ask("document.querySelector('h1').textContent") == "Landscape of a<b"
    ink, ground = (
        ("rgb(231, 235, 241)", "rgb(18, 22, 28)")
        if scheme == "dark"
        else ("rgb(28, 36, 48)", "rgb(246, 247, 249)")
    )
    assert browser.ask("getComputedStyle(document.body).color") == ink
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == ground
    assert browser.ask("plot._fullLayout.font.color") == browser.ask("colour('ink')")
    asked = [event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [
        (run / NAME).resolve().as_uri()
    ]
    assert browser.happened("Runtime.exceptionThrown") == []


@pytest.mark.slow
@seen
def test_a_browser_that_cannot_draw_in_space_is_told_where_the_pictures_are(run, tmp_path):
    flat = Browser(tmp_path, "--disable-3d-apis")
    try:
        flat.open(run / NAME, 1280)
        assert flat.ask("plot.textContent").startswith("This browser has no WebGL")
        assert flat.happened("Runtime.exceptionThrown") == []
    finally:
        flat.close()


def test_plotly_is_in_the_page_once(run):
    text = (run / NAME).read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    assert len(text) < 6_000_000


def test_a_surface_of_random_directions_has_a_scene_too(tmp_path):
    linear = torch.nn.Linear(2, 2)
    from tests.core.landscape.test_landscape import regression

    subject = Subject(directory=tmp_path, checkpoint="last", objectives={"actor": regression(linear, 2)},
                      batch="16", step=3, unit="steps")  # fmt: skip
    view = surface(subject, "actor", CFG)
    keep(subject, "actor_surface", view, 0)
    (scene,) = scenes_of(json.loads((tmp_path / "landscape.json").read_text(encoding="utf-8")))
    assert scene["title"] == "Random directions of the actor"
    (frame,) = scene["frames"]
    assert frame["surface"]["loss"] == view.numbers["losses"]
    assert frame["surface"]["loss"][4][4] == pytest.approx(view.numbers["loss"], rel=1e-5)


def test_the_command_redraws_the_page_from_the_file_and_says_where_there_is_nothing(run, command, tmp_path):
    before = (run / NAME).read_text(encoding="utf-8")
    (run / NAME).unlink()
    done = command("landscape", f"run={run}", "which=[]")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"landscape: {run / NAME}"
    assert (run / NAME).read_text(encoding="utf-8") == before
    refused = command("landscape", f"run={tmp_path}", "which=[]")
    assert refused.status == 2
    assert f"{tmp_path} has no surface yet to make a page of" in refused.err
