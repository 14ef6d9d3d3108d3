"""A class that is typed in place of a page's: what of the page holds for it.

One rule for all groups: what a page sets for a part holds for the part that it chooses and for one with the
same option names. Any other part that is chosen by its file has the options of that file; one that is named
by its class, `optimizer._target_=...`, has its own defaults, and of options only those that are typed.
"""

import inspect
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from core.cli.choices import CLASS, KEPT
from core.config import ConfigError, import_target, parameters_of, same_options


def typed_classes(overrides: Sequence[Override]) -> dict[str, object]:
    """The classes that overrides name, by the path of the part, outer parts first."""
    found = dict(each for o in overrides if not o.is_delete() for each in _named(o.key_or_group, o.value()))
    return dict(sorted(found.items(), key=lambda item: item[0].count(".")))


def leave_defaults(tree: DictConfig, classes: dict[str, object]) -> list[str]:
    """Take from a composed tree the values of pages that do not hold for the classes typed in their place.

    A learning rate that the page lists becomes the typed class's own default, so that it can be seen.

    Args:
        tree: composed, without the values of any override; changed in place.
        classes: as `typed_classes`.

    Returns:
        The paths of these parts.
    """
    left = []
    for path, dotted in classes.items():
        node = OmegaConf.select(tree, path, throw_on_resolution_failure=False)
        if not isinstance(node, DictConfig) or CLASS not in node:
            continue
        typed, usual = (_class(name, f"{path}.{CLASS}") for name in (dotted, node[CLASS]))
        if typed and usual and same_options(typed, usual):
            continue
        with open_dict(tree):
            OmegaConf.update(
                tree, path, {CLASS: dotted, **(_own_lr(typed) if typed and KEPT in node else {})}, merge=False
            )
        left.append(path)
    return left


def note(tree: DictConfig, path: str) -> str:
    """One line about what a typed class is given."""
    options = OmegaConf.to_container(tree, resolve=False)
    for part in path.split("."):
        # The path comes from this tree: each part is a key of what the ones before have led to.
        options = options[int(part) if isinstance(options, list) else part]  # type: ignore[index]  # nested by path
    assert isinstance(options, dict)
    given = ", ".join(f"{name}={value}" for name, value in options.items() if name != CLASS)
    return f"{path}: {options[CLASS]}({given}); every other option is the class's own default"


def _class(dotted: object, path: str) -> type | None:
    """The class of this name; None where there is none, which is refused when it is to be built."""
    try:
        found = import_target(dotted, path)
    except ConfigError:
        return None
    return found if inspect.isclass(found) else None


def _own_lr(target: type) -> dict[str, float]:
    parameter = parameters_of(target).get(KEPT)
    default = parameter.default if parameter else None
    return {KEPT: default} if isinstance(default, int | float) and not isinstance(default, bool) else {}


def _named(path: str, value: object) -> Iterator[tuple[str, object]]:
    if path.endswith(f".{CLASS}"):
        yield path.removesuffix(f".{CLASS}"), value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _named(f"{path}.{name}", inner)
