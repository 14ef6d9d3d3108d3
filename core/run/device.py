"""Which device a run uses, and how many threads."""

import torch

from core.config import ConfigError


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
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    if (device.index or 0) >= count:
        found = f"{count or 'no'} {device.type} device{'s' * (count > 1)}"
        raise ConfigError(f"device={name} is not available: this machine has {found}")
    return device


def set_num_threads(num_threads: int | None) -> None:
    """Threads inside one torch operation on the CPU; None leaves torch's own choice."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
