"""What using a trained network needs of its run's directory: options, interface, checkpoint; without Hydra.

The interface says what goes into the network and what comes out, so that neither an environment nor a data
set is needed to build it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from core.config import ConfigError, Tree, build
from core.diagnosis.findings import FILE as FINDINGS
from core.run import checkpoint as checkpoints
from core.run.device import resolve_device
from core.run.directory import is_run
from core.run.files import read_json, write_text
from core.run.yaml_text import safe_text
from core.state import StateDict
from core.text import shown

INTERFACE = "interface.json"


@dataclass(frozen=True)
class Saved:
    """A checkpoint, and what the network that it belongs to is made from.

    Attributes:
        directory: of the run.
        path: of the checkpoint.
        options: those of the run, plain containers.
        interface: what its trainer has noted with `write_interface`.
        state: of the checkpoint, on the device.
        device: that was asked for.
    """

    directory: Path
    path: Path
    options: Tree
    interface: Mapping[str, Any]
    state: StateDict
    device: torch.device

    def part(self, name: str) -> object:
        """One part of the options, built.

        Raises:
            ConfigError: there is none of this name, or it is damaged; names the file.
        """
        options, path = self.options.get(name), self.directory / "config.yaml"
        if not isinstance(options, dict) or "_target_" not in options:
            raise ConfigError(f"{self.directory}: its config.yaml names no {name}")
        try:
            return build(options, name)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def write_interface(directory: Path, interface: Mapping[str, object]) -> None:
    """Note what goes into the trained network and what comes out, plain containers."""
    write_text(directory / INTERFACE, json.dumps(interface, allow_nan=False) + "\n")


def check_noted(directory: Path) -> None:
    """Check what a run that goes on has noted, which it notes again: its interface, and its findings.

    Raises:
        ConfigError: it is damaged.
    """
    for path in (directory / INTERFACE, directory / FINDINGS):
        if not os.path.lexists(path):
            continue
        try:
            content = read_json(path)
            if path.name == INTERFACE:
                _mapping(path, content)
        except ConfigError as error:
            raise ConfigError(f"{error}; remove it, and the run that goes on writes it again") from error


def read_saved(run: str | Path, target: str, checkpoint: str = "last", device: str = "cpu") -> Saved:
    """Read a run's directory.

    Args:
        run: the directory.
        target: the class of its options, dotted, as its `config.yaml` names it.
        checkpoint: "last", "best" or "good".
        device: where the state is wanted, as `device=` has it.

    Raises:
        ConfigError: there is no such run, checkpoint or device, or a file is damaged; one line.
    """
    directory, where = Path(run), resolve_device(device)
    if f"{checkpoint}.pt" not in checkpoints.KEPT:
        raise ConfigError(f"checkpoint must be last, best or good, got {shown(checkpoint)}")
    if not is_run(directory):
        raise ConfigError(f"there is no run in {directory}")
    options, interface = _read_options(directory / "config.yaml"), directory / INTERFACE
    if options["_target_"] != target:
        raise ConfigError(f"{directory} holds a run of {options['_target_']}, not of {target}")
    if not interface.is_file():
        raise ConfigError(
            f"{interface} is missing: this run began before there was one, and resume={directory} writes it"
        )
    path = directory / "checkpoints" / f"{checkpoint}.pt"
    noted = _mapping(interface, read_json(interface))
    return Saved(directory, path, options, noted, checkpoints.load(path, where), where)


def _read_options(path: Path) -> Tree:
    try:
        content = yaml.safe_load(safe_text(path))
    except RecursionError as error:
        raise ConfigError(f"{path} is damaged: it is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    options = _mapping(path, content)
    if not isinstance(options.get("_target_"), str):
        raise ConfigError(f"{path} is damaged: it contains no options of a run")
    return options


def _mapping(path: Path, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is damaged: it holds no options by name")
    return content
