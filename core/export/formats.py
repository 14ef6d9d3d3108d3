"""ONNX and PT2 by `torch.export`, weights by safetensors. (TorchScript is deprecated and not among them.)"""

import importlib
import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from core.config import ConfigError
from core.run.files import write_bytes

Format = Literal["onnx", "pt2", "safetensors"]
NEEDS: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript"), "safetensors": ("safetensors",)}


@dataclass(frozen=True)
class Exportable:
    """What becomes a file.

    Attributes:
        name: of the file, without its ending.
        module: on the CPU, in evaluation mode; `forward(*inputs)`.
        inputs: examples by name, each a batch of two.
        outputs: names of what comes out.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]


def require_libraries(form: Format) -> None:
    """Raise ConfigError where a library that writes this format is not installed."""
    for library in NEEDS.get(form, ()):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise ConfigError(
                f"format={form} needs {library}, not installed: pip install 'gradsight[export]'"
            ) from error


def as_bytes(this: Exportable, form: Format) -> tuple[bytes, str]:
    """The content of the file, and what to say of it.

    Raises:
        ConfigError: the network holds what this format cannot; names it.
    """
    require_libraries(form)
    names = f"inputs {', '.join(this.inputs)}; outputs {', '.join(this.outputs)}"
    if form == "safetensors":
        from safetensors.torch import save

        tensors = {name: t.detach().contiguous().clone() for name, t in this.module.state_dict().items()}
        return save(tensors), f"{len(tensors)} tensors"
    try:
        with _silence():
            program = _traced(this)
            if form == "pt2":
                file = io.BytesIO()
                torch.export.save(program, file)
                return file.getvalue(), names
            onnx = torch.onnx.export(
                program, input_names=list(this.inputs), output_names=list(this.outputs), verbose=False
            )
    except Exception as error:  # torch.export and its translators raise what they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{this.name} cannot be exported as {form}: {reason[:200]}") from error
    model = onnx.model_proto if onnx is not None else None
    if model is None:
        raise ConfigError(f"{this.name} cannot be exported as {form}")
    return cast(bytes, model.SerializeToString()), f"opset {model.opset_import[0].version}; {names}"


def write(this: Exportable, form: Format, path: Path) -> str:
    """Write the file, and return what to say of it. Raises as `as_bytes`, before anything is made."""
    content, said = as_bytes(this, form)
    write_bytes(path, content)
    return said


def _traced(this: Exportable) -> ExportedProgram:
    batch = Dim("batch")
    with torch.no_grad():
        return torch.export.export(
            this.module, tuple(this.inputs.values()), dynamic_shapes=(tuple({0: batch} for _ in this.inputs),)
        )


@contextmanager
def _silence():
    """What the exporters print and warn of concerns their authors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)
