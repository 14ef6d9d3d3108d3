"""Checkpoints with odd entries and flipped bits: `python -m tests.fuzz.checkpoints`."""

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from core.cli.launch import status_of
from core.config import ConfigError
from core.run import checkpoint
from core.state import copied
from tests.fuzz.runs import LENGTH, TINY, forked, make, wrong

REMOVED = object()
FLIPS = 600


def odd(value: Any) -> list[Any]:
    """What may stand in an entry's place."""
    values: list[Any] = [None, "odd", [], {}, REMOVED, -3, float("nan")]
    if isinstance(value, torch.Tensor):
        values += [
            value.new_zeros(7, 3),
            value.to(torch.float64 if value.dtype != torch.float64 else torch.int32),
        ]
        values += [value.to(torch.complex64)]
    return values


def places(state: Any, place: tuple = ()) -> Iterator[tuple]:
    """Every entry, by the keys that lead to it."""
    inside = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for key, value in inside:
        yield (*place, key)
        yield from places(value, (*place, key))


def replaced(state: Any, place: tuple, value: Any) -> Any:
    """The state with another entry at a place."""
    state = copied(state)
    owner = state
    for key in place[:-1]:
        owner = owner[key]
    if value is REMOVED:
        del owner[place[-1]]
    else:
        owner[place[-1]] = value
    return state


def trials(seed: int, count: int | None = None) -> Iterator[tuple[str, str | None, int | None]]:
    """What was done, what went wrong (None = nothing), and the status, of `count` trials of each kind."""
    chosen = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for kind in TINY:
            run = make(kind, Path(name))
            path = run / "checkpoints" / "last.pt"
            yield from flips(path, chosen, count or FLIPS)
            state = checkpoint.load(path)
            cases = [(p, v) for p in places(state) if p != ("format",) for v in odd(_at(state, p))]
            for place, value in chosen.sample(cases, min(count or len(cases), len(cases))):
                copy = Path(name) / "damaged"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(run, copy)
                checkpoint.save(copy / "checkpoints" / "last.pt", replaced(state, place, value))
                words = [f"resume={copy}", LENGTH[kind], "logging.progress=false"]
                ended = forked(lambda words=words, kind=kind: status_of(kind, words), Path(name) / "log")
                reason = wrong(ended) or (ended[1][-200:] if ended[0] not in (0, 2) else None)
                yield f"{kind} {'.'.join(map(str, place))} = {value!r:.30}", reason, ended[0]


def flips(path: Path, chosen: random.Random, count: int) -> Iterator[tuple[str, str | None, int | None]]:
    """Single bits of a file: noticed, or every value as it was."""
    whole, before = path.read_bytes(), checkpoint.load(path)
    unsealed = path.with_name("unsealed.pt")
    torch.save(before, unsealed)
    for original, data in ((path, whole), (unsealed, unsealed.read_bytes())):
        damaged = path.with_name("damaged.pt")
        for _ in range(count // 2):
            at, bit = chosen.randrange(len(data)), chosen.randrange(8)
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            damaged.write_bytes(changed)
            reason = None
            try:
                reason = None if same(checkpoint.load(damaged), before) else "unnoticed"
            except ConfigError:
                pass
            except Exception as error:
                reason = f"traceback: {error!r}"
            yield f"{original.name}: bit {bit} of byte {at:,}", reason, None
        damaged.unlink(missing_ok=True)  # of no trials
    unsealed.unlink()


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape) and _bits(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    one, other = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b))
    return torch.equal(one, other)


def _at(state: Any, place: tuple) -> Any:
    for key in place:
        state = state[key]
    return state


def report(found: Iterator[tuple[str, str | None, int | None]]) -> int:
    """Print what went wrong, and how many trials there were; 1 where one did."""
    number = bad = refused = 0
    for what, reason, status in found:
        number += 1
        refused += status == 2
        if reason:
            bad += 1
            print(f"{what}: {reason}", flush=True)
    print(f"{number:,} trials, {refused:,} refused with status 2, {bad:,} wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(report(trials(0, int(sys.argv[1]) if sys.argv[1:] else None)))
