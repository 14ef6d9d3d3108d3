"""A run that returns to its last good checkpoint: which options it goes on with."""

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.cli.choices import YamlFile
from core.config import ConfigError, Tree, build, config_dir
from core.diagnosis import Finding, Overrides
from core.run import checkpoint
from core.run.diagnosis import Diagnosis, Stopping
from core.run.good import NAME
from core.run.interrupts import Stopped
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
        Stopped: a signal came; the run goes on from that checkpoint when it is resumed.
        ContractError: the checkpoint cannot be written.
    """
    refused, good = "", run.directory / "checkpoints" / NAME
    to = checkpoint.step_of(checkpoint.load(good, mmap=True), good)
    tried = sum(one["finding"] == finding.name or one["to"] == to for one in run.rollbacks.done)
    lowered = any(one["to"] == to and diagnosis.rates_in(one["remedy"]) for one in run.rollbacks.done)
    redraws = run.rollbacks.redraws(run.state)
    for remedy in diagnosis.changes(finding, tried, since=None if lowered else to, redraws=redraws):
        try:
            changed = with_remedy(tree, remedy)
            build(changed)  # the ranges; data and environment have been tried, and may be what is ill now
        except ConfigError as error:
            refused = f" ({error})"
            continue
        write_rollback(
            run.directory, run.rollbacks, finding, remedy, diagnosis.rates(remedy),
            step=run.step, seconds=run.clocks.seconds(),
        )  # fmt: skip
        number, why = len(run.rollbacks.done) + 1, finding.name + f" ({finding.where})" * bool(finding.where)
        how = f"rollback {number} of {run.rollbacks.most}, to {to:,} {run.unit}, for {why}"
        numbers = " ".join(remedy) or "other random numbers alone"
        run.say(f"{run.step:>11,} {run.unit}   {how}: goes on with {numbers}")
        if run.interrupts.caught is not None:
            raise Stopped(128 + run.interrupts.caught)
        return changed
    run.save("last.pt")
    raise Stopping(
        f"stopped at {run.step:,} {run.unit} by on_finding=rollback, which has no number to change{refused}: "
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
        if option == "clipper" and file.is_file():
            node[name] = YamlFile(file).options_of(option)
        else:
            node[name] = _number(option, value)
    return changed


def _number(option: str, value: str) -> float | int:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    raise ConfigError(f"{option}={value} is no number")
