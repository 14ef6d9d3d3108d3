"""`gradgan.train`: short runs end to end, resumed bit by bit, and what is refused before anything is made."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.config import ConfigError, build
from core.curvature.arnoldi import ComplexRitz
from core.run.run import Run
from core.run.tensorboard import read_scalars
from gradgan.evaluate import evaluate_run
from gradgan.features import classifier
from gradgan.measurements.measurements import Measurements
from gradgan.measurements.vector_field import VectorField
from gradgan.train import TrainConfig, check, numbers, train
from tests.gradgan.conftest import composed
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("blank_figures")

Configured = Callable[..., TrainConfig]
Saved = dict[str, dict[str, torch.Tensor]]

QUICK = [
    "logging.progress=false",
    "logging.interval=2",
    "logging.eval_interval=64",
    "logging.draw_interval=100000",
    "logging.checkpoint_interval=32",
    "evaluation.samples=20",
    "batch_size=16",
    "total_images=128",
    "device=cpu",
]
RUNS = {
    "points": ["data=grid", "network.width=8"],
    "digits": ["data=digits", "network=mlp", "network.width=8"],
    "convolutions": [
        "data=digits",
        "network=dcgan",
        "network.width=2",
        "network.batch_norm=true",
        "penalty.interval=3",
    ],
}


class Killed(Exception):  # noqa: N818  (what a test throws, not an error)
    """Stands for a kill between two updates."""


def run_in(directory: Path, cfg: TrainConfig) -> Run:
    directory.mkdir(exist_ok=True)
    return Run(directory, cfg.logging, {}, {"seed": cfg.seed})


def trained(
    directory: Path, cfg: TrainConfig, kill_at: int | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Train (or go on) in `directory`; the last checkpoint's contents."""
    run = run_in(directory, cfg)
    finish_step = run.finish_step

    def finish(step: int, metrics: dict[str, torch.Tensor]) -> None:
        finish_step(step, metrics)
        if step == kill_at:
            raise Killed

    run.finish_step = finish
    try:
        train(cfg, run)
    finally:
        run.close()
    return torch.load(directory / "checkpoints" / "last.pt", weights_only=True)


def flat(state: object, path: str = "") -> dict[str, object]:
    """Every leaf of a nested state by its path."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flat(value, f"{path}/{key}").items()}
    if isinstance(state, list | tuple):
        return {k: v for i, value in enumerate(state) for k, v in flat(value, f"{path}/{i}").items()}
    return {path: state}


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind", RUNS)
def test_a_short_run_leaves_what_the_contract_promises(
    kind: str, configured: Configured, tmp_path: Path
) -> None:
    cfg = configured(*QUICK, *RUNS[kind])
    state = trained(tmp_path / "run", cfg)
    assert {"generator", "discriminator", "average", "stream", "generators"} <= set(state)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["images"] == 128
    assert summary["updates"] == 8
    assert summary["images_per_s"] > 0
    left = {
        *summary,
        *read_scalars(tmp_path / "run"),
    }  # curves of single numbers only where they were measured
    assert {name for name in numbers(cfg) or () if not name.startswith("eval/")} <= left
    assert {tag for tag in left if tag.startswith("eval/")} <= {*(numbers(cfg) or ())}
    wanted = {"modes", "high_quality", "reverse_kl"}
    if kind != "points":
        wanted = {"fid", "kid", "precision", "recall", "features", "fid_floor", "kid_floor", "class_counts"}
        assert summary["features"] == "digits_classifier"
        assert sum(summary["class_counts"]) == 20
    assert wanted <= set(summary)
    assert (tmp_path / "run" / "media" / "samples.png").exists()
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


@pytest.fixture(scope="module", params=thinned(RUNS, 2))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Saved]:
    """The last checkpoint of a run of each kind that nothing disturbed."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformdirs.user_cache_path", lambda *_: folder / "cache")
        patch.setattr(classifier, "UPDATES", 3)
        cfg = build(composed(*QUICK, *RUNS[request.param]))
        assert isinstance(cfg, TrainConfig)
        return request.param, trained(folder / "run", cfg)


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    "kill_at", [pytest.param(16, marks=pytest.mark.slow), 48, pytest.param(112, marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_bit_by_bit(
    whole: tuple[str, Saved], kill_at: int, configured: Configured, tmp_path: Path
) -> None:
    kind, undisturbed = whole
    cfg = configured(*QUICK, *RUNS[kind])
    with pytest.raises(Killed):
        trained(tmp_path / "killed", cfg, kill_at)
    resumed = flat(trained(tmp_path / "killed", cfg))
    expected = flat(undisturbed)
    assert set(expected) == set(resumed)
    timed = ("_s", "cache_hits")
    for path, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert isinstance(again := resumed[path], torch.Tensor), path
            assert torch.equal(value, again), path
        elif not path.endswith(timed):
            assert value == resumed[path] or value != value, path


@pytest.mark.usefixtures("own_cache")
def test_the_budget_is_rounded_up_to_whole_batches(configured: Configured, tmp_path: Path) -> None:
    trained(tmp_path / "run", configured(*QUICK, *RUNS["points"], "total_images=100"))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["images"] == 112


@pytest.mark.usefixtures("own_cache")
def test_the_discriminator_may_have_a_learning_rate_of_its_own(
    configured: Configured, tmp_path: Path
) -> None:
    frozen = configured(*QUICK, *RUNS["points"], "discriminator.lr=0.0")
    begun, ended = (
        trained(
            tmp_path / name,
            configured(*QUICK, *RUNS["points"], "discriminator.lr=0.0", f"total_images={images}"),
        )
        for name, images in (("one", 16), ("two", 64))
    )
    assert frozen.discriminator.lr == 0.0
    assert all(torch.equal(v, ended["discriminator"][k]) for k, v in begun["discriminator"].items())
    assert any(not torch.equal(v, ended["generator"][k]) for k, v in begun["generator"].items())


def test_data_that_are_wrong_are_refused_by_the_check(configured: Configured, tmp_path: Path) -> None:
    folder = ["data=folder", f"data.root={tmp_path / 'nowhere'}"]
    with pytest.raises(ConfigError, match=r"data.root=.*nowhere is not a folder"):
        check(configured(*QUICK, *folder))
    with pytest.raises(ConfigError, match=r"data.root=.* holds no intact MNIST"):
        check(configured(*QUICK, "data=mnist", f"data.root={tmp_path}"))
    with pytest.raises(
        ConfigError, match="batch_size must be at most 1347, the images of data=digits, got 1348"
    ):
        check(configured(*QUICK, "data=digits", "batch_size=1348"))


@pytest.mark.parametrize("conditioning", ["projection", "auxiliary"])
def test_labels_that_are_not_there_are_missed_by_the_check(
    conditioning: str, configured: Configured, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "only").mkdir()
    for i in range(16):
        Image.new("RGB", (8, 8), (16 * i, 0, 0)).save(tmp_path / "only" / f"{i}.png")
    overrides = [*QUICK, "data=folder", f"data.root={tmp_path}", "data.size=8"]
    check(configured(*overrides))
    with pytest.raises(
        ConfigError, match=rf"conditioning={conditioning} wants labels, .* fewer than two sub-folders"
    ):
        check(configured(*overrides, f"conditioning={conditioning}"))


@pytest.mark.parametrize("optimizer", ["lbfgs", "sam"])
def test_an_optimizer_that_would_ignore_the_update_scheme_is_refused_by_the_check(
    optimizer: str, configured: Configured
) -> None:
    check(configured(*QUICK, "data=ring", f"optimizer={optimizer}"))
    check(configured(*QUICK, "data=ring", f"optimizer={optimizer}", "update=lookahead"))
    with pytest.raises(ValueError, match=r"update: Optimistic changes gradients, but .* choose another"):
        check(configured(*QUICK, "data=ring", f"optimizer={optimizer}", "update=optimistic"))


def test_a_folder_of_images_trains_without_metrics(configured: Configured, tmp_path: Path) -> None:
    from PIL import Image

    random = torch.Generator().manual_seed(0)
    for i in range(20):
        pixels = torch.randint(256, (9, 11, 3), generator=random, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{i}.png")
    overrides = ["data=folder", f"data.root={tmp_path}", "data.size=8", "network.width=2"]
    trained(tmp_path / "run", configured(*QUICK, *overrides))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images"] == 128
    assert summary["fid"] is None
    assert summary["features"] is None


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind", ["points", "digits"])
def test_measuring_a_run_again_repeats_its_summary(kind: str, configured: Configured, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    overrides = [*QUICK, *RUNS[kind]]
    trained(tmp_path / "run", configured(*overrides))
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(composed(*overrides)))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    again = evaluate_run(tmp_path / "run", samples=20, checkpoint="last", seed=None)
    assert again == {key: summary[key] for key in again}
    assert evaluate_run(tmp_path / "run", samples=20, checkpoint="last", seed=5) != again
    with pytest.raises(ConfigError, match="no checkpoint at"):
        evaluate_run(tmp_path / "run", samples=20, checkpoint="none", seed=None)


def test_a_line_search_beside_a_clipper_is_refused_by_the_check(configured: Configured) -> None:
    overrides = [*QUICK, "data=ring", "optimizer=lbfgs"]
    check(configured(*overrides, "clipper=none"))
    check(configured(*overrides, "clipper=global_norm", "optimizer.line_search_fn=null"))
    with pytest.raises(ValueError, match=r"clipper: GlobalNorm would change .*clipper=none"):
        check(configured(*overrides, "clipper=global_norm"))


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_does_not_end_the_training(
    configured: Configured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def without(self: VectorField, *args: object) -> ComplexRitz:
        raise FloatingPointError("a product with the operator is not finite")

    twice = ("total_images=64", "logging.draw_interval=32", "measurements.eigenvalues=4")
    cfg = configured(*QUICK, *RUNS["points"], *twice)
    monkeypatch.setattr(VectorField, "eigenvalues", without)
    trained(tmp_path / "run", cfg)
    assert {path.stem for path in (tmp_path / "run" / "media").glob("*.png")} >= {"samples", "logits"}
    assert "left out" not in capsys.readouterr().out  # what a game that diverged has not, is no mistake
    monkeypatch.setattr(Measurements, "draw", without)
    trained(tmp_path / "other", cfg)
    for directory in ("run", "other"):
        assert json.loads((tmp_path / directory / "summary.json").read_text())["status"] == "finished"
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert said == ["left out, and the training goes on: pictures: a product with the operator is not finite"]
