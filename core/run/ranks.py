"""Several ranks under torchrun: how a process becomes one of them, what they agree on, and how they end.

All ranks take every step together (`core.gradients.ranks`). The first one alone writes, draws and speaks;
the others wait for it. A rank that is killed closes its connections, so the others learn it at their next
meeting.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed import PrefixStore
from torch.distributed.rendezvous import rendezvous

from core.config import ConfigError
from core.errors import RankLostError
from core.form import Many
from core.gradients import GradientStep
from core.gradients.ranks import alone, gathered, meeting, num_ranks, patient_group, this_rank, wait_in
from core.seeding import GLOBAL_STATE, global_state, seed_for, set_global_state
from core.state import StateDict

Found = TypeVar("Found")

PATIENCE = timedelta(seconds=60)  # for a rank in the middle of a step
WAITING = timedelta(hours=6)  # for the first rank, while it draws; a rank that dies is noticed at once
STARTING = timedelta(minutes=5)  # for all ranks to be there
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # as torchrun sets them

_store: list[Any] = []  # of the ranks of this process, through which even a dying one can speak


@contextmanager
def distributed() -> Iterator[None]:
    """Within it this process is the rank that torchrun has started it as, if it has.

    Tensors of a CPU meet through gloo, those of a GPU through NCCL; each rank has the GPU of its LOCAL_RANK.
    An exception within ends the process at once: the others may wait in a meeting that it will not reach.

    Raises:
        ConfigError: whoever started the ranks has not said which one this is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is > 1, but not {', '.join(missing)}: start several ranks with torchrun"
        )
    served, rank, size = next(rendezvous("env://", timeout=STARTING))
    # torchrun keeps one store over its restarts, with the addresses of ranks that are dead.
    store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", served)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    with meeting():
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=PATIENCE
        )
        patient: Any = torch.distributed.new_group(backend="gloo", timeout=WAITING)
    _store.append(store)
    try:
        with wait_in(patient), _quiet(rank > 0):
            yield
            meet()
    except BaseException as error:
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
    torch.distributed.destroy_process_group()
    _store.clear()


def is_first() -> bool:
    """Whether this process writes and speaks: the only one, or the first of several ranks."""
    return this_rank() == 0


def by_first(work: Callable[[], Found]) -> Callable[[], Found | None]:
    """The same work, which the first rank then does alone; the others get None, and do not wait."""

    def of_one() -> Found | None:
        if not is_first():
            return None
        with alone():
            return work()

    return of_one


def meet() -> None:
    """Wait for all ranks; those that have died are not waited for."""
    with suppress(RankLostError):
        agree(0)


def agree(*numbers: int) -> tuple[int, ...]:
    """The largest that any rank says of each number, which every rank then knows."""
    if num_ranks() == 1:
        return numbers
    said = torch.tensor(numbers, dtype=torch.int64)
    with meeting():
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX, group=patient_group())
    return tuple(said.tolist())


def told(value: Any) -> Any:
    """What the first rank says."""
    return value if num_ranks() == 1 else gathered(value if is_first() else None, patient_group())[0]


def begin_alike(modules: Iterable[nn.Module], seed: int) -> None:
    """The parameters and buffers of the first rank become those of all; what torch draws differs from now."""
    if num_ranks() > 1:
        if not is_first():
            torch.manual_seed(seed_for(seed, "global", this_rank()))
        with torch.no_grad(), meeting():
            for module in modules:
                for tensor in (*module.parameters(), *module.buffers()):
                    torch.distributed.broadcast(tensor.detach(), 0)


def differing_tensors(steps: Sequence[GradientStep]) -> dict[str, float]:
    """How many parameter tensors are not the same to the bit on all ranks; nothing without several."""
    if num_ranks() == 1:
        return {}
    sums = torch.stack([_checksum(p) for step in steps for p in step.parameters]).cpu()
    spread = torch.cat([sums, -sums])
    with meeting():
        torch.distributed.all_reduce(spread, torch.distributed.ReduceOp.MAX, group=patient_group())
    largest, smallest = spread.chunk(2)
    return {"ranks/differing_tensors": float((largest != -smallest).sum())}


def _checksum(parameter: Tensor) -> Tensor:
    """The sum of all elements' bits, int64."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = parameter.detach().contiguous().view(kinds[parameter.element_size()])
    return bits.sum(dtype=torch.int64)


class RankStates:
    """What each rank has of its own in a checkpoint of several: the states of torch's global generators."""

    def state_dict(self) -> StateDict:
        """Of all ranks, in their order."""
        return {"generators": gathered(global_state())}

    def state_form(self) -> StateDict:
        """One for each rank of whoever saved them."""
        return {"generators": Many(GLOBAL_STATE)}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue this rank's, if there were as many ranks."""
        if len(state["generators"]) == num_ranks():
            set_global_state(state["generators"][this_rank()])


def once(line: str, *, lost: bool = False) -> bool:
    """Whether this rank is the first to say a line that several may have to say.

    That another rank is `lost` is said only where nothing has been said yet, as by the one that has failed.
    """
    said, before = _counted(f"said {line}"), _counted("said")
    return said == 1 and not (lost and before > 1)


def _counted(what: str) -> int:
    """How often ranks have come here; 1 where nobody can be asked any more."""
    if not _store:
        return 1
    try:
        _store[0].set_timeout(timedelta(seconds=5))
        return _store[0].add(what, 1)
    except Exception:  # whatever the store raises: its host may be gone
        return 1


@contextmanager
def _quiet(silent: bool) -> Iterator[None]:
    """Of a rank that is not the first, nothing is printed; an error still is."""
    if not silent:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
