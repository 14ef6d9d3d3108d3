"""Ranks that train one network must hold the same one."""

from collections.abc import Iterator
from dataclasses import dataclass

from core.diagnosis.causes import LITTLE_LEARNT
from core.diagnosis.context import Context
from core.diagnosis.findings import Sign
from core.diagnosis.signals import History


@dataclass(frozen=True, kw_only=True)
class RanksDiffer:
    """Parameters that are not the same to the bit on all ranks: each rank trains another network."""

    def __call__(self, history: History, context: Context) -> Iterator[Sign]:
        """One sign, at once."""
        differing = history.now("ranks/differing_tensors")
        if differing:
            tensors = f"{differing:.0f} parameter tensor{'s' * (differing > 1)}"
            yield Sign(
                name="ranks_differ",
                severity="error",
                explains=LITTLE_LEARNT,
                evidence={"differing_tensors": differing},
                what=f"The ranks differ in {tensors}.",
                cause="One has changed them by itself, as a part of your own may, or a machine is faulty.",
                patience=1,
            )
