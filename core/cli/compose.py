"""From overrides to one composed, checked tree.

Hydra is asked once for each job. It composes the files that the overrides choose; every other override is
compared with that tree (does the option exist, is the value of its kind) and then set in it.
"""

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from core.cli.choices import EXPERIMENT, Choices, find, leave_file, put_back, set_optimizer_defaults
from core.cli.classes import leave_defaults, note, typed_classes
from core.cli.comments import takes_list
from core.cli.names import override_dirname, place_by_name
from core.cli.overrides import (
    SEVERAL,
    check_override,
    one_by_one,
    parse,
    refuse_no_choice,
    refuse_one_and_several,
)
from core.cli.paths import quoted, typed_path
from core.cli.refusals import foreign, missing_choice
from core.config import ConfigError, Tree, import_target
from core.errors import described
from core.run.directory import abandon, holds_run
from core.text import shortened, shown, told

FOR_LAUNCHER = (
    "page",
    "paths",
    "run_paths",
    "next",
    "next_of_seeds",
    "headline",
)  # no options of a root file
LAUNCHER_ONLY = ("hydra", "resume")  # what only the launcher reads
RUN, SWEEP = ("hydra.run.dir",), ("hydra.sweep.dir", "hydra.sweep.subdir")  # where a job's directory is
HYDRA = ("hydra.", "hydra/")  # how the names of Hydra's own options begin


@dataclass(frozen=True)
class Composed:
    """One job's configuration.

    Attributes:
        tree: composed and checked, with Hydra's own node.
        notes: lines about settings that were not typed.
        typed: names of the options that were typed, those inside of typed mappings and lists too.
        hydra: the overrides of Hydra's own options.
    """

    tree: DictConfig
    notes: tuple[str, ...]
    typed: tuple[str, ...]
    hydra: tuple[str, ...]

    @property
    def options(self) -> Tree:
        """The resolved options, plain containers.

        Raises:
            ConfigError: an interpolation does not resolve, or a mandatory value is missing.
        """
        return plain(self.tree)

    def place(self, job: int | None = None) -> Path | None:
        """Where this job's directory will be.

        Args:
            job: its number in a sweep; None without one.

        Returns:
            None where a sweep's directory depends on what only the running job can resolve.

        Raises:
            ConfigError: the directory does not resolve, or is no text.
        """
        with open_dict(self.tree):
            self.tree.hydra.job.num = job or 0
        parts = RUN if job is None else SWEEP
        try:
            return Path(*(str(OmegaConf.select(self.tree, part)) for part in parts))
        except OmegaConfBaseException as error:
            written = [str(OmegaConf.select(self.tree, part.rpartition(".")[0])) for part in parts]
            if job is not None and any("${hydra:" in text for text in written):
                return None
            raise ConfigError(f"{' or '.join(parts)}: {told(error)}") from error

    def shared(self) -> str | None:
        """The directory of this job's sweep; None where only the running job can resolve it."""
        try:
            return str(OmegaConf.select(self.tree, SWEEP[0]))
        except OmegaConfBaseException:
            return None

    def join(self, shared: str | None, job: int, name: str | None) -> Path | None:
        """Take over the directory of a sweep, which the time of day of its first job names; as `place`.

        Args:
            shared: that directory; None = each job resolves its own.
            job: its number.
            name: of the job's own folder in it; None = as its options say.
        """
        with open_dict(self.tree):
            if name is not None:
                self.tree.hydra.sweep.subdir = name
            if shared is not None:
                self.tree.hydra.sweep.dir = shared
        return self.place(job)

    @property
    def names_jobs(self) -> bool:
        """Whether the folders of the jobs were named by what was typed."""
        return any(each.lstrip("+~").startswith(SWEEP[1]) for each in self.hydra)

    def run(
        self, work: Callable[[Path], int], directory: Path | None, job: int | None = None, command: str = ""
    ) -> int:
        """Let Hydra make the directory, note there how the job was started, and call `work` with it.

        Args:
            work: the job; returns its exit status.
            directory: what `place` returned.
            job: as for `place`.
            command: what was typed in front of the overrides; empty = the name under which it is installed.
        """
        from hydra._internal.callbacks import Callbacks
        from hydra.core.utils import run_job, setup_globals
        from hydra.types import HydraContext, RunMode

        setup_globals()
        tree = self.tree
        with open_dict(tree):
            tree.hydra.mode = RunMode.RUN if job is None else RunMode.MULTIRUN
            tree.hydra.job.id = str(job or 0)
            tree.hydra.help.app_name = command or tree.hydra.job.name
            if job is None and directory is not None:
                tree.hydra.run.dir = str(directory)
        begun: list[Path] = []

        def begin(_: object) -> int:
            begun.append(Path(HydraConfig.get().runtime.output_dir))
            return work(begun[0])

        try:
            done = run_job(
                hydra_context=HydraContext(config_loader=cast(Any, None), callbacks=Callbacks(tree)),
                task_function=begin,
                config=tree,
                job_dir_key="hydra.run.dir" if job is None else "hydra.sweep.dir",
                job_subdir_key=None if job is None else "hydra.sweep.subdir",
            )
        except Exception as error:  # of Hydra's own notes and options: the job's are in `done`
            made = directory or OmegaConf.select(tree, "hydra.runtime.output_dir")  # None: not yet
            if made and not begun and not holds_run(Path(made)):
                abandon(Path(made))
            raise ConfigError(self._refusal(error)) from error
        return cast(int, done.return_value)

    def _refusal(self, error: Exception) -> str:
        """What is said where Hydra fails around a job."""
        others = [each for each in self.hydra if not each.startswith((*RUN, *SWEEP))]
        typed = f"{shortened(' '.join(others))}: " if others else ""
        if isinstance(error, OSError):
            return f"{typed}{error.filename} cannot be written: {error.strerror}"
        if isinstance(error, HydraException | OmegaConfBaseException):
            return f"{typed or 'hydra.sweep.subdir: '}{told(error)}"
        return f"{typed}{described(error)}"


def compose_checked(config_name: str, typed: Sequence[str], folders: Sequence[Path]) -> Composed:
    """Compose a configuration and check every override.

    Args:
        config_name: the root YAML, without its ending.
        typed: the overrides, as typed.
        folders: our configuration folder first, then the user's own (`--config-dir`).

    Raises:
        ConfigError: one line about the first override that is wrong.
    """
    overrides = [parse(each) for each in typed]
    refuse_one_and_several(overrides)
    tree, choices = _compose_choices(config_name, overrides, tuple(folders))
    values = [o for each in overrides if not _chooses(each, folders) for o in one_by_one(each, tree)]
    left = leave_defaults(tree, typed_classes(values))
    free = [check_override(override, tree, values) for override in values]
    for override, new in zip(values, free, strict=True):
        _set(tree, override, new or override.key_or_group in left)
    _check_hydra(tree)
    with open_dict(tree):
        page = [f"{EXPERIMENT}={choices.page}"] if choices.page else []
        hydra = tuple(each for each in typed if each.lstrip("+~").startswith(HYDRA))
        tree.hydra.overrides.task = []
        for each in (*page, *(each for each in typed if each not in hydra)):
            try:
                tree.hydra.overrides.task.append(each)
            except OmegaConfBaseException as error:  # of what is deleted, nobody else reads the value
                raise ConfigError(f"cannot read {shown(each)}: {told(error)}") from error
        tree.hydra.job.override_dirname = override_dirname(tree, overrides)
    place_by_name(tree, hydra)
    about = [choices.note(), *(note(tree, path) for path in left)]
    return Composed(tree, tuple(line for line in about if line), tuple(_typed(overrides)), hydra)


def _check_hydra(tree: DictConfig) -> None:
    """Refuse those of Hydra's own options that it meets unprepared once it has made the directory."""
    try:
        name, verbose = tree.hydra.job.name, tree.hydra.verbose
    except OmegaConfBaseException as error:
        raise ConfigError(told(error)) from error
    for option, value, kinds in (("job.name", name, str), ("verbose", verbose, bool | str | ListConfig)):
        if not isinstance(value, kinds):
            raise ConfigError(f"hydra.{option} is of another kind, got {shown(value)}")
    if tree.hydra.output_subdir == "":  # Hydra's config.yaml would stand where the run's own belongs
        raise ConfigError("hydra.output_subdir must be a name of a folder, or null for none")
    typed_path(str(tree.hydra.output_subdir), "hydra.output_subdir")
    for name, callback in (tree.hydra.callbacks or {}).items():
        if not isinstance(callback, DictConfig):
            raise ConfigError(f"hydra.callbacks.{name} must be a class with options, got {shown(callback)}")
        import_target(callback.get("_target_"), f"hydra.callbacks.{name}._target_")


def compose_defaults(config_name: str, typed: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    """Compose from those of the overrides that choose a file of a group, leaving out those that set a value.

    Raises:
        ConfigError: there is no such choice.
    """
    return _compose_choices(config_name, [parse(each) for each in typed], tuple(folders))[0]


def plain(tree: DictConfig) -> Tree:
    """A composed tree as plain containers, interpolations resolved, without what only the launcher reads.

    Raises:
        ConfigError: an interpolation does not resolve, or a mandatory value is missing.
    """
    options = OmegaConf.masked_copy(tree, [str(key) for key in tree if key not in LAUNCHER_ONLY])
    try:
        container = OmegaConf.to_container(options, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(told(error)) from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _typed(overrides: Sequence[Override]) -> Iterator[str]:
    """The options that overrides give a value or choose a file for."""
    for override in overrides:
        if not override.is_delete() and not override.key_or_group.startswith(HYDRA):
            yield from _named(override.key_or_group, override.value())


def _named(name: str, value: object) -> Iterator[str]:
    """An option's name, and those of the options inside of its value."""
    yield name
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _named(f"{name}.{key}", inner)


def _chooses(override: Override, folders: Sequence[Path]) -> bool:
    """Whether an override chooses a file, or is Hydra's own: those are composed by Hydra."""
    key = override.key_or_group.split("@")[0]
    if key.startswith(HYDRA) or key in SEVERAL:
        return True
    return any(os.path.isdir(folder / key) for folder in folders) and not isinstance(override.value(), dict)


def _compose_choices(
    config_name: str, overrides: Sequence[Override], folders: tuple[Path, ...]
) -> tuple[DictConfig, Choices]:
    """The tree of the chosen files, and what was chosen."""
    root = find(config_name, folders)
    assert root is not None
    chosen, typed = [], {}
    for override in overrides:
        if not _chooses(override, folders):
            continue
        if not override.key_or_group.startswith(HYDRA) and not override.is_delete():
            group = override.key_or_group
            refuse_no_choice(override, group in SEVERAL or takes_list(group, root.path))
        if override.key_or_group in SEVERAL:
            chosen += _several(override)
            continue
        place = override.package or ""
        if place and not override.key_or_group.startswith(HYDRA) and place.split(".")[0] not in SEVERAL:
            raise ConfigError(
                f"{shortened(str(override.input_line))} is not read: a part inside of another is named by "
                f"its class, {place}._target_=..., and its options"
            )
        chosen.append(str(override.input_line))
        if not override.key_or_group.startswith(HYDRA) and not override.is_delete():
            typed[override.key_or_group] = override.value()
    choices = Choices(root, folders, typed)
    if choices.page:
        chosen.append(f"{EXPERIMENT}={choices.page}")
    tree = copy.deepcopy(_compose(config_name, tuple(chosen), folders))
    with open_dict(tree):
        for key in FOR_LAUNCHER:
            tree.pop(key, None)
        leave_file(tree, choices)
        put_back(tree, choices.replaced())
        set_optimizer_defaults(tree, folders)
        for several, one in SEVERAL.items():
            if tree.get(several):
                tree[one] = None
    return tree, choices


def _several(override: Override) -> Iterator[str]:
    """`optimizers=[sgd,adam]` in Hydra's grammar: one choice of the group `optimizer` for each."""
    several = override.key_or_group
    value = override.value()
    for option in value if isinstance(value, list) else [value]:
        if option not in ("none", None):
            yield f"+{SEVERAL[several]}@{several}.{option}={option}"


def _set(tree: DictConfig, override: Override, new: bool) -> None:
    """Set or delete one value; `new` where the YAML does not fix which names there are."""
    key = override.key_or_group
    try:
        if not override.is_delete():
            OmegaConf.update(
                tree,
                key,
                override.value(),
                merge=True,
                force_add=new or override.is_add() or override.is_force_add(),
            )
            return
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(tree, parent) if parent else tree
        if not isinstance(node, DictConfig):
            raise ConfigError(f"~{shortened(key)}: there is no group of options {shortened(parent)}")
        with open_dict(node):
            node.pop(name, None)  # what a typed class does not have is gone already
    except OmegaConfBaseException as error:
        raise ConfigError(told(error)) from error


@lru_cache(maxsize=4)  # the jobs of a sweep share it
def _compose(config_name: str, chosen: tuple[str, ...], folders: tuple[Path, ...]) -> DictConfig:
    own, *others = folders
    extra = [f"hydra.searchpath=[{','.join(quoted(f'file://{f}') for f in others)}]"] if others else []
    try:
        with warnings.catch_warnings(), initialize_config_dir(os.fspath(own), version_base="1.3"):
            warnings.filterwarnings("error", "provider=hydra.searchpath", UserWarning)
            # Our presets of launchers have the names of their libraries' own, which say the types.
            warnings.filterwarnings("ignore", "\n?'hydra/launcher/", UserWarning)
            return compose(config_name, [*extra, *chosen], return_hydra_config=True)
    except MissingConfigException as error:
        raise ConfigError(missing_choice(error, chosen, config_name)) from error
    except Exception as error:  # of any kind: it meets what was typed unprepared
        message = " ".join(str(error).split())
        culprit = _culprit(config_name, chosen, folders)
        message = foreign(message, config_name) or f"{culprit} cannot be composed: {told(error)}"
        raise ConfigError(message.removesuffix(": ")) from error


def _culprit(config_name: str, chosen: Sequence[str], folders: tuple[Path, ...]) -> str:
    """The first of the overrides with which Hydra can no longer compose."""
    for count in range(len(chosen)):
        try:
            _compose(config_name, tuple(chosen[:count]), folders)
        except ConfigError:
            return shortened(chosen[count - 1], 60)
    return shortened(chosen[-1], 60)
