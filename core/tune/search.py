"""One command of a search: everything is checked, then trials run, then the report is written."""

import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from core.cli.choices import YamlFile
from core.cli.command import typed_command
from core.cli.compose import Composed, compose_checked
from core.cli.follow_up import SCRIPTS, in_form
from core.cli.job import check, numbers
from core.cli.overrides import parse
from core.cli.resume import length_of
from core.config import ConfigError, Tree, config_dir, flat, nearest
from core.run.directory import collection_of, holds_run, is_run
from core.run.files import refuse_unwritable
from core.text import listed
from core.tune.config import Search, TuneConfig
from core.tune.space import Space, Value, as_value, contains, extremes, read_space, words_of
from core.tune.study import Study
from core.tune.trial import Trainer

STUDIES = Path("runs") / "tune"  # where studies are
LAST = "last"
TRAINERS = {
    name: SCRIPTS.get(name, name) for name in ("rl", "gan", "descend")
}  # the script of each root file


def search(cfg: TuneConfig, typed: Sequence[str], folders: Sequence[Path], command: str) -> int:
    """Run trials until the study has enough of them, and report.

    Args:
        cfg: the options.
        typed: words for the trainer.
        folders: of YAML files, ours first.
        command: what goes on with this study, to be pasted.

    Returns:
        The exit status.

    Raises:
        ConfigError: something cannot be; nothing was made.
    """
    from core.tune.report import report

    space = read_space(cfg.search.space)
    trainer = _trainer(cfg, space, typed, folders, typed_command(sys.argv[1:]))
    directory = _directory(cfg.study)
    if is_run(directory) or holds_run(directory):
        raise ConfigError(f"study={cfg.study}: it holds a run; a study has a folder of its own")
    if collection_of(directory) == "sweep":
        raise ConfigError(f"study={cfg.study}: it is the folder of a sweep; a study has a folder of its own")
    refuse_unwritable(directory / "study.db")
    new = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        study = Study(cfg, directory, space, trainer)
    except ConfigError:
        if new:
            (directory / "study.db").unlink(missing_ok=True)
        for place in new:
            place.rmdir()
        raise
    _begin_with(study, typed, space)
    print(f"study {directory}: {cfg.trials} trials of {trainer.name} {' '.join(trainer.words)}", flush=True)
    caught = study.work(lambda line: print(line, flush=True))
    if caught is not None:
        print(f"stopped; go on with: {command} study={directory}", flush=True)
        return 128 + caught
    for line in report(study, folders):
        print(line, flush=True)
    return 0 if study.best is not None else 1


def _trainer(
    cfg: TuneConfig, space: Space, typed: Sequence[str], folders: Sequence[Path], called: str
) -> Trainer:
    """The command that trains, checked with the first values of all options and with the last ones.

    Raises:
        ConfigError: there is no such trainer or option, or a value cannot be.
    """
    name = cfg.search.trainer
    if name not in TRAINERS:
        raise ConfigError(f"search.trainer must be one of {', '.join(TRAINERS)}, got {name}")
    root = YamlFile(config_dir() / f"{name}.yaml")
    for word in typed:
        if parse(word).is_sweep_override():
            raise ConfigError(f"{word} has several values; what is varied stands in search.space")
        if word.partition("=")[0].lstrip("+~").partition(".")[0] in ("hydra", "resume", "name"):
            raise ConfigError(f"{word}: each trial has its own directory, in that of the study")
        key = word.partition("=")[0].lstrip("+~")
        if key in {each.name for each in fields(Search)} - {*root.choices, *root.content}:
            raise ConfigError(f"{word}: {TRAINERS[name]} has no option {key}; did you mean search.{key}?")
    fixed = [word for word in typed if parse(word).key_or_group not in space]
    first = [*cfg.search.words, *fixed]
    composed = compose_checked(name, first, folders)
    for values in extremes(space):
        one = compose_checked(name, [*first, *words_of(values)], folders)
        check(one.options, one.typed)
    options = composed.options
    _check_measured(cfg.search, options)
    length, interval = options[length_of(name)], options["logging"].get("eval_interval")
    if cfg.search.evaluation is not None and interval is None:
        raise ConfigError(
            f"search.evaluation={cfg.search.evaluation}: this trainer evaluates at the end alone; type null"
        )
    module = f"core.scripts.{TRAINERS[name]}"
    job, flags = str(composed.tree.hydra.job.name), _own_folder(folders)
    from_source = called.rstrip("'").endswith((".py", "core.scripts.tune"))
    as_typed = in_form(name, [], called) if from_source else job
    return Trainer(module, job, tuple(first), flags, interval or length, length, as_typed)


def _check_measured(search: Search, options: Tree) -> None:
    """Refuse a search for a number that no run of these options has, as far as that is known before one ends.

    Raises:
        ConfigError: the objective or the curve of the pruner is none.
    """
    known = numbers(options)
    curves = [name for name in known or () if name.startswith("eval/")]
    for option, name in (("objective", search.objective), ("evaluation", search.evaluation)):
        entry = name is not None and option == "objective" and "/" not in name
        if known is None or name is None or not (entry or name.startswith("eval/")):
            continue  # curves of the training are known when there are some
        names = [each for each in known if each not in curves] if entry else curves
        if name not in names:
            end = "" if entry else ", or a curve of the training"
            have = f"they have {listed(names) or 'nothing that is evaluated'}{end}"
            why = f"such runs have no number of that name; {have}{nearest(name, names)}"
            raise ConfigError(f"search.{option}={name}: {why}")


def _own_folder(folders: Sequence[Path]) -> tuple[str, ...]:
    """The flag with which a trial finds the user's own YAML files."""
    return ("--config-dir", *map(str, folders[1:])) if folders[1:] else ()


def _directory(typed: str | None) -> Path:
    """Where the study is, or will be.

    Raises:
        ConfigError: there is none yet that could be the last.
    """
    if typed is None:
        return STUDIES / time.strftime("%Y%m%d-%H%M%S")
    if typed != LAST or Path(typed).exists():
        return Path(typed)
    found = sorted(STUDIES.glob("*/"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError(f"study={LAST}: there is no study in {STUDIES}/")
    return found[-1]


def _begin_with(study: Study, typed: Sequence[str], space: Space) -> None:
    """Let a new study begin with what was typed for options that are varied, where it is in their space."""
    values: dict[str, Value] = {}
    for word in map(parse, typed):
        name = word.key_or_group
        if name not in space:
            continue
        if contains(space[name], word.value()):
            values[name] = as_value(word.value())
        else:
            print(f"{word.input_line} is not in the search space; no trial has it", flush=True)
    if values and not study.optuna.get_trials(deepcopy=False):
        study.enqueue(values)


def choices_of(composed: Composed, name: str) -> dict[str, str]:
    """What is chosen from each group of a command, but for the experiment."""
    chosen: Any = composed.tree.hydra.runtime.choices
    groups = YamlFile(config_dir() / f"{name}.yaml").choices
    return {g: str(chosen[g]) for g in groups if g in chosen and "/" not in g and g != "experiment"}


def differing(one: Composed, other: Composed) -> dict[str, object]:
    """The options of one composition that are not so in another, by dotted name."""
    ours, theirs = flat(one.options, empty=True), flat(other.options, empty=True)
    return {name: value for name, value in ours.items() if name not in theirs or theirs[name] != value}
