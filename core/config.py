"""From a composed YAML tree to checked, frozen dataclasses: one strict pass, before anything else is made.

A mapping with `_target_` becomes either an instance (the target is a frozen dataclass) or a `Component` (the
target is a class whose first argument is `cfg: SomeConfig`, or a third-party class with plain keywords).
Hydra's own `instantiate` is not used: it checks no types, hides the true error and knows no ranges.
"""

import dataclasses
import difflib
import importlib
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from core.errors import described, place_of
from core.hints import described_type, union
from core.numbers import unfit
from core.text import shortened, shown

AUTO = "auto"  # as an optimizer's `lr`: proposed from the gradient before the training begins
STAND_IN_LR = 1e-3
TRUE, FALSE = ("yes", "y", "on", "true"), ("no", "n", "off", "false")
Tree = dict[str, Any]  # plain containers, resolved: what YAML can say


class ConfigError(ValueError):
    """Something the user asked for cannot be; the message is the one line they see, exit status 2."""


@dataclass(frozen=True)
class Component:
    """A class and its checked options, to be built when its other arguments exist.

    Attributes:
        target: the class.
        options: its config dataclass, or the keywords of a third-party class.
        path: where it stands in the configuration, for messages.
        auto_lr: the configuration says `lr: auto`; the options hold a stand-in until `with_lr`.
    """

    target: type
    options: object
    path: str
    auto_lr: bool = False

    def with_lr(self, lr: float) -> "Component":
        """The same with this learning rate."""
        if isinstance(self.options, dict):
            return dataclasses.replace(self, options={**self.options, "lr": lr}, auto_lr=False)
        return dataclasses.replace(
            self, options=dataclasses.replace(cast(Any, self.options), lr=lr), auto_lr=False
        )

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Build it: `target(options, *args, **kwargs)`, or with the keywords of a third-party class."""
        if isinstance(self.options, dict):
            return self.target(*args, **self.options, **kwargs)
        return self.target(self.options, *args, **kwargs)


def config_dir() -> Path:
    """The folder of our YAML files: inside the installed package, or beside it in a checkout."""
    core = Path(__file__).resolve().parent
    for folder in (core / "conf", core.parent / "conf"):
        if (folder / "rl.yaml").is_file():
            return folder
    raise ConfigError(f"the configuration files are missing beside {core}; install gradsight again")


def flat(tree: Mapping[str, object], path: str = "", *, empty: bool = False) -> dict[str, object]:
    """Options by dotted name; those that are null and groups without options only with `empty`."""
    named: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and (value or not empty):
            named |= flat(value, f"{path}{key}.", empty=empty)
        elif value is not None or empty:
            named[f"{path}{key}"] = value
    return named


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint to append to a message: the nearest of `names`, or nothing.

    For a dotted name the options beside it come first: `clipper.max` is nearer to `clipper.max_norm` than to
    a name that only shares the path. Between two names in one place, a slip of the finger (`radm`) comes
    before a part of a name (`sparse_adam` is an adam, not a radam).
    """
    names = list(names)
    parent, _, leaf = name.rpartition(".")
    beside = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == parent}
    slips = difflib.get_close_matches(leaf, beside, n=1, cutoff=0.75)
    parts = [n for n in beside if min(len(n), len(leaf)) > 2 and (n in leaf or leaf in n)]
    parts = difflib.get_close_matches(leaf, parts, n=1, cutoff=0)
    close = slips or parts or difflib.get_close_matches(leaf, beside, n=1, cutoff=0.63)
    close = [beside[n] for n in close] or difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    elsewhere = [n for n in names if n.endswith(f".{name}")]
    close = close or (elsewhere if len(elsewhere) == 1 else [])
    return f"; did you mean {close[0]}?" if close else ""


def build(tree: Tree, path: str = "") -> object:
    """Check a mapping with a `_target_` and turn it into an instance or a `Component`.

    Args:
        tree: plain containers, resolved.
        path: the option path of this mapping, for messages; empty for the root.

    Raises:
        ConfigError: one line naming the option, the value and what is allowed.
    """
    target = import_target(tree["_target_"], f"{path}._target_".lstrip("."))
    options = {key: value for key, value in tree.items() if key != "_target_"}
    if not inspect.isclass(target):
        raise ConfigError(f"{path}._target_ must name a class, got {shown(tree['_target_'])}")
    if dataclasses.is_dataclass(target):
        return structure(options, target, path)
    auto_lr = options.get("lr") == AUTO
    if auto_lr:
        options["lr"] = STAND_IN_LR
    cfg_class = options_class(target)
    if cfg_class is not None:
        return Component(target, structure(options, cfg_class, path), path, auto_lr)
    return Component(target, _check_keywords(target, options, path), path, auto_lr)


def structure(options: Tree, cls: type, path: str) -> object:
    """Check plain options against a dataclass: names, types, then its own `__post_init__` for ranges.

    Raises:
        ConfigError: an unknown or missing option, a wrong type, or a value out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for name in options:
        if name not in fields:
            raise ConfigError(
                f"unknown option {_join(path, name)}"
                f"{nearest(_join(path, name), [_join(path, f) for f in fields])}"
            )
    for name, field in fields.items():
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if name not in options and no_default:
            raise ConfigError(f"{_join(path, name)} is missing; {cls.__name__} needs it")
    values = {name: _convert(value, hints[name], _join(path, name)) for name, value in options.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(_join(path, str(error))) from error


def import_target(dotted: object, path: str) -> object:
    """The object a dotted name stands for.

    Raises:
        ConfigError: no such module or name.
    """
    if not isinstance(dotted, str) or "." not in dotted or not all(dotted.split(".")):
        raise ConfigError(f"{path} must be a dotted name such as torch.optim.Adam, got {shown(dotted)}")
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: object = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and name != error.name and not name.startswith(error.name + "."):
                raise ConfigError(
                    f"{path}={dotted}: importing {name} needs {error.name}, not installed{place_of(error)}"
                ) from error
            continue
        except (Exception, SystemExit) as error:  # a module of the user's own
            raise ConfigError(f"{path}={dotted}: importing {name} failed: {described(error)}") from error
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                raise ConfigError(
                    f"{path}: {name} has no {shortened(attribute, 40)}{nearest(attribute, dir(found))} "
                    f"(got {shortened(dotted, 60)})"
                )
            found = getattr(found, attribute)
        return found
    raise ConfigError(
        f"{path}: no module named {shortened(parts[0], 40)} (got {shortened(dotted)}); a file of your own is "
        "found from its folder, or with that on PYTHONPATH"
    )


def _convert(value: object, hint: object, path: str) -> object:
    """One option's value in the type its dataclass field asks for."""
    choices = union(hint)
    if value is not None and any(_holds_components(choice) for choice in choices):
        if not isinstance(value, list) or not all(isinstance(v, Mapping) and "_target_" in v for v in value):
            raise ConfigError(f"{path} must be a list of mappings with a _target_, got {shown(value)}")
        kinds = [kind for c in choices if _holds_components(c) for kind in union(typing.get_args(c)[0])]
        return tuple(_built(dict(v), kinds, f"{path}.{i}") for i, v in enumerate(value))
    if isinstance(value, Mapping) and "_target_" in value and any(map(_takes_part, choices)):
        return _built(dict(value), choices, path)
    if value is None:
        if type(None) in choices:
            return None
        raise ConfigError(f"{path} must be {described_type(hint)}, got null")
    literals = [
        each for c in choices if typing.get_origin(c) is typing.Literal for each in typing.get_args(c)
    ]
    if literals:
        if value in literals:
            return value
        allowed = ", ".join(map(str, literals))
        raise ConfigError(
            f"{path} must be one of {allowed}, got {shown(value)}{nearest(str(value), map(str, literals))}"
        )
    for choice in choices:
        if dataclasses.is_dataclass(choice) and isinstance(value, Mapping):
            return structure(dict(value), cast(type, choice), path)
        if (typing.get_origin(choice) or choice) is dict and isinstance(value, Mapping):
            nested = {k: isinstance(v, Mapping) and "_target_" in v for k, v in value.items()}
            kinds = union(typing.get_args(choice)[1]) if typing.get_args(choice) else (object,)
            for name in value if set(kinds).isdisjoint((object, Any)) else ():
                if name == "_target_":
                    raise ConfigError(f"{path} holds parts by name: write {path}.NAME._target_={value[name]}")
                if not nested[name]:
                    where = _join(path, str(name))
                    raise ConfigError(f"{where} must be a part with a _target_, got {shown(value[name])}")
            return {k: _built(dict(v), kinds, f"{path}.{k}") if nested[k] else v for k, v in value.items()}
    return _primitive(value, hint, path)


def _built(tree: Tree, choices: Iterable[object], path: str) -> object:
    """What a mapping with a `_target_` stands for, which must be of one of the kinds that are wanted there.

    Raises:
        ConfigError: it is not.
    """
    built = build(tree, path)
    kinds = [choice for choice in choices if choice is not type(None)]
    misfits = [_misfit(built, kind) for kind in kinds]
    if None not in misfits:
        first, *others = cast(list[type], kinds)
        names = " or ".join([f"{first.__module__}.{first.__qualname__}", *(k.__qualname__ for k in others)])
        wanted = "that is no dataclass" if kinds == [Component] else f"of the kind {names}"
        why = f": {misfits[0]}" if misfits[0] else ""
        raise ConfigError(f"{path}._target_ must name a class {wanted}, got {shown(tree['_target_'])}{why}")
    return built


def _misfit(value: object, kind: object) -> str | None:
    """None where a built value is of the class that a field asks for, or has all that its Protocol names.

    Otherwise why not, as far as there is more to say than that. A class that is built later, with other
    arguments, says nothing of itself yet.
    """
    if not isinstance(kind, type) or kind is object:
        return None
    if not getattr(kind, "_is_protocol", False):
        return None if isinstance(value, kind) else ""
    bases = [{**vars(base).get("__annotations__", {}), **vars(base)} for base in kind.__mro__]
    names = [name for base in bases for name in base if name not in getattr(kind, "__optional__", ())]
    named = {name: None for name in names if name == "__call__" or not name.startswith("_")}
    if isinstance(value, Component) and "target" not in named:
        return "it is no dataclass"
    lacking = [name for name in named if inspect.getattr_static(value, name, named) is named]
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return f"it has no {', no '.join(lacking[:3])}{more}" if lacking else None


def _takes_part(hint: object) -> bool:
    """Whether a type may be that of what YAML says by `_target_`: no number, text or group of options."""
    plain = (int, float, bool, str, type(None), dict)
    return hint not in plain and typing.get_origin(hint) not in (dict, tuple, typing.Literal)


def _holds_components(hint: object) -> bool:
    """Whether a type is a tuple of what YAML says by `_target_`: classes that are not Python's own."""
    classes = union(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else ()
    return bool(classes) and all(isinstance(c, type) and c.__module__ != "builtins" for c in classes)


def _primitive(value: object, hint: object, path: str) -> object:
    """Numbers, strings, booleans, and tuples of them."""
    tuples = [c for c in union(hint) if typing.get_origin(c) is tuple]
    args = typing.get_args(tuples[0]) if tuples else (object, ...)
    try:
        if tuples:
            if not isinstance(value, list) or (args[-1] is not Ellipsis and len(args) != len(value)):
                raise ValueError
            converted: object = tuple(_scalar(each, union(args[0])) for each in value)
        else:
            converted = _scalar(value, union(hint))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path} must be {described_type(hint)}, got {shown(value)}") from error
    for number in converted if isinstance(converted, tuple) else [converted]:
        if wanted := unfit(number):
            raise ConfigError(f"{path} must be {wanted}, got {shown(number)}")
    return converted


def _scalar(value: object, choices: Iterable[object]) -> object:
    """A value in the one type that is allowed besides null, or as it is where it has one of several.

    Raises:
        ValueError: it cannot be.
    """
    types_ = [choice for choice in choices if choice is not type(None)]
    kind = type(value)
    if kind in types_ or types_ in ([object], [Any]):
        return value
    if types_ == [int] and kind is str:
        return int(cast(str, value))
    if types_ == [float] and kind in (int, str):
        return float(cast(float | str, value))
    if types_ == [bool] and kind in (int, str):
        return _boolean(cast(int | str, value))
    if types_ == [str] and kind in (int, float, bool):
        return str(value)
    raise ValueError


def _boolean(value: int | str) -> bool:
    """What YAML may write for true and false."""
    word = str(value).lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    return int(value) != 0


def options_class(target: type) -> type | None:
    """The dataclass that lists a class's options: itself, or that of `cfg`, its first argument.

    None for a third-party class, whose options are the keywords of its constructor. The annotation of the
    class itself counts first, so that a subclass need not repeat the constructor.
    """
    if dataclasses.is_dataclass(target):
        return target
    names = list(parameters_of(target))
    if not names or names[0] != "cfg":
        return None
    hint = typing.get_type_hints(target).get("cfg") or typing.get_type_hints(target.__init__).get("cfg")
    return cast(type, hint) if dataclasses.is_dataclass(hint) else None


def parameters_of(target: type) -> Mapping[str, inspect.Parameter]:
    """The arguments of a class by name; none where Python does not tell (`dict`)."""
    try:
        return inspect.signature(target).parameters
    except ValueError:
        return {}


def same_options(target: type, other: type) -> bool:
    """Whether values chosen for `other` hold for `target`: its options have the same names.

    So it is with one class, and with classes of ours that list the same options or inherit them. The keywords
    of two third-party classes say nothing: AdamW has Adam's, and another weight decay.
    """
    if target is other:
        return True
    own, others = options_class(target), options_class(other)
    if own is None or others is None:
        return False
    return issubclass(target, other) or _field_names(own) == _field_names(others)


def takes_keyword(target: object, name: str) -> bool:
    """Whether a third-party class has an option of this name, which a page need not list."""
    if not inspect.isclass(target) or options_class(target) is not None:
        return False
    parameters = parameters_of(target)
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _field_names(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if field.init}


def _check_keywords(target: type, options: Tree, path: str) -> Tree:
    """Options of a third-party class: every name must be a keyword of its `__init__`.

    An optimizer may have `groups` beside them, which core.optim.factory reads and never hands on.
    """
    parameters = parameters_of(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    optimizer = hasattr(target, "add_param_group")
    for name, value in options.items():
        if name not in parameters and not open_ended and not (name == "groups" and optimizer):
            raise ConfigError(
                f"unknown option {_join(path, name)}: {target.__module__}.{target.__qualname__} has no "
                f"such option{nearest(name, parameters)}"
            )
        for number in value if isinstance(value, list) else [value]:
            if wanted := unfit(number):
                raise ConfigError(f"{_join(path, name)} must be {wanted}, got {shown(number)}")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
