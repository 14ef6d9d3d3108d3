"""A command's help: its groups and options, and one job's configuration."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from core.cli.choices import EXPERIMENT, find
from core.cli.compose import Composed, compose_checked
from core.cli.overrides import SEVERAL
from core.config import ConfigError
from core.run.files import to_yaml
from core.text import shortened, told

END = """\
--cfg job prints only the configuration, -m runs a sweep (seed=1,2,3), --config-dir FOLDER adds YAML files of
your own, hydra.run.dir=DIR sets the run directory, --hydra-help lists what else Hydra offers."""


def help_text(config_name: str, overrides: Sequence[str], folders: Sequence[Path]) -> str:
    """The purpose of a command, the groups that it chooses from, and its options as they are composed now."""
    root = find(config_name, tuple(folders))
    assert root is not None
    lines = root.path.read_text(encoding="utf-8").splitlines()
    purpose = [line.removeprefix("#").strip() for line in lines[: lines.index("defaults:")]]
    composed = compose_checked(config_name, overrides, folders)
    groups = [name for name in root.choices if "/" not in name]
    pages = str(root.content.get("page", "")).rpartition("/")[0]
    shown = [f"{name}: {', '.join(_options(name, folders, pages))}" for name in groups]
    shown += [
        f"{name}: several choices of {one}, as {name}=[A,B]"
        for name, one in SEVERAL.items()
        if name in root.content
    ]
    parts = [
        "\n".join(purpose),
        "== Groups: GROUP=CHOICE ==\n" + "\n".join(shown) if shown else "",
        "== Options: OPTION=VALUE, with their present values ==\n" + to_yaml(_shown(composed)),
        END,
    ]
    return "\n\n".join(part for part in parts if part)


def configuration(composed: Composed, args: Namespace) -> str:
    """One job's configuration as YAML: `--cfg job|hydra|all`, `--package NAME`, `--resolve`."""
    tree = composed.tree
    with open_dict(tree):
        tree.hydra.job.num, tree.hydra.job.id = 0, "0"  # of a run that is no part of a sweep
    if args.cfg != "all":
        keys = [str(key) for key in tree if (key == "hydra") == (args.cfg == "hydra")]
        tree = OmegaConf.masked_copy(tree, keys)
    try:
        chosen = OmegaConf.select(tree, args.package) if args.package else tree
        return (
            OmegaConf.to_yaml(chosen, resolve=args.resolve) if OmegaConf.is_config(chosen) else f"{chosen}\n"
        )
    except OmegaConfBaseException as error:
        what = f"--package {shortened(args.package)}" if args.package else "--resolve"
        raise ConfigError(f"{what}: {told(error)}") from error


def _options(group: str, folders: Sequence[Path], pages: str) -> list[str]:
    """The choices of a group; of experiments, those of this command's own folder too."""
    inside = f"{pages}/" if group == EXPERIMENT else ""
    names = {path.stem for folder in folders for path in (folder / group).glob("*.yaml")}
    paged = {path.stem for f in folders if inside for path in (f / group / inside).glob("*.yaml")}
    return sorted(names) + [f"{inside}{name}" for name in sorted(paged)]


def _shown(composed: Composed) -> dict[str, object]:
    tree = OmegaConf.masked_copy(composed.tree, [str(key) for key in composed.tree if key != "hydra"])
    container = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
