"""Which pictures there are of descents, and which can be drawn of these."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from core.descend.function_descent import FunctionDescent
from core.descend.objective_descent import ObjectiveDescent
from core.descend.pictures.arrows import draw_arrows
from core.descend.pictures.basin_map import draw_basins
from core.descend.pictures.boundary import draw_boundary, draw_boundary_video
from core.descend.pictures.curves import draw_curves, draw_training
from core.descend.pictures.maps import draw_paths
from core.descend.pictures.relief import draw_surface, draw_video
from core.draw.media import Media

PICTURES = ("path", "surface", "curves", "video", "basins", "arrows", "boundary")


def undrawn(descent: FunctionDescent | ObjectiveDescent, steps: int) -> dict[str, str]:
    """Pictures that there are none of, of this descent after so many steps, and why."""
    function = isinstance(descent, FunctionDescent)
    plane = "maps are of two variables" if descent.plane_function() is None else ""
    none = "a function has no samples" if function else ""
    plot = None if isinstance(descent, FunctionDescent) else descent.plot
    moved = "" if steps else "there are no steps"
    reasons = {
        "path": plane,
        "surface": plane,
        "curves": moved,
        "video": plane or moved,
        "basins": plane or moved or ("" if function else "basins are of functions"),
        "arrows": plane or none,
        "boundary": none or ("the samples are not of two numbers and two classes" if plot is None else ""),
    }
    return {name: reason for name, reason in reasons.items() if reason}


def draw(
    wanted: Sequence[str],
    descents: Mapping[str, FunctionDescent | ObjectiveDescent],
    starts: Callable[[], dict[str, Tensor | str]] | None,
) -> dict[str, Media]:
    """Draw what was asked for and can be drawn.

    See `undrawn`; a basin also needs an optimizer that treats every number alone.

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
    wanted = [name for name in wanted if name not in undrawn(first, trajectories[0].steps[-1])]
    found: dict[str, Media] = {}
    if "curves" in wanted:
        lowest = first.lowest if isinstance(first, FunctionDescent) else None
        found["curves"] = (
            draw_training(trajectories) if trajectories[0].more else draw_curves(trajectories, lowest)
        )
    trained = {name: descent for name, descent in descents.items() if isinstance(descent, ObjectiveDescent)}
    if "boundary" in wanted:
        found["boundary"] = draw_boundary(trained)
        if trajectories[0].steps[-1]:
            found["boundary_video"] = draw_boundary_video(trained)
    if plane is None:
        return _named(found)
    if "path" in wanted:
        found["path"] = draw_paths(plane, trajectories)
    if "surface" in wanted:
        found["surface"] = draw_surface(plane, trajectories)
    if "video" in wanted:
        found["video"] = draw_video(plane, trajectories)
    if "basins" in wanted and starts is not None:
        descended = starts()
        ends = {name: end for name, end in descended.items() if isinstance(end, Tensor)}
        if ends:
            why = [f"none of {name}: {end}" for name, end in descended.items() if isinstance(end, str)]
            found["basins"] = draw_basins(plane, ends, "; ".join(why))
    if "arrows" in wanted:
        found["arrows"] = draw_arrows(plane, trained, trajectories)
    return _named(found)


def _named(found: Mapping[str, Media]) -> dict[str, Media]:
    return {f"descent/{name}": media for name, media in found.items()}
