"""Which pictures there are of descents, and which can be drawn of these."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from core.descend.function_descent import FunctionDescent
from core.descend.objective_descent import ObjectiveDescent
from core.descend.pictures.arrows import draw_arrows
from core.descend.pictures.basin_map import draw_basins
from core.descend.pictures.curves import draw_curves, draw_training
from core.descend.pictures.maps import draw_paths
from core.descend.pictures.relief import draw_surface, draw_video
from core.draw.media import Media

PICTURES = ("path", "surface", "curves", "video", "basins", "arrows")


def draw(
    wanted: Sequence[str],
    descents: Mapping[str, FunctionDescent | ObjectiveDescent],
    starts: Callable[[], dict[str, Tensor | str]] | None,
) -> dict[str, Media]:
    """Draw what was asked for and can be drawn.

    Maps, surfaces, videos, basins and arrows need two variables; a basin also an optimizer that treats every
    number alone, and the arrows samples.

    Args:
        wanted: names out of PICTURES.
        descents: of one function, or one objective; by name.
        starts: makes the descents from a grid of starts, on a function: their ends, or why there are none.
    """
    trajectories = [descent.trajectory(name) for name, descent in descents.items()]
    trajectories = [trajectory for trajectory in trajectories if trajectory.ended != "diverged"]
    if not trajectories:
        return {}
    descents = {trajectory.name: descents[trajectory.name] for trajectory in trajectories}
    first = next(iter(descents.values()))
    plane = first.plane_function()
    found: dict[str, Media] = {}
    if "curves" in wanted and trajectories[0].steps[-1]:
        lowest = first.lowest if isinstance(first, FunctionDescent) else None
        found["curves"] = (
            draw_training(trajectories) if trajectories[0].more else draw_curves(trajectories, lowest)
        )
    if plane is None:
        return _named(found)
    if "path" in wanted:
        found["path"] = draw_paths(plane, trajectories)
    if "surface" in wanted:
        found["surface"] = draw_surface(plane, trajectories)
    if "video" in wanted and trajectories[0].steps[-1]:
        found["video"] = draw_video(plane, trajectories)
    if "basins" in wanted and starts is not None and trajectories[0].steps[-1]:
        descended = starts()
        ends = {name: end for name, end in descended.items() if isinstance(end, Tensor)}
        if ends:
            why = [f"none of {name}: {end}" for name, end in descended.items() if isinstance(end, str)]
            found["basins"] = draw_basins(plane, ends, "; ".join(why))
    trained = {name: descent for name, descent in descents.items() if isinstance(descent, ObjectiveDescent)}
    if "arrows" in wanted and trained:
        found["arrows"] = draw_arrows(plane, trained, trajectories)
    return _named(found)


def _named(found: Mapping[str, Media]) -> dict[str, Media]:
    return {f"descent/{name}": media for name, media in found.items()}
