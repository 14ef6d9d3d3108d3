"""Which pictures there are of descents, and which can be drawn of these."""

from collections.abc import Callable, Mapping, Sequence

from core.descend.basins import Starts
from core.descend.function_descent import Walker
from core.descend.objective_descent import Learner
from core.descend.pictures.arrows import draw_arrows
from core.descend.pictures.basins import draw_basins
from core.descend.pictures.curves import draw_curves, draw_training
from core.descend.pictures.maps import draw_paths
from core.descend.pictures.relief import draw_film, draw_surface
from core.draw.media import Media

PICTURES = ("path", "surface", "curves", "film", "basins", "arrows")


def draw(
    wanted: Sequence[str],
    walks: Mapping[str, Walker | Learner],
    starts: Callable[[], dict[str, Starts]] | None,
) -> dict[str, Media]:
    """Draw what was asked for and can be drawn.

    Maps, reliefs, films, basins and arrows need two variables; a basin also an optimizer that treats every
    number alone, and the arrows samples.

    Args:
        wanted: names out of PICTURES.
        walks: of one function, or one objective; by name.
        starts: makes the descents from a grid of starts, on a function.
    """
    walks = {name: walk for name, walk in walks.items() if walk.trace(name).ended != "diverged"}
    if not walks:
        return {}
    traces = [walk.trace(name) for name, walk in walks.items()]
    first = next(iter(walks.values()))
    around = first.surroundings()
    found: dict[str, Media] = {}
    if "curves" in wanted and traces[0].steps[-1]:
        lowest = first.lowest if isinstance(first, Walker) else None
        found["curves"] = draw_training(traces) if traces[0].more else draw_curves(traces, lowest)
    if around is None:
        return _named(found)
    if "path" in wanted:
        found["path"] = draw_paths(around, traces)
    if "surface" in wanted:
        found["surface"] = draw_surface(around, traces)
    if "film" in wanted and traces[0].steps[-1]:
        found["film"] = draw_film(around, traces)
    if "basins" in wanted and starts is not None and traces[0].steps[-1]:
        descended = starts()
        ends = {name: start.ends for name, start in descended.items() if start.ends is not None}
        if ends:
            why = [f"none of {name}: {start.reason}" for name, start in descended.items() if start.reason]
            found["basins"] = draw_basins(around, ends, "; ".join(why))
    learners = {name: walk for name, walk in walks.items() if isinstance(walk, Learner)}
    if "arrows" in wanted and learners:
        found["arrows"] = draw_arrows(around, learners, traces)
    return _named(found)


def _named(found: Mapping[str, Media]) -> dict[str, Media]:
    return {f"descent/{name}": media for name, media in found.items()}
