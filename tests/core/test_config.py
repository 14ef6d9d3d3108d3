"""Checked options: names, types, ranges, and one line for each that is wrong."""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.checks import require
from core.config import Component, ConfigError, build, import_target, nearest, structure


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int
    width: int | None

    def __post_init__(self) -> None:
        require(self.depth >= 1, "depth", self.depth, "an integer >= 1")


@dataclass(frozen=True, kw_only=True)
class Options:
    lr: float
    sizes: tuple[int, ...]
    betas: tuple[float, float]
    mode: Literal["clip", "penalty"]
    flag: bool
    free: dict[str, object]
    inner: Inner


class Machine:
    def __init__(self, cfg: Options, extra: int = 0) -> None:
        self.cfg, self.extra = cfg, extra


GOOD = {
    "lr": 1,
    "sizes": [64, 32],
    "betas": [0.9, 0.99],
    "mode": "clip",
    "flag": True,
    "free": {"anything": [1, {"goes": None}]},
    "inner": {"depth": 2, "width": None},
}


def test_good_options_arrive_in_the_types_of_the_dataclass():
    options = structure(GOOD, Options, "")
    assert options.lr == 1.0
    assert isinstance(options.lr, float)
    assert options.sizes == (64, 32)
    assert options.betas == (0.9, 0.99)
    assert options.inner == Inner(depth=2, width=None)
    assert options.free == GOOD["free"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": "fast"}, "agent.lr must be a number, got 'fast'"),
        ({"lr": True}, "agent.lr must be a number, got True"),
        ({"lr": None}, "agent.lr must be a number, got null"),
        ({"lr": float("nan")}, "agent.lr must be a finite number, got nan"),
        ({"lr": float("inf")}, "agent.lr must be a finite number, got inf"),
        ({"lr": {"a": 1}}, "agent.lr must be a number, got {'a': 1}"),
        ({"sizes": 64}, "agent.sizes must be a list of integers, got 64"),
        ({"sizes": [1.5]}, "agent.sizes must be a list of integers, got [1.5]"),
        ({"betas": [0.9]}, "agent.betas must be a list of 2 numbers, got [0.9]"),
        ({"mode": "clipp"}, "agent.mode must be one of clip, penalty, got 'clipp'; did you mean clip?"),
        ({"inner": {"depth": 0, "width": 1}}, "agent.inner.depth must be an integer >= 1, got 0"),
        ({"inner": {"depth": 1.0, "width": 1}}, "agent.inner.depth must be an integer, got 1.0"),
        ({"inner": {"depth": True, "width": 1}}, "agent.inner.depth must be an integer, got True"),
        (
            {"inner": {"depht": 1, "width": 1}},
            "unknown option agent.inner.depht; did you mean agent.inner.depth?",
        ),
        ({"inner": {"depth": 1}}, "agent.inner.width is missing; Inner needs it"),
        ({"rl": 1}, "unknown option agent.rl; did you mean agent.lr?"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(change, message):
    with pytest.raises(ConfigError) as caught:
        structure({**GOOD, **change}, Options, "agent")
    assert str(caught.value) == message


def test_a_class_with_a_config_becomes_a_component_to_be_built_later():
    component = build({"_target_": f"{__name__}.Machine", **GOOD}, "agent")
    assert isinstance(component, Component)
    machine = component(extra=3)
    assert machine.cfg.sizes == (64, 32)
    assert machine.extra == 3


def test_a_dataclass_becomes_an_instance():
    assert build({"_target_": f"{__name__}.Inner", "depth": 1, "width": 2}) == Inner(depth=1, width=2)


def test_options_of_a_third_party_class_are_held_against_its_signature():
    component = build({"_target_": "torch.optim.NAdam", "lr": 0.1, "betas": [0.9, 0.99]}, "optimizer")
    assert component.target is torch.optim.NAdam
    assert component.options == {"lr": 0.1, "betas": (0.9, 0.99)}
    with pytest.raises(
        ConfigError, match=r"unknown option optimizer.momentun: .*; did you mean momentum_decay"
    ):
        build({"_target_": "torch.optim.NAdam", "momentun": 0.9}, "optimizer")


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ("torch.optim.Adm", "torch.optim has no Adm; did you mean Adam?"),
        ("nowhere.at.all", "no module named nowhere"),
        ("Adam", "must be a dotted name"),
        (3, "must be a dotted name"),
    ],
)
def test_a_target_that_does_not_exist_is_named(dotted, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        import_target(dotted, "optimizer._target_")


@pytest.mark.parametrize(
    ("typed", "names", "meant"),
    [
        ("sparse_adam", "adam nadam radam sgd", "adam"),
        ("radm", "adam nadam radam sgd", "radam"),
        ("recipe", "clipper page seed", None),
        ("agnt", "agent env seed", "agent"),
        ("clip", "clipper page", "clipper"),
        ("steps", "total_steps seed", "total_steps"),
        ("clipper.max", "clipper.max_norm max", "clipper.max_norm"),
        ("lr", "optimizer.lr seed", "optimizer.lr"),
        ("lr", "optimizer.lr discriminator.lr", None),
    ],
)
def test_a_hint_is_a_slip_of_the_finger_or_the_rest_of_the_name_and_never_a_guess(typed, names, meant):
    assert nearest(typed, names.split()) == (f"; did you mean {meant}?" if meant else "")


def test_the_nearest_name_is_one_beside_it():
    names = ["agent.clip_coef", "agent.num_steps", "logging.progress"]
    assert nearest("agent.clip", names) == "; did you mean agent.clip_coef?"
    assert nearest("agent.zzz", names) == ""


def by_omegaconf(value: object, hint: object) -> object:
    """The same conversion by OmegaConf's structured merge, or None where it refuses."""
    tuples = [c for c in (hint, *typing.get_args(hint)) if typing.get_origin(c) is tuple]
    args = typing.get_args(tuples[0]) if tuples else ()
    if isinstance(value, list) != bool(tuples) or (args and args[-1] is not ... and len(args) != len(value)):
        return None
    schema = dataclasses.make_dataclass("Schema", [("value", list[args[0]] if args else hint)])
    try:
        merged = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), {"value": value}))
    except OmegaConfBaseException:
        return None
    found = merged["value"]
    return tuple(found) if tuples else found


HINTS = [int, float, bool, str, int | None, float | None, str | None, bool | None, float | str, int | str,
         tuple[int, ...], tuple[float, ...], tuple[str, ...], tuple[float, float],
         tuple[int, ...] | None]  # fmt: skip
VALUES = [0, 1, -3, True, False, 0.5, 1.0, 1e300, "1", "1e-3", "0.5", "x", "true", "Off", " 3", "1_0", "",
          [1, 2], [0.5], ["a"], [True], [None], ["1"], [], [0.1, 2], ["a", 1]]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_values_are_converted_as_omegaconf_converts_them(hint):
    cls = dataclasses.make_dataclass("Held", [("value", hint)], frozen=True)
    for value in VALUES:
        expected = by_omegaconf(value, hint)
        if expected is None:
            with pytest.raises(ConfigError, match="value must be"):
                structure({"value": value}, cls, "")
        else:
            found = structure({"value": value}, cls, "").value
            assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Net(:", "SyntaxError: invalid syntax"),
        ("Net = nn.Linear", "NameError: name 'nn' is not defined"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_module_of_ones_own_that_fails_is_named_with_the_place(source, said, tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(f"import math\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        import_target("own_nets.Net", "policy._target_")
    place = f"({tmp_path / 'own_nets.py'}, line 2)"
    assert str(caught.value) == f"policy._target_=own_nets.Net: importing own_nets failed: {said} {place}"
