"""A copy of a module that moves towards it: what averages and target networks have in common.

Tensors are looked up at every move. A module that is cast or moved to another device, or that assigns a
buffer anew, has other tensors than when the copy was made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from core.gradients.norms import global_norm
from core.state import StateDict, copied

Owner = Mapping[str, Tensor | None]
Place = tuple[Owner, Owner, str]  # of the copy, of the source, name


class Follower:
    """Moves a copy towards its source; tied tensors once.

        copy <- copy + weight (source - copy)

    Parameters move, and running statistics where asked, as they belong to the weights that they were taken
    with. Other buffers are copied: their mean need not mean anything (counters). The vectors of torch's
    spectral normalisation follow the copy's own weights, by power iteration. In half precision a small weight
    would move nothing: what rounding leaves over is kept in float32.

    Args:
        copy: a module of the source's structure.
        source: what it follows.
        running_statistics: whether buffers named running_* move as parameters do.

    Raises:
        ValueError: the two have different structures.
    """

    def __init__(self, copy: nn.Module, source: nn.Module, *, running_statistics: bool) -> None:
        modules = list(zip(copy.modules(), source.modules(), strict=True))
        self._parameters = list(_places([(a._parameters, b._parameters) for a, b in modules]))
        self._buffers = list(_places([(a._buffers, b._buffers) for a, b in modules]))
        self._spectral = [norm for part in copy.modules() for norm in _spectral_norms(part)]
        iterated = [(norm.buffers, name) for norm in self._spectral for name in norm.vectors]
        self._copied = [
            place
            for place in self._buffers
            if not (running_statistics and place[2].startswith("running_"))
            and not any(place[0] is buffers and place[2] == name for buffers, name in iterated)
        ]
        running = [place for place in self._buffers if running_statistics and place[2].startswith("running_")]
        self._moved = [*self._parameters, *running]
        self._left_over: dict[int, Tensor] = {}  # of tensors in half precision, by their position

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """All floating-point tensors as they now are: of the copy, of the source."""
        places = [*self._parameters, *self._buffers]
        return [(a, b) for a, b in _tensors(places) if a.is_floating_point()]

    @torch.no_grad()
    def move(self, weight: float) -> None:
        """Move by `weight`, in (0, 1]."""
        wide: list[Tensor] = []
        followed: list[Tensor] = []
        half: list[tuple[int, Tensor, Tensor]] = []
        for i, (mine, other) in enumerate(_tensors(self._moved)):
            if not mine.is_floating_point():
                mine.copy_(other)
                continue
            own = mine
            if torch.finfo(mine.dtype).bits < 32:
                own = mine.float()
                if i in self._left_over:
                    own += self._left_over[i].to(own.device)
                half.append((i, mine, own))
            wide.append(own)
            followed.append(other.to(own))
        torch._foreach_lerp_(wide, followed, weight)
        for i, mine, own in half:
            mine.copy_(own)
            self._left_over[i] = own - mine
        for mine, other in _tensors(self._copied):
            mine.copy_(other)
        for norm in self._spectral:
            norm.iterate()

    def distance(self) -> float:
        """|copy - source| / |source| of floating-point tensors, NaN where that is 0; synchronises."""
        pairs = self.pairs()
        apart = global_norm([a - b.to(a) for a, b in pairs])
        return (apart / global_norm([b for _, b in pairs])).item()

    def state_dict(self) -> StateDict:
        """What rounding has left over; nothing where no tensor is in half precision."""
        return {"left_over": copied(self._left_over)} if self._left_over else {}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from `state_dict`."""
        self._left_over = copied(state.get("left_over", {}))


class _Spectral(NamedTuple):
    """A spectral normalisation: where its vectors stand, and what takes a power iteration."""

    buffers: Owner
    vectors: tuple[str, str]
    iterate: Callable[[], object]


def _spectral_norms(module: nn.Module) -> Iterator[_Spectral]:
    """Those of this module itself, by parametrisation or by the older hook."""
    if isinstance(module, ParametrizationList):
        for norm in module:
            if isinstance(norm, _SpectralNorm):
                yield _Spectral(norm._buffers, ("_u", "_v"), lambda norm=norm: _in_training(module, norm))
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm):
            names = f"{hook.name}_u", f"{hook.name}_v"
            yield _Spectral(
                module._buffers, names, lambda hook=hook: hook.compute_weight(module, do_power_iteration=True)
            )


def _in_training(weight: ParametrizationList, norm: _SpectralNorm) -> None:
    """Compute a weight with a normalisation in training mode, which takes its power iterations then."""
    training, norm.training = norm.training, True
    try:
        weight()
    finally:
        norm.training = training


def _places(owners: Iterable[tuple[Owner, Owner]]) -> Iterator[Place]:
    """Where every tensor stands, those that are shared once."""
    seen: set[int] = set()
    for mine, other in owners:
        if mine.keys() != other.keys():
            raise ValueError(f"a copy of another structure: it has {sorted(mine)} where {sorted(other)} are")
        for name, tensor in mine.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield mine, other, name


def _tensors(places: list[Place]) -> Iterator[tuple[Tensor, Tensor]]:
    for mine, other, name in places:
        a, b = mine[name], other[name]
        if a is not None and b is not None:
            yield a, b
