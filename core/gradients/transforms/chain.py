"""Several transforms as one choice of the configuration."""

from dataclasses import dataclass

from core.checks import require
from core.gradients.transforms.guard import SkipNonFinite
from core.gradients.transforms.protocol import Combine, Transform


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Transforms that are applied one after the other, each with a state of its own.

    It only holds them: `as_transforms` takes them out for a `GradientStep`.

    Attributes:
        transforms: in order; at least one. A `Combine` (PCGrad), of which there may be one, acts before all
            others wherever it stands. `SkipNonFinite` stands first.
    """

    transforms: tuple["Clipper", ...]

    def __post_init__(self) -> None:
        links = as_transforms(self)
        words = [type(link).__name__ for link in links]
        ok = len(links) > 0 and all(isinstance(link, Combine) or callable(link) for link in links)
        require(ok, "transforms", words, "a list of at least one transform")
        combiners = sum(isinstance(link, Combine) for link in links)
        require(combiners <= 1, "transforms", words, "a list with at most one that combines losses")
        in_place = [link for link in links if not isinstance(link, Combine)]
        late = any(isinstance(link, SkipNonFinite) for link in in_place[1:])
        require(not late, "transforms", words, "a list with SkipNonFinite first")


Clipper = Transform | Combine | Chain


def as_transforms(clipper: Clipper | None) -> list[Transform | Combine]:
    """What `GradientStep` takes: a chain's links, one transform alone, or none."""
    if clipper is None:
        return []
    if isinstance(clipper, Chain):
        return [transform for link in clipper.transforms for transform in as_transforms(link)]
    return [clipper]
