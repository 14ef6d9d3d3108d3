"""The public surface: what a user may rely on. A change of this list is a change of the promise."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import core
from core import gradients
from tests.pages import BLOCKS, PAGES, ROOT, name

PUBLIC = {
    "core": {
        "ConfigError", "ContractError", "Watch",
    },
    "core.curvature": {
        "Classification", "CurvatureProbe", "Fisher", "GaussNewton", "Hessian", "LinearOperator",
        "Point", "Stability", "adam_threshold", "along", "classify", "classify_point",
        "eigenvalues", "hutch_pp", "lanczos", "momentum_threshold", "spectral_density", "stability",
        "twice_differentiable", "update_rule",
    },
    "core.diagnosis": {
        "Context", "Finding", "History", "Layer", "Ledger", "Overrides", "Player", "RULES",
        "Remedies", "Rule", "Severity", "Sign", "diagnose", "known", "network_rules",
    },
    "core.gradients": {
        "AGC", "AdaGC", "AutoClip", "Centralize", "Chain", "Clipper", "Closure", "Combine",
        "GlobalNorm", "GradientNoise", "GradientStep", "GradientView", "Metrics", "Monitor",
        "MonitorConfig", "NoiseEstimate", "NoiseScale", "Objective", "PCGrad", "PerLayerNorm",
        "SkipNonFinite", "Transform", "Value", "ZClip", "as_transforms", "global_norm",
        "layer_norms", "noise_of_two_batch_sizes", "noise_of_two_gradients",
        "recommended_batch_size",
    },
    "core.landscape": {
        "Surface", "draw_surface", "filter_normalised", "surface_of",
    },
    "core.noise": {
        "NoiseProbe", "NoiseStatistics", "noise_statistics", "per_sample_gradients",
        "per_sample_norms",
    },
    "core.optim": {
        "AverageConfig", "ExponentialMovingAverage", "Extragradient", "Move", "PerturbedSGD",
        "RateProposal", "SAM", "Split", "natural_gradient", "propose_lr",
    },
    "gradgan": {
        "Sampler", "load_generator",
    },
    "gradrl": {
        "Policy", "load_policy",
    },
}  # fmt: skip
# Modules that import a library which need not be installed; they have no __all__.
ADAPTERS = {
    "core.watch.lightning": {"WatchCallback"},
    "core.watch.transformers": {"WatchCallback"},
    "gradrl.watch.agents": {"agent_rules"},
    "gradrl.watch.stable_baselines3": {"WatchCallback"},
}
# What a part of a user's own follows or stands on, by its module (docs/extend.md).
PARTS = {
    "core.checks": {"Finite", "checked"},
    "core.cli.command": {"launch"},
    "core.descend.functions": {"Function"},
    "core.gradients.measured": {"Measured"},
    "core.gradients.probe": {"Probe"},
    "core.run.callbacks": {"Callback", "Event"},
    "core.run.loggers.logger": {"Logger", "Opening", "Sink"},
    "core.optim.schedules": {"Schedule"},
    "core.optim.schemes.schemes": {"Scheme"},
    "core.state": {"StateDict"},
    "gradgan.augment": {"Augment"},
    "gradgan.data": {"Data"},
    "gradgan.data.images": {"ImageData"},
    "gradgan.images": {"Images"},
    "gradgan.losses": {"Loss"},
    "gradgan.networks": {"Network", "Shape"},
    "gradgan.penalties": {"Penalty"},
    "gradgan.regularizers": {"Regularizer"},
    "gradrl.agent": {"Agent"},
    "gradrl.policies.own_network": {"Network"},
}
INSIDE = ("docs/architecture.md", "CONTRIBUTING.md")  # for those who change the code
TYPED = {"gradrl.envs.wrappers.ActionMask"}  # values of a `_target_`, which stand in YAML


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_exports_what_it_promises_and_all_of_it_can_be_had(package):
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    for each in module.__all__:
        assert getattr(module, each) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", PUBLIC)
def test_what_is_public_says_what_it_is(package):
    module = importlib.import_module(package)
    things = {each: getattr(module, each) for each in module.__all__}
    documented = {n: t for n, t in things.items() if inspect.isclass(t) or inspect.isfunction(t)}
    assert [n for n, t in documented.items() if not t.__doc__] == []


@pytest.mark.parametrize("module", PARTS)
def test_what_a_part_of_ones_own_must_have_is_a_protocol_that_says_what_each_method_does(module):
    for each in PARTS[module]:
        found = getattr(importlib.import_module(module), each)
        if not getattr(found, "_is_protocol", False):
            continue
        methods = [m for m in vars(found).values() if inspect.isfunction(m) and m.__name__[0] != "_"]
        methods += [m.fget for m in vars(found).values() if isinstance(m, property)]
        assert found.__doc__
        assert [m.__name__ for m in methods if not m.__doc__] == []


def test_the_packages_are_typed():
    assert [p for p in ("core", "gradrl", "gradgan") if not (ROOT / p / "py.typed").is_file()] == []


def test_the_docs_import_nothing_else():
    found = set()
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block.text)) if block.label == "python" else ():
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in (
                "core",
                "gradrl",
                "gradgan",
            ):
                found |= {(str(node.module), alias.name) for alias in node.names}
    assert len(found) > 10
    assert {
        (module, each) for module, each in found if each not in (PUBLIC | ADAPTERS | PARTS).get(module, ())
    } == set()


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) not in INSIDE], ids=name)
def test_the_docs_name_nothing_else(page):
    dotted = set(re.findall(r"`((?:core|gradrl|gradgan)(?:\.\w+)+)`", page.read_text(encoding="utf-8")))
    public = {f"{package}.{each}" for package, names in (PUBLIC | PARTS).items() for each in names}
    assert dotted - public - set(PUBLIC) - TYPED == set()


def test_a_name_that_is_asked_for_late_is_the_one_of_its_module():
    assert core.Watch is importlib.import_module("core.watch.watch").Watch
    assert gradients.GradientStep is importlib.import_module("core.gradients.step").GradientStep
    assert Path(str(importlib.util.find_spec("core").origin)).is_relative_to(ROOT)
