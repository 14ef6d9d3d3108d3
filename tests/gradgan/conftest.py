"""Configurations as the command line composes them, and a cache directory of the tests' own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.cli.launch import compose_tree
from core.config import Tree, build, config_dir
from gradgan.features import classifier
from gradgan.train import TrainConfig


def composed(*overrides: str) -> Tree:
    """The resolved options of `conf/gan.yaml` with these overrides, as a run keeps them."""
    return compose_tree("gan", overrides, [config_dir()])[0]


@pytest.fixture
def configured() -> Callable[..., TrainConfig]:
    """Overrides to the checked configuration."""

    def make(*overrides: str) -> TrainConfig:
        cfg = build(composed(*overrides))
        assert isinstance(cfg, TrainConfig)
        return cfg

    return make


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory, and a classifier that is trained for three updates only."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.setattr(classifier, "UPDATES", 3)
    return tmp_path / "cache"
