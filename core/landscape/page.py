"""`landscape.html`: the landscapes of a run as surfaces that one can turn, made of numbers in landscape.json.

One file that asks nobody for anything: plotly's script is in it, once. The report, which has no script, links
it; print and phones without WebGL have the still pictures.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from core.config import ConfigError
from core.landscape.figures import Scale, loss_scale
from core.numbers import number
from core.run.directory import jsonable
from core.run.files import read_json, write_text

NAME = "landscape.html"
ARROW, HEAD = 0.28, 0.05  # of a plane's smaller side: an arrow and each half of its head
LIFT = 0.015  # of lines above the surface, of all its height
BETWEEN = 8  # parts of the way from one snapshot to the next, so that a line follows the surface
Tree = dict[str, Any]


def write_page(directory: Path) -> Path | None:
    """Write the page into a run's directory; where it is, None where no surface of the run is known yet.

    Raises:
        ConfigError: landscape.json is damaged.
    """
    path = directory / "landscape.json"
    tree = read_json(path) if path.exists() else {}
    try:
        scenes = list(scenes_of(cast(Tree, tree)))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}; delete it") from error
    if not scenes:
        return None
    write_text(directory / NAME, render(directory.resolve().name, scenes))
    return directory / NAME


def render(run: str, scenes: Sequence[Tree]) -> str:
    """The page as HTML.

    Args:
        run: its name.
        scenes: see `scenes_of`.
    """
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined)
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    # "</script" in a text would end the script it is in.
    data = json.dumps(jsonable(scenes), allow_nan=False).replace("<", "\\u003c")
    page = environment.get_template("walk.html.jinja")
    return page.render(run=run, plotly=Markup(plotly), data=Markup(data))


def scenes_of(tree: Tree) -> Iterator[Tree]:
    """The surfaces that a reader can choose, each with its frames, of every player.

    A scene has a title, a sentence about what it shows, names of its axes, labels of its heights, what is
    known of the points of the path (or none), and frames. A frame has a name, a surface (coordinates, losses,
    and heights in [0, 1] on a scale that is the same for all of the scene), the mark where the parameters
    are, arrows, and the path as a line and as its points.
    """
    for tag, part in tree.items():
        player, _, view = tag.rpartition("_")
        whose = f"of the {player}" if player else ""
        if view == "walk":
            yield _path_scene(part, whose)
            yield _bends_scene(part, whose)
        elif view == "surface":
            yield _random_scene(part, whose)


def _path_scene(part: Tree, whose: str) -> Tree:
    """The plane of the path, moved along it."""
    coordinates, losses = np.array(part["coordinates"]), _losses(part["snapshot_losses"])
    frames = part["frames"]
    scale = loss_scale(np.concatenate([losses, *(_losses(f["plane"]["losses"]).ravel() for f in frames)]))
    side = min(frames[0]["plane"][axis][-1] - frames[0]["plane"][axis][0] for axis in ("x", "y"))
    shares = np.linspace(0, 1, BETWEEN + 1)[:-1, None]
    ways = [a + shares * (b - a) for a, b in pairwise(coordinates)]
    way = np.concatenate([*ways, coordinates[-1:]])
    shown = []
    for frame in frames:
        at, out = coordinates[frame["index"]], part["distance_out_of_plane"][frame["index"]]
        surface = _surface(frame["plane"], scale)
        arrows = []
        for curvature, direction in zip(frame["curvatures"], np.array(frame["arrows"]), strict=True):
            share = float(direction @ direction)
            line = at + _arrow(side * direction / max(share**0.5, 1e-12))
            text = f"curvature {number(curvature)}, {100 * share:.2g} % of its direction in this plane"
            arrows.append(_raised(surface, line) | {"curvature": curvature, "text": text})
        told = f"{number(out)} from the plane through the end"
        seen = _shown(part, frame, "plane", scale, at, arrows, told)
        shown.append(seen | {"path": [_raised(surface, way), _raised(surface, coordinates)]})
    first, second = part["variance"]
    return {
        "title": f"Path {whose}".strip(),
        "about": "The loss over the plane that the path of the training lies in best, moved so that it holds "
        "the snapshot you choose, and the path over it; point at a mark for the loss at that snapshot.",
        "axes": [f"axis 1: {first:.0%} of the variance", f"axis 2: {second:.0%} of the variance"],
        "ticks": _ticks(scale),
        "path": {
            "loss": losses.tolist(),
            "step": [f"{step:,} {part['unit']}" for step in part["steps"]],
        },
        "frames": shown,
    }


def _bends_scene(part: Tree, whose: str) -> Tree:
    """The outermost eigenvectors of the Hessian at each frame, with the parabolas that they promise."""
    frames = part["frames"]
    scale = loss_scale(np.concatenate([_losses(f["bends"]["losses"]).ravel() for f in frames]))
    shown = []
    for frame in frames:
        t = np.array(frame["bends"]["x"])
        arrows = []
        for curvature, slope, along in zip(frame["curvatures"], frame["slopes"], np.eye(2), strict=True):
            promised = frame["loss"] + slope * t + 0.5 * curvature * t**2
            inside = (promised >= scale.levels[0]) & (promised <= scale.levels[-1])
            x, y = np.outer(along, t[inside]).tolist()
            z = (scale.height(promised[inside]) + LIFT).tolist()
            text = f"curvature {number(curvature)}"
            arrows.append({"curvature": curvature, "x": x, "y": y, "z": z, "text": text})
        shown.append(_shown(part, frame, "bends", scale, (0.0, 0.0), arrows, ""))
    return {
        "title": f"Curvature {whose}".strip(),
        "about": "The loss over the directions of the largest and the lowest curvature at the snapshot you "
        "choose; lines are the parabolas that slope and curvature promise.",
        "axes": ["direction of the largest curvature", "direction of the lowest curvature"],
        "ticks": _ticks(scale),
        "path": None,
        "frames": shown,
    }


def _random_scene(part: Tree, whose: str) -> Tree:
    """Two random filter-normalised directions at the checkpoint."""
    scale = loss_scale(_losses(part["losses"]).ravel())
    height = float(scale.height(np.array([part["loss"]]))[0])
    frame = {
        "name": f"{part['checkpoint']} checkpoint, {part['step']:,}",
        "told": f"loss {number(part['loss'])}",
        "surface": _surface(part, scale),
        "mark": [0.0, 0.0, height],
        "arrows": [],
    }
    return {
        "title": f"Random directions {whose}".strip(),
        "about": "The loss over two random directions, in lengths of the network's own filters.",
        "axes": ["first direction", "second direction"],
        "ticks": _ticks(scale),
        "path": None,
        "frames": [frame],
    }


def _shown(
    part: Tree, frame: Tree, over: str, scale: Scale, at: Iterable[float], arrows: list[Tree], told: str
) -> Tree:
    """One frame of a walk."""
    facts = [
        f"loss {number(frame['loss'])}",
        f"length of the gradient {number(frame['gradient_norm'])}",
        *([told] if told else []),
    ]
    return {
        "name": f"{part['steps'][frame['index']]:,} {part['unit']}",
        "told": " · ".join(facts),
        "surface": _surface(frame[over], scale),
        "mark": [*map(float, at), float(scale.height(np.array([frame["loss"]]))[0])],
        "arrows": arrows,
    }


def _arrow(way: np.ndarray) -> np.ndarray:
    """The line of an arrow from 0 along a way [2], then its head, [n, 2]."""
    tip, aside = ARROW * way, np.array([-way[1], way[0]])
    barbs = [tip - HEAD * way + sign * 0.6 * HEAD * aside for sign in (1, -1)]
    return np.concatenate([np.linspace(0, 1, 12)[:, None] * tip, [barbs[0], tip, barbs[1], tip]])


def _raised(surface: Tree, points: np.ndarray) -> Tree:
    """Points [n, 2] a little above a surface, which is bilinear between its own points."""
    x, y, z = (np.array(surface[name], dtype=float) for name in ("x", "y", "z"))
    rows = np.array([np.interp(points[:, 0], x, row) for row in z])  # [Y, n]
    height = [np.interp(v, y, column) + LIFT for v, column in zip(points[:, 1], rows.T, strict=True)]
    return {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "z": np.array(height).tolist()}


def _surface(part: Tree, scale: Scale) -> Tree:
    losses = _losses(part["losses"])
    return {"x": part["x"], "y": part["y"], "loss": losses.tolist(), "z": scale.height(losses).tolist()}


def _losses(values: object) -> np.ndarray:
    """Numbers as they came out of JSON, where null stands for what is not finite."""
    return np.array(values, dtype=float)


def _ticks(scale: Scale) -> Tree:
    values, texts = scale.ticks()
    return {"values": scale.height(values).tolist(), "texts": texts}
