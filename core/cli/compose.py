"""Composed YAML trees: from Hydra's containers to plain ones."""

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.config import ConfigError, Tree

LAUNCHER_ONLY = ("hydra", "resume")  # what only the launcher reads


def plain(tree: DictConfig) -> Tree:
    """A composed tree as plain containers, interpolations resolved, without what only the launcher reads.

    Raises:
        ConfigError: an interpolation does not resolve, or a mandatory value is missing.
    """
    try:
        container = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items() if key not in LAUNCHER_ONLY}
