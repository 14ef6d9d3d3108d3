"""Measuring changes nothing: a run with everything switched on is, to the bit, the run without."""

from pathlib import Path

import pytest
import torch

from core.cli.job import check, execute
from core.cli.launch import compose_tree
from core.config import config_dir
from core.run.tensorboard import read_scalars

pytestmark = pytest.mark.usefixtures("blank_figures")

TRAINED = ("policy", "generator", "discriminator", "average", "generators", "collector", "stream", "trainer")
RUNS = {
    "rl": ["total_steps=512", "num_envs=2", "agent.num_steps=64", "agent.num_epochs=2",
           "agent.num_minibatches=4", "evaluation.episodes=2", "evaluation.interval_episodes=2",
           "evaluation.num_envs=2"],
    "gan": ["data=ring", "total_images=1280", "batch_size=64", "network.width=16", "evaluation.samples=50"],
}  # fmt: skip
EVERYTHING = ["probe=[noise,curvature]", "probe.noise.interval=7", "probe.curvature.interval=5",
              "probe.curvature.trace_products=6", "monitor.sample_interval=2",
              "monitor.histogram_interval=3"]  # fmt: skip
NOTHING = ["monitor.sample_interval=100000", "monitor.histogram_interval=100000"]


def trained(name: str, overrides: list[str], directory: Path) -> tuple[dict, set[str]]:
    """What training changed, and the tags it wrote."""
    tree = compose_tree(name, [*RUNS[name], *overrides, "logging.progress=false"], [config_dir()])[0]
    assert execute(tree, directory) == 0
    state = torch.load(directory / "checkpoints" / "last.pt", weights_only=True)
    optimizers = {key: state[key]["optimizer"] for key in state if key.endswith("gradient_step")}
    return {k: v for k, v in state.items() if k in TRAINED} | optimizers, set(read_scalars(directory))


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_training_is_the_same_to_the_bit_with_monitor_and_probes_on_or_off(name, tmp_path):
    plain, _ = trained(name, NOTHING, tmp_path / "plain")
    watched, tags = trained(name, EVERYTHING, tmp_path / "watched")
    assert len(plain) >= 3
    assert [key for key in plain if not equal(plain[key], watched[key])] == []
    for prefix in ("",) if name == "rl" else ("generator/", "discriminator/"):
        assert {f"{prefix}{tag}" for tag in (
            "noise/noise_scale", "noise/norm_test", "curvature/sharpness", "curvature/lowest",
            "curvature/trace", "curvature/stability", "gradient/noise_scale", "gradient/update_cosine",
            "gradient/effective_lr",
        )} <= tags  # fmt: skip


def test_a_network_that_a_probe_cannot_measure_is_refused_before_anything_is_made():
    overrides = ["data=digits", "network=dcgan", "network.batch_norm=true", "probe=noise"]
    tree = compose_tree("gan", overrides, [config_dir()])[0]
    with pytest.raises(ValueError, match=r"probe=noise wants network\.batch_norm=false"):
        check(tree)
    check(compose_tree("gan", [*overrides[:3], "probe=curvature"], [config_dir()])[0])


def test_noise_of_a_loss_that_compares_its_samples_is_refused_before_anything_is_made():
    overrides = ["data=ring", "loss=relativistic_average", "probe=[noise,curvature]"]
    with pytest.raises(ValueError, match=r"probe=noise wants a loss that is the mean of its samples' own"):
        check(compose_tree("gan", overrides, [config_dir()])[0])
    check(compose_tree("gan", [*overrides[:2], "probe=curvature"], [config_dir()])[0])
