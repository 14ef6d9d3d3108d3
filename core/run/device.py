"""Which device a run uses, and how many threads."""

import torch

from core.config import ConfigError
from core.errors import as_shortage
from core.text import shown


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigError: it is not on this machine, or no device at all.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name)
        count = here[device.type]
    except (RuntimeError, KeyError) as error:
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {shown(name)}") from error
    if (device.index or 0) >= count:
        found = f"{count or 'no'} {device.type} device{'s' * (count > 1)}"
        raise ConfigError(f"device={name} is not available: this machine has {found}")
    return device


def set_num_threads(num_threads: int | None) -> None:
    """Threads inside one torch operation on the CPU; None leaves torch's own choice."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)


def require_memory(option: str, value: int, num_bytes: int) -> None:
    """Refuse an option for which the system would not give memory: it is asked, and nothing is touched.

    Args:
        option: as it is typed.
        value: of it.
        num_bytes: of the largest tensor that it makes.

    Raises:
        ConfigError: there is not that much.
    """
    try:
        torch.empty(num_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        if as_shortage(error) is None:
            raise
        size = f"{num_bytes / 2**30:,.0f} GiB"
        raise ConfigError(
            f"{option} must be smaller, got {value}: {size} are more than this machine has"
        ) from error
