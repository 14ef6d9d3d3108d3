"""Names of runs: what was typed as `name=`; in a sweep what tells its jobs apart, as in `seed=1,lr=0.01`."""

import re
from collections import Counter
from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from core.cli.overrides import parse
from core.config import ConfigError
from core.text import shown, told

LONGEST = 120  # characters of a job's name; a folder's name may have 255 bytes
ALLOWED = re.compile(r"[^\s/$.][^/$\n]*")  # of `name=`


def swept_options(batches: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names of the options in which the jobs of a sweep differ, as they were typed."""
    jobs = [_values(batch) for batch in batches]
    return tuple(key for key in jobs[0] if len({job.get(key) for job in jobs}) > 1)


def job_names(batches: Sequence[Sequence[str]]) -> list[str]:
    """A folder's name for each job of a sweep: the options that differ, by the last part of their names.

    Jobs that nothing tells apart get their numbers.

    Raises:
        ConfigError: `name=` is swept.
    """
    swept = swept_options(batches)
    if "name" in swept:
        raise ConfigError("name is that of the whole sweep, and its jobs are named by what differs: type one")
    ends = Counter(key.rpartition(".")[2] for key in swept)
    names = []
    for number, job in enumerate(map(_values, batches)):
        pairs = [(k.rpartition(".")[2] if ends[k.rpartition(".")[2]] == 1 else k, job[k]) for k in swept]
        name = ",".join(f"{key}={re.sub(r'[^-+.,=~%@:a-zA-Z0-9_]+', '_', value)}" for key, value in pairs)
        names.append(name if len(name) <= LONGEST else f"{name[:LONGEST]},{number}")
    several = Counter(names)
    alone = [bool(name) and several[name] == 1 for name in names]
    return [name if alone[i] else f"{name},{i}".lstrip(",") for i, name in enumerate(names)]


def place_by_name(tree: DictConfig, typed: Sequence[str]) -> None:
    """Let `name=` end the path of the run, or of the sweep, where that was not typed itself.

    Args:
        tree: composed; it is changed.
        typed: the overrides of Hydra's own options.

    Raises:
        ConfigError: the name is none of a folder.
    """
    try:
        name = tree.get("name")
    except OmegaConfBaseException as error:  # ${...} that stands for nothing
        raise ConfigError(f"name: {told(error)}") from error
    if name is None:
        return
    if not isinstance(name, str) or not ALLOWED.fullmatch(name):
        raise ConfigError(f"name must be one that a folder can have, without / and $, got {shown(name)}")
    for part in ("run", "sweep"):
        if any(each.lstrip("+~").startswith(f"hydra.{part}.dir") for each in typed):
            continue
        written = OmegaConf.to_container(tree.hydra[part], resolve=False)
        assert isinstance(written, dict)
        with open_dict(tree):
            tree.hydra[part].dir = f"{str(written['dir']).rpartition('/')[0]}/{name}"


def override_dirname(tree: DictConfig, overrides: Sequence[Override]) -> str:
    """What `${hydra.job.override_dirname}` stands for: the overrides as the name of a folder."""
    style = tree.hydra.job.config.override_dirname
    pairs = [
        f"{o.key_or_group}{style.kv_sep}{str(o.input_line).partition('=')[2]}"
        for o in overrides
        if not o.key_or_group.startswith(("hydra.", "hydra/")) and o.key_or_group not in style.exclude_keys
    ]
    return style.item_sep.join(sorted(pairs))


def _values(batch: Sequence[str]) -> dict[str, str]:
    """What was typed for each option of a job."""
    words = [parse(each) for each in batch]
    return {w.key_or_group: str(w.input_line).partition("=")[2].strip("'\"") for w in words}
