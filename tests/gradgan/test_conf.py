"""conf/gan.yaml and its groups: `data=NAME` chooses what fits, overrides win, misfits are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import ConfigError
from gradgan.data.mixtures import Grid
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.penalties.zero_centred import R1, R1R2
from gradgan.train import TrainConfig
from tests.gradgan.conftest import composed

Configured = Callable[..., TrainConfig]


def test_the_grid_chooses_perceptrons_pairing_and_both_penalties(configured: Configured) -> None:
    cfg = configured("data=grid")
    assert isinstance(cfg.data, Grid)
    assert isinstance(cfg.network, MLP)
    assert isinstance(cfg.loss, Relativistic)
    assert isinstance(cfg.penalty, R1R2)
    assert cfg.evaluation.samples == 2500


def test_explicit_words_win_over_what_the_data_set_chooses(configured: Configured) -> None:
    overrides = [
        "network=mlp",
        "loss=nonsaturating",
        "penalty=r1",
        "total_images=5",
        "batch_size=3",
        "optimizer.lr=0.5",
    ]
    cfg = configured("data=mnist", *overrides)
    assert isinstance(cfg.network, MLP)
    assert isinstance(cfg.loss, NonSaturating)
    assert isinstance(cfg.penalty, R1)
    assert (cfg.total_images, cfg.batch_size) == (5, 3)
    assert isinstance(cfg.optimizer.options, dict)
    assert cfg.optimizer.options["lr"] == 0.5
    assert isinstance(configured("network=dcgan", "data=digits").network, DCGAN)


def test_without_a_penalty_no_tuned_strength_is_left_over(configured: Configured) -> None:
    assert configured("data=ring", "penalty=none").penalty is None


def test_another_optimizer_keeps_its_own_options(configured: Configured) -> None:
    cfg = configured("data=ring", "optimizer=sgd")
    assert isinstance(cfg.optimizer.options, dict)
    assert "betas" not in cfg.optimizer.options


@pytest.mark.parametrize("data", ["ring", "grid"])
def test_points_and_convolutions_are_refused_in_one_line_naming_both(
    data: str, configured: Configured
) -> None:
    with pytest.raises(
        ConfigError, match=f"^network=dcgan takes square images .*, but data={data} has points"
    ):
        configured(f"data={data}", "network=dcgan")


def test_an_image_size_that_the_network_cannot_make_is_refused(
    configured: Configured, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"network=dcgan takes .*, but data=folder has images of 30x30 pixels"
    ):
        configured("data=folder", f"data.root={tmp_path}", "data.size=30")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=ring", "augment=ada"], "augment=ada transforms square images"),
        (["data=ring", "regularizer=consistency"], "consistency shifts and mirrors images"),
        (
            ["data=digits", "regularizer=consistency", "regularizer.consistency.shift=8"],
            "shift=8 pixels would move",
        ),
        (["data=digits", "update=consensus", "micro_batches=2"], "micro_batches must be 1 with update"),
        (["data=ring", "loss=relativistic_average", "micro_batches=2"], "1 with loss RelativisticAverage"),
        (["data=ring", "generator.top_k=0.5", "micro_batches=2"], "1 with generator.top_k below 1"),
        (
            ["data=mnist", "augment=ada", "loss=relativistic"],
            "augment must be diffaugment or none with Relativistic",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    overrides: list[str], message: str, configured: Configured
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(*overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size=0", "batch_size must be an integer >= 1, got 0"),
        ("seed=-1", "seed must be an integer >= 0, got -1"),
        ("discriminator.lr=-1.0", "discriminator.lr must be a number >= 0 or null"),
        ("average.half_life=0.0", "average.half_life must be a finite number > 0"),
        ("evaluation.samples=1", "evaluation.samples must be an integer >= 2"),
        ("penalty.gamma=-1.0", "penalty.gamma must be a finite number >= 0"),
        ("penalty.interval=0", "penalty.interval must be an integer >= 1"),
        ("data.held_out=1797", r"data.held_out must be an integer in \[1, 1796\], got 1797"),
        ("network.width=0", "network.width must be an integer >= 1"),
        ("micro_batches=3", r"micro_batches must be a divisor of batch_size \(64\), got 3"),
        ("precision=float16", "precision must be one of float32, bfloat16, got 'float16'"),
        ("generator.top_k=0.0", r"generator.top_k must be in \(0, 1\], got 0.0"),
        ("discriminator.steps=0", "discriminator.steps must be an integer >= 1, got 0"),
        ("discriminator.instance_noise=-0.1", "discriminator.instance_noise must be a finite number >= 0"),
        ("evaluation.truncation=0.0", "evaluation.truncation must be a finite number > 0 or null"),
        ("measurements.path_points=1", "measurements.path_points must be 0 or an integer >= 2, got 1"),
    ],
)
def test_values_out_of_range_are_refused_with_their_path(
    override: str, message: str, configured: Configured
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured("data=digits", override)


def test_all_words_compose_together() -> None:
    tree = composed("data=digits", "update=simultaneous", "clipper=global_norm", "schedule=linear")
    assert "max_norm" in str(tree["clipper"])
