"""Begin with the weights of another agent: `init_from=DIR`."""

from collections.abc import Mapping

from torch import nn

from core.config import ConfigError
from core.run import checkpoint as checkpoints
from core.run.initial import read_initial, take_over
from core.run.saved import Saved
from core.state import Stateful
from gradrl.envs.make import EnvInfo
from gradrl.policy import TRAINED, interface_of

MOMENTS = ("count", "mean", "variance")


def read_agent(init_from: str, info: EnvInfo, normalize: bool | None) -> Saved:
    """The run of another agent, of an environment with the same spaces.

    Args:
        init_from: its directory or one of its checkpoints.
        info: the spaces of the new environment.
        normalize: `normalize_observation` of the new run, which has to be that run's; None = it need not.

    Raises:
        ConfigError: there is none, it is damaged, or what it saw differs.
    """
    saved = read_initial(
        "init_from", init_from, TRAINED, interface_of(info.observation_space, info.action_space)
    )
    before = bool(saved.options.get("normalize_observation"))
    if normalize is not None and before != normalize:
        raise ConfigError(
            f"init_from={init_from}: it was trained with normalize_observation={str(before).lower()}; "
            "give the same, or init_statistics=false"
        )
    return saved


def take_weights(model: nn.Module, saved: Saved) -> None:
    """Load the networks; raises ConfigError where they differ, layer by layer."""
    take_over({"policy": model}, saved, statistics=True)


def take_statistics(owners: Mapping[str, Stateful | None], saved: Saved) -> None:
    """Load the running moments of normalisers by their name in a checkpoint, where that run had them.

    Raises:
        ConfigError: they are of other observations.
    """
    for name, owner in owners.items():
        theirs = saved.state.get(name)
        if owner is not None and isinstance(theirs, dict):
            moments = {key: theirs[key] for key in MOMENTS if key in theirs}
            checkpoints.restore(owner, {name: {**owner.state_dict(), **moments}}, name, saved.path)
