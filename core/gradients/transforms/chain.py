"""Several transforms as one choice of the configuration."""

from dataclasses import dataclass

from core.checks import require
from core.gradients.transforms.guard import SkipNonFinite
from core.gradients.transforms.protocol import Combine, Transform


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Transforms that are applied one after the other, each with a state of its own.

    It only holds the transforms; `as_transforms` returns them for a `GradientStep`.

    Attributes:
        transforms: in order; at least one. A `Combine` (PCGrad), of which there may be one, acts before all
            others wherever it stands. `SkipNonFinite` stands first.
    """

    transforms: tuple["Clipper", ...]

    def __post_init__(self) -> None:
        links = as_transforms(self)
        names = [type(link).__name__ for link in links]
        ok = len(links) > 0 and all(isinstance(link, Combine) or callable(link) for link in links)
        require(ok, "transforms", names, "a list of at least one transform")
        combiners = sum(isinstance(link, Combine) for link in links)
        require(combiners <= 1, "transforms", names, "a list with at most one that combines losses")
        in_place = [link for link in links if not isinstance(link, Combine)]
        late = any(isinstance(link, SkipNonFinite) for link in in_place[1:])
        require(not late, "transforms", names, "a list with SkipNonFinite first")


Clipper = Transform | Combine | Chain


def as_transforms(clipper: Clipper | None) -> list[Transform | Combine]:
    """The list that `GradientStep` takes: the links of a chain, a single transform, or none."""
    return [*by_option(clipper).values()]


def by_option(clipper: Clipper | None, option: str = "clipper") -> dict[str, Transform | Combine]:
    """The same, by the name of the option that says which transform it is."""
    if clipper is None:
        return {}
    if not isinstance(clipper, Chain):
        return {option: clipper}
    found: dict[str, Transform | Combine] = {}
    for place, link in enumerate(clipper.transforms):
        found |= by_option(link, f"{option}.transforms.{place}")
    return found
