"""A run that returns to its last good checkpoint: which options it goes on with."""

import copy
from pathlib import Path
from typing import Any, cast

import yaml

from core.cli.choices import YamlFile
from core.config import ConfigError, Tree, config_dir, import_target
from core.diagnosis import Finding, Overrides
from core.run.diagnosis import Diagnosis, Stopping
from core.run.rollback import remedies_of, write_rollback
from core.run.run import Run


def roll_back(run: Run, diagnosis: Diagnosis, finding: Finding, tree: Tree) -> Tree:
    """Write the checkpoint that the run goes on from, and say so.

    Args:
        run: that has met the finding.
        diagnosis: its own.
        finding: the reason.
        tree: its options.

    Returns:
        The options that it goes on with.

    Raises:
        Stopping: no number of this run helps; it is saved where it is.
        ContractError: the checkpoint cannot be written.
    """
    for remedy in diagnosis.changes(finding):
        try:
            changed = with_remedy(tree, remedy)
            _check(changed)
        except ConfigError:
            continue
        to = write_rollback(
            run.directory, run.rollbacks, finding, remedy, diagnosis.rates(remedy),
            step=run.step, wall_s=run.wall_s,
        )  # fmt: skip
        number, why = len(run.rollbacks.done) + 1, finding.name + f" ({finding.where})" * bool(finding.where)
        how = f"rollback {number} of {run.rollbacks.most}, to {to:,} {run.unit}, for {why}"
        run.say(f"{run.step:>11,} {run.unit}   {how}: goes on with {' '.join(remedy)}")
        return changed
    run.save("last.pt")
    raise Stopping(
        f"stopped at {run.step:,} {run.unit} by on_finding=rollback, which has no number to change: "
        f"{finding.line()}"
    )


def after_rollbacks(tree: Tree, directory: Path) -> Tree:
    """The options of a run with what its rollbacks so far have changed; a kill may have come in between."""
    return with_remedy(tree, remedies_of(directory)) if tree.get("on_finding") == "rollback" else tree


def with_remedy(tree: Tree, remedy: Overrides) -> Tree:
    """A copy of the options, of which some are set to other numbers, or the clipper is another one.

    Raises:
        ConfigError: there is no such option or clipper.
    """
    changed = copy.deepcopy(tree)
    for option, _, value in (text.partition("=") for text in remedy):
        *path, name = option.split(".")
        node: Any = changed
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name not in node:
            raise ConfigError(f"unknown option {option}: this run has no such option")
        file = config_dir() / option / f"{value}.yaml"
        number = yaml.safe_load(value)
        if option == "clipper" and file.is_file():
            node[name] = YamlFile(file).options_of(option)
        elif isinstance(number, int | float) and not isinstance(number, bool):
            node[name] = number
        else:
            raise ConfigError(f"{option}={value} is no number")
    return changed


def _check(tree: Tree) -> None:
    from core.cli.job import RootConfig, check

    root = cast("type[RootConfig]", import_target(tree["_target_"], "_target_"))
    check({**tree, **dict.fromkeys(root.BEGINNING)})
