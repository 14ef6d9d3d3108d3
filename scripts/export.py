"""Write a trained policy or generator for other programs: `export.py run=DIR format=onnx`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.checks import checked, require
from core.cli.command import tool
from core.config import ConfigError

if TYPE_CHECKING:
    from core.run.saved import Saved


@dataclass(frozen=True, kw_only=True)
@checked
class ExportConfig:
    """What to write; conf/export.yaml explains each option."""

    run: str | None
    format: Literal["onnx", "pt2", "safetensors"]
    checkpoint: Literal["last", "best", "good"]
    folder: str | None

    def __post_init__(self) -> None:
        require(self.run is not None, "run", self.run, "a run directory: type run=DIR")


def export(cfg: ExportConfig) -> None:
    """Write the file and its MODEL_CARD.md, and say what goes in and comes out.

    Raises:
        ConfigError: there is no such run or checkpoint, a file is damaged, or the network cannot be exported
            in this format; nothing has been made.
    """
    from core.cli.saved import saved_options
    from core.export.card import USE, text
    from core.export.formats import require_libraries, write
    from core.run.files import refuse_unwritable, write_text

    directory = Path(str(cfg.run))
    folder = Path(cfg.folder) if cfg.folder else directory / "export"
    target = str(saved_options(directory)["_target_"])
    kind = target.partition(".")[0]
    if target.startswith("core.watch."):
        raise ConfigError(f"{directory} holds a watched loop, whose model only its own program can build")
    if kind == "core":
        raise ConfigError(f"{directory} holds a descent, which has no network to export")
    require_libraries(cfg.format)
    if kind == "gradrl":
        from gradrl.export import card
        from gradrl.export import exportable_policy as exportable
    else:
        from gradgan.export import card
        from gradgan.export import exportable_generator as exportable
    network, saved = exportable(directory, cfg.checkpoint)
    card_path, path = folder / "MODEL_CARD.md", folder / f"{network.name}.{cfg.format}"
    refuse_unwritable(path, card_path)
    described = card(saved, cfg.checkpoint, *_origin(saved))
    said = write(network, cfg.format, path)
    others = [form for form in USE if form != cfg.format and (folder / f"{network.name}.{form}").is_file()]
    write_text(card_path, text(described, network, cfg.format, said, others))
    print(f"{path}: {said}")


def _origin(saved: "Saved") -> tuple[str, dict[str, str]]:
    """What trains it, by the name of the installed command, and with which versions.

    The card is given away: how the command was called on this machine is nobody's.
    """
    import shlex

    from core.cli.saved import saved_overrides
    from core.run.directory import read_summary, versions

    command = str(saved.options["_target_"]).partition(".")[0]  # gradrl or gradgan
    typed = shlex.join([command, *saved_overrides(saved.directory)])
    noted = (read_summary(saved.directory) or {}).get("versions")
    found = noted if isinstance(noted, dict) else versions()
    return typed, {str(name): str(version) for name, version in found.items()}


def main() -> None:
    tool("export", export)


if __name__ == "__main__":
    main()
