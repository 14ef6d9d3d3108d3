"""`MODEL_CARD.md`: what a file beside it is, so that the folder can be given away as it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.export.formats import Exportable, Format
from core.run.directory import read_summary
from core.run.files import read_json

USE = {
    "onnx": """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
inputs = {{{arrays}}}
{outputs} = session.run(None, inputs)""",
    "pt2": """import torch

network = torch.export.load("{file}").module()
outputs = network({tensors})""",
    "safetensors": """from safetensors.torch import load_file

weights = load_file("{file}")""",
}


@dataclass(frozen=True)
class Card:
    """What a card says besides the use of the file.

    Attributes:
        title: one line.
        what: sentences on what it is.
        score: a sentence on how good it is; empty where nothing was measured.
        tags: for a hub.
        command: what trained it; empty where it was not noted.
        versions: of the software, by name.
    """

    title: str
    what: str
    score: str
    tags: Sequence[str]
    command: str
    versions: Mapping[str, str]


def text(card: Card, this: Exportable, form: Format, said: str, others: Sequence[str] = ()) -> str:
    """The card in Markdown.

    Args:
        card: what it says of the network.
        this: the network.
        form: of the file.
        said: what was said of the file.
        others: forms of the files that lie beside it since earlier exports.
    """
    rows = [
        f"| `{name}` | {str(x.dtype).removeprefix('torch.')} | {_shape(x)} |"
        for name, x in this.inputs.items()
    ]
    uses = f"```python\n{_use(this, form)}\n```\n\n`{this.name}.{form}`: {said}.\n\n" + "".join(
        f"`{this.name}.{other}`, of an earlier export:\n\n```python\n{_use(this, other)}\n```\n\n"
        for other in others
    )
    tags = "".join(f"- {json.dumps(tag)}\n" for tag in card.tags)
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    command = f"## How it was trained\n\n```sh\n{card.command}\n```\n\n" if card.command else ""
    score = f"{card.score}\n\n" if card.score else ""
    return (
        f"---\nlibrary_name: gradsight\ntags:\n{tags}---\n\n# {card.title}\n\n{card.what}\n\n{score}"
        f"## How to use it\n\n{uses}"
        f"| input | type | shape |\n|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n{command}## Versions\n\n{versions}\n"
    )


def measured(directory: Path, checkpoint: str) -> Mapping[str, object]:
    """What has been measured of a checkpoint: when it was evaluated again, or at the end of the run.

    Raises:
        ConfigError: what was noted is damaged.
    """
    path = directory / "evaluation.json"
    again = read_json(path) if path.exists() else None
    if isinstance(again, dict) and again.get("checkpoint") == checkpoint:
        return again
    return (read_summary(directory) or {}) if checkpoint == "last" else {}


def unmeasured(directory: Path, checkpoint: str) -> str:
    """What is said where nothing has been."""
    command = f"gradsight-evaluate run={directory.name} checkpoint={checkpoint}"
    return f"This checkpoint has not been measured; `{command}` does it."


def _use(this: Exportable, form: str) -> str:
    """Code that reads the file and calls what is in it."""
    dtypes = {name: str(x.numpy().dtype) for name, x in this.inputs.items()}
    return USE[form].format(
        file=f"{this.name}.{form}",
        arrays=", ".join(
            f'"{name}": np.zeros({(1, *x.shape[1:])}, np.{dtypes[name]})' for name, x in this.inputs.items()
        ),
        tensors=", ".join(f"torch.zeros({(1, *x.shape[1:])}, dtype={x.dtype})" for x in this.inputs.values()),
        outputs=", ".join(name.replace(".", "_") for name in (*this.outputs, "")).strip(),
    )


def _shape(x: Tensor) -> str:
    return f"[{', '.join(['N', *map(str, x.shape[1:])])}]"
