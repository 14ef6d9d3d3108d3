"""The options of a run before any value was typed: those of the chosen files and of its experiment.

A remedy looks here first: where somebody typed a learning rate in place of a tuned one, that is the cure.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.cli.choices import CLASS
from core.cli.classes import leave_defaults, typed_classes
from core.cli.compose import compose_defaults
from core.cli.overrides import parse
from core.cli.saved import saved_overrides
from core.cli.yaml_file import read_yaml
from core.config import flat


def defaults(directory: Path) -> dict[str, object]:
    """The options by dotted name, from what Hydra noted in a run directory.

    Empty where it noted nothing, or where its YAML files are gone: then there is nothing to look up. Of a
    part whose class was typed there is the usual class alone: what was tuned for it says nothing of another.
    """
    try:
        noted = read_yaml(directory / ".hydra" / "hydra.yaml")
        sources = OmegaConf.select(noted, "hydra.runtime.config_sources") or ()
        folders = [Path(source.path) for source in sources if source.schema == "file"]
        name = str(OmegaConf.select(noted, "hydra.job.config_name"))
        if not folders or not (folders[0] / f"{name}.yaml").is_file():
            return {}
        overrides = saved_overrides(directory)
        tree = compose_defaults(name, overrides, folders)
        found = flat(_container(tree), empty=True)
        others = leave_defaults(tree, typed_classes([parse(each) for each in overrides]))
        below = tuple(f"{path}." for path in others)
        kept = [option for option in found if option.endswith(f".{CLASS}") or not option.startswith(below)]
        return {option: found[option] for option in kept}
    except (OSError, ValueError, OmegaConfBaseException):  # a ConfigError, too
        return {}


def _container(composed: DictConfig) -> dict[str, object]:
    """Plain containers; a part that cannot be resolved without what was typed is left out."""
    found: dict[str, object] = {}
    for key in composed:
        if key == "hydra" or OmegaConf.is_missing(composed, key):
            continue
        node = composed[key]
        if OmegaConf.is_config(node):
            node = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
        found[str(key)] = node
    return found
