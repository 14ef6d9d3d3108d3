"""Reading YAML of options."""

from pathlib import Path

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.run.yaml_text import safe_text


def read_yaml(path: Path) -> DictConfig | ListConfig:
    """The content of a YAML file, interpolations as they are written.

    Raises:
        ValueError: it cannot be read or is none, in one line.
    """
    safe_text(path)
    try:
        return OmegaConf.load(path)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
