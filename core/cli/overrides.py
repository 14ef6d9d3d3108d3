"""Overrides of the command line, compared with the composed YAML before anything heavy is imported.

Hydra lets `+group.typo=1` through, checks no types of plain YAML, and answers a misspelt name with advice to
append it. So every override is looked up here first: its name must exist, and its value must be of the
same kind as the one it replaces. Ranges and classes are checked later, by `core.config`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from core.cli.choices import CLASS, YamlFile
from core.config import AUTO, ConfigError, Tree, config_dir, import_target, nearest, takes_keyword
from core.text import shortened, shown

MOST_JOBS = 100_000  # of one sweep
CHAIN = "chain"  # the choice of a group that applies several parts, one after the other
SEVERAL = {"optimizers": "optimizer", "batches": "batch"}  # several options of a group take the place of one


def parse(typed: str) -> Override:
    """One override in Hydra's grammar.

    Raises:
        ConfigError: it is not `option=value`.
    """
    try:
        override = OverridesParser.create().parse_override(typed)
    except (HydraException, ValueError, RecursionError) as error:  # of thousands of digits, or of brackets
        raise ConfigError(f"cannot read {shown(typed)}: expected option=value") from error
    if not override.key_or_group:
        raise ConfigError(f"cannot read {shown(typed)}: expected option=value")
    return override


def refuse_uncountable(override: Override) -> None:
    """Refuse a sweep whose jobs cannot be counted, or that has none.

    Raises:
        ConfigError: it is a pattern or an interval, or a range that is empty or endless.
    """
    sweep = override.value()
    line = shortened(str(override.input_line))
    if override.value_type in (ValueType.GLOB_CHOICE_SWEEP, ValueType.INTERVAL_SWEEP):
        raise ConfigError(f"{line}: -m cannot count these; write a,b or choice(a,b) or range(1,4)")
    if isinstance(sweep, RangeSweep) and sweep.start is not None and sweep.stop is not None:
        count = (sweep.stop - sweep.start) / sweep.step if sweep.step else math.inf
        if not 0 < count <= MOST_JOBS:
            raise ConfigError(
                f"{line} must have between 1 and {MOST_JOBS:,} values, as range(1,4) or range(0,1,0.1)"
            )


def one_by_one(override: Override, tree: DictConfig) -> Iterator[Override]:
    """`group={lr: 0.1, groups: []}` as `group.lr=0.1 group.groups=[]`: each is checked, and the others stay.

    A mapping in place of null, or an empty one, stays whole.
    """
    value, key = override.value(), override.key_or_group
    node = OmegaConf.select(tree, key, throw_on_resolution_failure=False)
    if override.is_delete() or not value or not isinstance(value, dict) or not isinstance(node, DictConfig):
        yield override
        return
    for name, inner in value.items():
        option = f"{key}.{name}"
        line = f"{option}={inner}"
        yield from one_by_one(replace(override, key_or_group=option, _value=inner, input_line=line), tree)


def refuse_no_choice(override: Override, several: bool) -> None:
    """Refuse what names no file of a group, or one of them twice, before Hydra speaks of defaults lists.

    Args:
        override: chooses from a group.
        several: whether more than one file of the group may be chosen.

    Raises:
        ConfigError: it is neither a name nor a list of different names, or a list where one is wanted.
    """
    group, value = override.key_or_group, override.value()
    one = SEVERAL.get(group, group)
    choices = value if isinstance(value, list) else [value]
    names = all(isinstance(each, str) for each in choices) or (value is None and group in SEVERAL)
    if not names or len(set(choices)) < len(choices):
        example = f"{group}=[A,B]" if isinstance(value, list) or one != group else f"{group}=A"
        line = shortened(str(override.input_line))
        raise ConfigError(f"{line} must name different choices of {one}, as {example}")
    if len(choices) > 1 and not several:
        chain = config_dir() / group / f"{CHAIN}.yaml"
        files = [chain.with_name(f"{name}.yaml") for name in choices]
        parts = ", ".join(_inline(YamlFile(file).content) for file in files if file.is_file())
        how = f"; several of them: {group}={CHAIN} '{group}.transforms=[{parts}]'" if chain.is_file() else ""
        raise ConfigError(f"{shortened(str(override.input_line))} must name one {group}{how}")


def _inline(options: Tree) -> str:
    """A part as it can be typed in a list."""
    return json.dumps(options).replace('"', "")


def refuse_one_and_several(overrides: Sequence[Override]) -> None:
    """Refuse `optimizer.lr=0.1 optimizers=[sgd,adam]`: the several do not read the options of the one.

    Raises:
        ConfigError: both are there.
    """
    for override in overrides:
        several = override.key_or_group
        one = SEVERAL.get(several)
        if one is None or override.value() in ("none", None):
            continue
        for other in overrides:
            key = other.key_or_group
            if key == one or key.startswith((f"{one}.", f"{one}@")):
                raise ConfigError(
                    f"{shortened(str(other.input_line))} is not read together with {several}=, where each "
                    f"has its own options: {several}.NAME.OPTION=..."
                )


def check_override(override: Override, base: DictConfig, overrides: Sequence[Override]) -> bool:
    """Check one option's name and the kind of its value.

    Args:
        override: sets or deletes an option.
        base: the composed tree without the values of any override.
        overrides: all that set or delete an option.

    Returns:
        Whether the YAML leaves the names open: this is a free-form mapping, or one of its options.

    Raises:
        ConfigError: there is no such option, or the value is of another kind.
    """
    key = override.key_or_group
    parts = key.split(".")
    if parts[-1] == "_target_" and (len(parts) == 1 or override.is_delete()):
        raise ConfigError(
            f"{key} says what class this is: it can be neither removed nor, at the top, changed"
        )
    node: object = base
    for depth, part in enumerate(parts):
        if isinstance(node, DictConfig) and part in node and part != "hydra":
            node = OmegaConf.select(node, part, throw_on_resolution_failure=False)
            continue
        if isinstance(node, ListConfig) and part.isdecimal() and int(part) < len(node):
            if override.is_delete() and depth == len(parts) - 1:
                whole = ".".join(parts[:depth])
                raise ConfigError(f"cannot remove {key} from its list; write the whole list, {whole}=[...]")
            node = node[int(part)]
            continue
        path = ".".join(parts[:depth])
        if _is_open(node, depth, path, overrides) or _is_keyword(node, part, path, base):
            return True
        why = _absent(node, path, parts[depth:]) or nearest(key, [*_dotted(base), *_groups(base)])
        raise ConfigError(f"unknown option {shortened(key)}{why}")
    if not override.is_delete():
        _check_value(key, override.value(), node)
    return isinstance(node, DictConfig) and len(node) == 0


def _is_open(node: object, depth: int, path: str, overrides: Sequence[Override]) -> bool:
    """Whether names that the YAML does not list may stand below this node.

    An empty mapping is free-form, and so are keyword arguments. Where the user names another class, or one
    where there is none, or one more of several by name, that class decides.
    """
    if depth == 0 or not (node is None or isinstance(node, DictConfig)):
        return False
    classes = [o.key_or_group for o in overrides if o.key_or_group.endswith(f".{CLASS}")]
    if node is None or _is_by_name(node):
        return path != "resume" and any(name.startswith(f"{path}.") for name in classes)
    return len(node) == 0 or path.rpartition(".")[2] == "kwargs" or f"{path}.{CLASS}" in classes


def _is_by_name(node: DictConfig) -> bool:
    """Whether a group of options holds nothing but parts, each under a name of its own."""
    inner = [node._get_node(key) for key in node]
    return bool(inner) and all(isinstance(part, DictConfig) and CLASS in part for part in inner)


def _absent(node: object, path: str, parts: Sequence[str]) -> str:
    """Why there is no such option where the part that would have it is not there; else empty."""
    folder, name = config_dir() / path, parts[0]
    if isinstance(node, DictConfig) and _is_by_name(node) and path:
        names = [str(key) for key in node]
        close = nearest(name, names).replace("did you mean ", f"did you mean {path}.")
        return close or f": {path} has no {shortened(name)}, only {' and '.join(names)}"
    if node is not None or not folder.is_dir():
        return ""
    files = {file.stem: YamlFile(file).content for file in sorted(folder.glob("*.yaml"))}
    having = [stem for stem, own in files.items() if parts[-1] in own and name in (stem, *own)]
    return f": {path} is none here" + (f"; it is one of {path}={', '.join(having[:3])}" if having else "")


def _is_keyword(node: object, name: str, path: str, base: DictConfig) -> bool:
    """Whether the page's class has this option and the page does not list it.

    Pages of classes of ours list every option; so only for others is the class asked, which imports it.
    """
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if not path or target is None or target.partition(".")[0] in ("core", base._target_.partition(".")[0]):
        return False
    return takes_keyword(import_target(target, f"{path}._target_"), name)


def _check_value(key: str, value: object, old: object) -> None:
    """Refuse a value that is of another kind than the one in the YAML; null in the YAML allows every kind."""
    if old is None or (isinstance(value, str) and "${" in value):
        return
    if key == "optimizer.lr" and value == AUTO:
        return
    if value is None:
        return  # the dataclass knows whether null is allowed
    wanted = None
    if isinstance(old, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif isinstance(old, int):
        wanted = None if isinstance(value, int) and not isinstance(value, bool) else "an integer"
        if isinstance(value, float) and value.is_integer():
            wanted = f"an integer, written {int(value)}"
    elif isinstance(old, float):
        wanted = None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    elif isinstance(old, str):
        wanted = "a string" if isinstance(value, dict | list) else None
    elif OmegaConf.is_list(old):
        wanted = None if isinstance(value, list) else "a list such as [64,64]" if old else "a list"
    elif OmegaConf.is_dict(old):
        wanted = None if isinstance(value, dict) else f"a group of options ({key}.NAME=...)"
    if wanted:
        raise ConfigError(f"{key} must be {wanted}, got {shown(value)}")


def _groups(base: DictConfig) -> list[str]:
    """What stands at the top of a tree and has options below it."""
    return [str(key) for key in base if key != "hydra" and OmegaConf.is_dict(base._get_node(key))]


def _dotted(tree: DictConfig, path: str = "") -> list[str]:
    """The options of a tree, by path, the `hydra` node left out."""
    names: list[str] = []
    for key in tree:
        if not path and key == "hydra":
            continue
        full = f"{path}.{key}" if path else str(key)
        child = tree._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            names += _dotted(child, full)
        elif isinstance(child, ListConfig) and not child._is_none() and not child._is_missing():
            links = (i for i in range(len(child)) if isinstance(child._get_node(i), DictConfig))
            names += [full, *(name for i in links for name in _dotted(child[i], f"{full}.{i}"))]
        else:
            names.append(full)
    return names
