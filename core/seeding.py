"""Named random generators: every draw of a run comes from one of these, and all of them are saved."""

import hashlib

import numpy as np
import torch

from core.form import Each, Many, OneOf, Rows
from core.state import StateDict


def seed_for(seed: int, *names: str | int) -> int:
    """A seed of its own for every purpose, the same in every process and on every platform.

    Args:
        seed: the run's seed.
        names: what it is for, for example ("evaluation", 3).

    Returns:
        63 bits of SHA-256 over seed and names: other names give unrelated streams.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Generators:
    """Generators by name, made when first asked for.

    Args:
        seed: the run's seed.
        device: where the torch generators draw.
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._torch: dict[str, torch.Generator] = {}
        self._numpy: dict[str, np.random.Generator] = {}

    def torch(self, name: str) -> torch.Generator:
        """The torch generator of that name."""
        if name not in self._torch:
            self._torch[name] = torch.Generator(self.device).manual_seed(seed_for(self.seed, name))
        return self._torch[name]

    def numpy(self, name: str) -> np.random.Generator:
        """The NumPy generator of that name."""
        if name not in self._numpy:
            self._numpy[name] = np.random.Generator(np.random.PCG64(seed_for(self.seed, name)))
        return self._numpy[name]

    def restart(self, *names: str | int) -> None:
        """Begin every stream made so far anew; other names give unrelated ones."""
        for name, generator in self._torch.items():
            generator.manual_seed(seed_for(self.seed, name, *names))
        for name, generator in self._numpy.items():
            generator.bit_generator.state = np.random.PCG64(seed_for(self.seed, name, *names)).state

    def state_dict(self) -> StateDict:
        """States of all generators made so far."""
        return {
            "torch": {name: g.get_state() for name, g in self._torch.items()},
            "numpy": {name: g.bit_generator.state for name, g in self._numpy.items()},
        }

    def state_form(self) -> StateDict:
        """States of generators of any names."""
        numpy = dict(np.random.PCG64(0).state) | {"bit_generator": OneOf(("PCG64",))}
        return {"torch": Each(torch.Generator(self.device).get_state()), "numpy": Each(numpy)}

    def load_state_dict(self, state: StateDict) -> None:
        """Continue every saved stream where it stood."""
        for name, saved in state["torch"].items():
            self.torch(name).set_state(saved.cpu())
        for name, saved in state["numpy"].items():
            self.numpy(name).bit_generator.state = saved


def seed_globally(seed: int, *names: str | int) -> None:
    """Seed torch's global generators: ours are named, but torch's layers initialise from the global one."""
    torch.manual_seed(seed_for(seed, "global", *names))


# The form of `global_state`: another machine may have more devices, or none, and other generators on them.
BYTES = torch.empty(1, dtype=torch.uint8)
GLOBAL_STATE: StateDict = {"cpu": torch.Generator().get_state(), "cuda": Many(Rows(BYTES))}


def global_state() -> StateDict:
    """States of torch's own global generators (dropout and third-party code draw from them)."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_global_state(state: StateDict) -> None:
    """Restore `global_state`; devices that are gone are left alone."""
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
