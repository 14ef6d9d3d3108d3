"""Units that are all the same: rows of a weight that do not differ."""

from collections.abc import Iterable

import torch
from torch import Tensor

DIFFER = 1e-4  # relative to a row's length: what rounding makes of equal units stays below it


@torch.no_grad()
def equal_units(names: Iterable[str], parameters: Iterable[Tensor]) -> dict[str, float]:
    """layer/<name>/equal_units: 1 for each weight whose rows are all the same; the others are left out.

    Args:
        names: of the parameters.
        parameters: of weights [units, ...], two rows of two numbers or more; others are passed over.
    """
    found = {}
    for name, parameter in zip(names, parameters, strict=True):
        if parameter.dim() < 2 or len(parameter) < 2 or parameter[0].numel() < 2:
            continue
        if _same(parameter[:2]) and _same(parameter):
            found[f"layer/{name}/equal_units"] = 1.0
    return found


def _same(rows: Tensor) -> bool:
    flat = rows.detach().flatten(1)
    return bool(((flat - flat[:1]).norm(dim=1) <= DIFFER * flat[0].norm()).all())
