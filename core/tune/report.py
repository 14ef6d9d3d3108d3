"""What a study has found: the best options as a command and as a page, what mattered, and two pictures."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from core.cli.choices import EXPERIMENT, YamlFile
from core.cli.compose import compose_checked
from core.config import ConfigError, Tree, config_dir
from core.numbers import percent, plain_number
from core.run.files import to_yaml, write_media, write_text
from core.tune.search import choices_of, differing
from core.tune.space import words_of
from core.tune.study import Study

PAGE = "tuned"  # the name of the page of an experiment
MOST = 5  # options whose importance is printed


def report(study: Study, folders: Sequence[Path]) -> Iterator[str]:
    """Write pictures and page into the directory of a study; lines about it.

    Args:
        study: with trials that have ended.
        folders: of YAML files, ours first.
    """
    best, search, trainer = study.best, study.cfg.search, study.trainer
    trials = study.optuna.get_trials(deepcopy=False)
    counts = {name: sum(t.state.name == name for t in trials) for name in ("COMPLETE", "PRUNED", "FAIL")}
    yield "trials: {COMPLETE} finished, {PRUNED} pruned, {FAIL} failed or interrupted".format(**counts)
    if best is None:
        yield "no trial has finished: there is nothing to report"
        return
    words = [*trainer.words, *words_of(best.params)]
    yield f"best: {search.objective} {plain_number(best.value)} of trial {_number(best)}"
    yield from _importances(study)
    yield from _pictures(study)
    found = f"{search.objective} {plain_number(best.value)}"
    page = page_of(search.trainer, words, study.directory, found, folders)
    if page is not None:
        where = shlex.quote(str(study.directory / "conf"))
        yield f"as a page: {trainer.typed} --config-dir {where} {EXPERIMENT}={page}"
    yield f"run it with: {trainer.typed} {shlex.join([*trainer.flags, *words])}"


def _importances(study: Study) -> Iterator[str]:
    from core.tune.pictures import draw_importances

    found = importances(study)
    if not found:
        yield "importances: none, because too few trials have finished, or all were alike"
        return
    named = [f"{name} {percent(share)}" for name, share in list(found.items())[:MOST]]
    yield f"importances: {', '.join(named)}"
    _, path = write_media(
        study.directory / "media", "importances", draw_importances(found, study.cfg.search.objective)
    )
    yield f"importances: {path}"


def importances(study: Study) -> dict[str, float]:
    """The share of each option in the differences of the objective, the largest first; empty without any."""
    from optuna.importance import get_param_importances

    try:
        found = get_param_importances(study.optuna)
    except (ValueError, RuntimeError):  # of too few trials
        return {}
    return found if sum(found.values()) > 0 else {}


def _pictures(study: Study) -> Iterator[str]:
    from core.tune.pictures import draw_parallel

    search = study.cfg.search
    done = [t for t in study.optuna.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    sign = 1.0 if search.direction == "maximize" else -1.0
    made = draw_parallel(done, study.space, search.objective, sign)
    yield f"parallel coordinates: {write_media(study.directory / 'media', 'parallel_coordinates', made)[1]}"


def page_of(
    trainer: str, words: Sequence[str], directory: Path, found: str, folders: Sequence[Path]
) -> str | None:
    """Write options as the page of an experiment; its name, or None where no page can say them.

    A page cannot name what is in the user's own folder: a command takes one folder besides ours.

    Args:
        trainer: the root file of the command.
        words: of its command line.
        directory: of the study; the page is in its folder conf.
        found: what they have reached, for the head of the page.
        folders: of YAML files, ours first.
    """
    if EXPERIMENT not in YamlFile(config_dir() / f"{trainer}.yaml").choices:
        return None
    best = compose_checked(trainer, words, folders)
    chosen = choices_of(best, trainer)
    plain = [f"{EXPERIMENT}=none", *(f"{group}={choice}" for group, choice in chosen.items())]
    tree: Tree = {"defaults": [{f"override /{group}": choice} for group, choice in chosen.items()]}
    for option, value in differing(best, compose_checked(trainer, plain, folders)).items():
        *path, last = option.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    page = f"{trainer}/{PAGE}"
    path = directory / "conf" / EXPERIMENT / f"{page}.yaml"
    write_text(path, f"# @package _global_\n# Found by a search: {found} in one run.\n{to_yaml(tree)}")
    try:
        again = compose_checked(trainer, [f"{EXPERIMENT}={page}"], [folders[0], directory / "conf"])
        if again.options == best.options:
            return page
    except ConfigError:
        pass
    path.unlink()
    return None


def _number(trial: Any) -> int:
    return trial.system_attrs.get("failed_trial", trial.number)
