"""Losses, networks, data and transforms of a user's own: each works, a wrong one is refused in one line."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from core.gradients.arguments import check_clipper
from core.run import checkpoint
from gradgan import load_generator
from gradgan.game.players import make_players
from gradgan.images import Images
from tests import own_parts
from tests.conftest import assert_refused

pytestmark = pytest.mark.usefixtures("blank_figures")

POINTS = ["data=ring", "network.width=8", "network.depth=1", "total_images=256", "batch_size=32",
          "latent_size=4", "evaluation.samples=32", "logging.progress=false", "device=cpu"]  # fmt: skip
PICTURES = ["network=mlp", "network.width=8", "network.depth=1", "total_images=256", "batch_size=32",
            "latent_size=4", "evaluation.samples=32", "logging.progress=false", "device=cpu"]  # fmt: skip

FAULTS = {
    "loss": {
        "NoLoss": "loss._target_ must name a class of the kind gradgan.losses.Loss, got "
        "'tests.own_parts.NoLoss': it is no dataclass",
        "HalfLoss": "it has no generator_uses_real, no generator",
        "VectorLoss": "generator must return a scalar with a gradient, got a tensor [3]",
        "NumberLoss": "discriminator must return a scalar with a gradient, got float",
        "DetachedLoss": "discriminator must return a scalar with a gradient, got a tensor [] without one",
        "FailingLoss": "generator raised AttributeError: 'NoneType' object has no attribute 'mean'",
    },
    "network": {
        "NoBody": "it has no body",
        "WrongSamples": "the generator: forward of [3, 4] must return [3, 2] of float32, got [3, 3]",
        "FailingPair": "generator raised KeyError: 'width'",
        "FailingCheck": "check raised KeyError: 'shape'",
        "BodyAlone": "body must return a module and its number of features, got Sequential",
        "WrongFeatures": "body: forward of [3, 2] must return [3, 9] of float32, got [3, 8]",
        "MixingBody": "must follow from that sample alone, always alike",
    },
    "data": {
        "FloatImages": "load raised ValueError: train must be uint8 [N, C, H, W]",
        "WrongSize": "load must return Images of samples [1, 16, 16], got [96, 1, 8, 8]",
        "FlatShape": "shape must be (D,) for points or (C, H, W) for images, integers >= 1, got (8, 8)",
        "TooManyLabels": "labels must be 0 to 2, got 0 to 3",
        "FloatLabels": "labels must be int64 [32], one for each sample, got torch.float32 [32]",
        "UnexpectedLabels": "labels must be None where num_classes is None, got torch.int64 [32]",
        "FailingData": "load raised OSError: the disk is on fire",
        "NoImages": "load must return Images of samples [1, 8, 8], got Tensor",
        "Thawed": "its class must be a frozen dataclass",
    },
    "penalty": {
        "FailingPenalty": "raised AttributeError: 'ScoredBatch' object has no attribute 'logits'",
        "VectorPenalty": "the term penalty of the loss must be a scalar with a gradient",
        "NumberMetric": "the metric penalty/logits must be a tensor of one number",
    },
    "regularizer.mine": {"FailingAfter": "raised KeyError: 'nothing'"},
    "schedule": {
        "Backwards": "must return a multiplier >= 0, got -0.5 at progress 1.0",
        "FailingSchedule": "raised TypeError: FailingSchedule.__call__() takes 2 positional arguments but 4",
    },
    "clipper": {
        "FailingTransform": "raised AttributeError: 'list' object has no attribute 'clamp_'",
        "ShorterTransform": "must leave one gradient of its shape for each parameter",
        "SilentTransform": "must call gradients.changed() after it has changed them",
        "KeepsAnObject": "keeps what no checkpoint can hold: its state['mine'] is a builtins.object",
    },
}


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in FAULTS for name in FAULTS[group]])
def test_a_part_that_does_not_fit_is_refused_in_one_line(command, group, name):
    sizes = PICTURES if group == "data" else [w for w in POINTS if group != "network" or "network" not in w]
    outcome = command("gan", *sizes, f"{group}._target_=tests.own_parts.{name}")
    assert_refused(outcome, group, FAULTS[group][name])


def test_what_somebody_elses_code_raised_is_told_with_its_line(command):
    lines = Path(own_parts.__file__).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if "the disk is on fire" in line]
    outcome = command("gan", *PICTURES, "data._target_=tests.own_parts.FailingData")
    assert_refused(outcome, f"({own_parts.__file__}, line {number})")


@pytest.mark.parametrize(
    "words",
    [
        [*POINTS, "loss._target_=tests.own_parts.Margin", "loss.margin=0.5", "micro_batches=2"],
        [*POINTS, "schedule._target_=tests.own_parts.Steps"],
        [*POINTS, "penalty._target_=tests.own_parts.SmallLogits", "penalty.weight=1"],
        [*POINTS, "clipper._target_=tests.own_parts.Bound", "clipper.bound=0.1"],
        [*POINTS, "clipper={_target_: tests.own_parts.Bound}"],
        [*[w for w in POINTS if "network" not in w], "network._target_=tests.own_parts.Pair",
         "conditioning=projection"],
        [*PICTURES, "data._target_=tests.own_parts.Stripes", "conditioning=auxiliary"],
    ],
    ids=lambda words: words[-1],
)  # fmt: skip
@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_a_part_that_fits_is_trained_with(command, words):
    outcome = command("gan", *words, "hydra.run.dir=run")
    assert outcome.status == 0, outcome.err
    assert "left out" not in outcome.out
    summary = json.loads(Path("run", "summary.json").read_text())
    assert (summary["status"], summary["updates"]) == ("finished", 8)
    if "network._target_=tests.own_parts.Pair" in words:
        assert load_generator("run")(5, seed=0).shape == (5, 2)
        assert "body.0.weight" in checkpoint.load(Path("run/checkpoints/last.pt"))["discriminator"]


def test_the_weights_of_a_pair_of_ones_own_follow_from_the_runs_seed_alone():
    def weights(seed: int) -> list[torch.Tensor]:
        randoms = [torch.Generator().manual_seed(seed + player) for player in range(2)]
        players = make_players(own_parts.Pair(), None, 4, (2,), None, *randoms)
        return [p.detach() for player in players for p in player.parameters()]

    first = weights(0)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, weights(0), strict=True))
    assert not torch.equal(first[0], weights(7)[0])


def test_more_parts_are_added_by_name(command):
    words = ["probe=noise", "probe.mine._target_=core.curvature.CurvatureProbe", "probe.mine.interval=3"]
    outcome = command("gan", *POINTS, *words, "--cfg", "job", "-p", "probe")
    assert outcome.status == 0
    assert outcome.out.startswith("noise:")
    assert "mine:\n  _target_: core.curvature.CurvatureProbe\n  interval: 3" in outcome.out
    assert_refused(command("gan", "probe._target_=core.curvature.CurvatureProbe"), "probe.NAME._target_=")
    assert_refused(command("gan", "init_from._target_=a.B"), "init_from must be a string or null")
    assert_refused(command("gan", "resume._target_=a.B"), "unknown option resume._target_")
    assert_refused(command("gan", "penality._target_=a.B"), "did you mean penalty._target_?")


def test_both_parts_of_the_images_have_one_shape():
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    Images(train=images, held_out=images[:0], labels=None)
    with pytest.raises(
        ValueError, match=r"held_out must be uint8 .* of one shape in both parts; got torch.uint8"
    ):
        Images(train=images, held_out=torch.zeros(2, 1, 9, 9, dtype=torch.uint8), labels=None)


def test_a_transform_that_combines_losses_is_tried_too():
    @dataclasses.dataclass(frozen=True)
    class Mean:
        def combine(self, gradients, state):
            return [torch.stack(each).mean(0) for each in zip(*gradients.values(), strict=True)]

    class Longer(Mean):
        def combine(self, gradients, state):
            return [torch.zeros(7) for _ in super().combine(gradients, state)]

    check_clipper(Mean(), ["weight"])
    with pytest.raises(ValueError, match="must leave one gradient of its shape for each parameter"):
        check_clipper(Longer(), ["weight"])
