"""Rules about descents on planted signals, and on descents of which it is known what is wrong."""

import json
import math
from dataclasses import replace

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import config_dir
from core.descend.batches import Full
from core.descend.diagnosis import RULES_OF_OBJECTIVE, Diverged, Flat, Unmoved, WorseHeldOut, larger_batch
from core.descend.objective_descent import ObjectiveDescent
from core.descend.objectives import DeepLinear
from core.diagnosis.learning import LossMaximised
from core.diagnosis.signals import History
from core.run.tensorboard import read_scalars
from tests.signals import Fault, context, found_where_and_when_it_is, ids, remedied, remedy_is_taken, watch
from tests.thinned import thinned

pytestmark = pytest.mark.usefixtures("blank_figures")

FAULTS = [
    Fault("descend", "oscillation", {"gradient/cosine": -0.8}, overrides=("optimizer=sgd",)),
    Fault("descend", "saddle", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": -4.0},
          overrides=("optimizer=sgd",)),
    Fault("descend", "plateau", {"descent/value": 0.7, "gradient/norm": 1e-05, "curvature/lowest": 0.0,
          "curvature/sharpness": 0.0001}, overrides=("optimizer=sgd",)),
    Fault("classes", "plateau", {"loss/train": 2.3, "layer/0.weight/gradient_norm": 0.02},
          overrides=("optimizer=sgd",)),
    Fault("classes", "diverged", {"loss/train": 400.0, "gradient/norm": 1.0}, severity="error"),
    Fault("classes", "loss_maximised", {"loss/train": lambda n: -1.1 ** n}, severity="error"),
    Fault("descend", "exploding_gradient", {"gradient/norm": 900.0, "descent/value": lambda n: 1.1 ** n},
          overrides=("optimizer=sgd",)),
    Fault("classes", "exploding_gradient", {"gradient/norm": 900.0, "loss/train": lambda n: 1.05 ** n},
          overrides=("optimizer=sgd",)),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_a_planted_fault_is_found_where_and_when_it_is_and_closes_when_it_goes(fault):
    found_where_and_when_it_is(fault)


@pytest.mark.parametrize("fault", FAULTS, ids=ids(FAULTS))
def test_the_remedy_is_overrides_that_the_configuration_takes(fault):
    remedy_is_taken(fault)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("gradient", "lowest", "sharpness", "wanted"),
    [(1e-5, -4.0, 4.0, ["saddle"]), (1e-4, 0.0, 1e-4, ["plateau"]), (1e-9, 2.0, 2.0, [])],
)
def test_flat_ground_is_told_in_any_unit_of_the_function(unit, gradient, lowest, sharpness, wanted):
    planted = {"gradient/norm": gradient, "curvature/lowest": lowest, "curvature/sharpness": sharpness}
    history = History()
    for step in range(10):
        fall = 2.0**-step if step < 3 else 0.0
        values = planted | {"descent/value": 0.7 + fall}
        history.add(step, {tag: unit * value for tag, value in values.items()})
    assert [sign.name for sign in Flat(points=5)(history, context("descend"))] == wanted


def test_a_point_of_the_plane_may_move_by_more_than_its_length():
    planted = {"gradient/update_ratio": 0.5, "gradient/norm": 2.0}
    assert watch(context("descend"), "descend", planted)[0] == []
    findings, _ = watch(context("classes"), "classes", planted)
    assert [f.name for f in findings] == ["update_too_large"]


def names(kind, planted, overrides=("optimizer=sgd",), **how):
    return [(f.name, f.severity) for f in watch(context(kind, overrides), kind, planted, **how)[0]]


@pytest.mark.parametrize("lowest", [8.0, 1e-3], ids=["steep", "shallow"])
def test_a_minimum_that_is_reached_exactly_is_no_fault(lowest):
    there = {"descent/value": 0.0, "gradient/norm": 0.0, "curvature/lowest": lowest}
    assert names("descend", there | {"curvature/sharpness": 2 * lowest, "gradient/cosine": None}) == []


def test_no_gradient_on_a_plateau_is_one():
    flat = {"descent/value": 0.7, "gradient/norm": 0.0, "curvature/lowest": 0.0, "curvature/sharpness": 0.0}
    assert names("descend", flat) == [("plateau", "warning")]


def test_no_gradient_of_a_loss_that_is_left_is_an_error_and_of_none_that_is_left_is_none():
    nothing = {"gradient/norm": 0.0, "gradient/update_ratio": 0.0}
    assert names("classes", nothing | {"loss/train": 0.1}) == [("vanishing_gradient", "error")]
    assert names("classes", nothing | {"loss/train": 0.0}) == []


def test_a_gradient_that_grows_on_the_way_down_from_a_saddle_does_not_explode():
    def leaving(n):  # as exp(n / 3) for as long as the saddle is near
        return 1e-8 * math.exp(min(n, 60) / 3)

    down = {"gradient/norm": leaving, "descent/value": lambda n: 13.3 - leaving(n)}
    assert "exploding_gradient" not in [name for name, _ in names("descend", down, start=1, end=80)]


def test_the_turning_of_a_gradient_that_is_rounding_is_no_oscillation():
    turning = {"gradient/cosine": -0.9, "gradient/update_cosine": -0.5}
    assert names("descend", turning | {"gradient/norm": 1e-14, "descent/value": 1.0}) == []
    assert names("descend", turning) == [("oscillation", "warning")]


def test_an_optimizer_that_leaves_saddles_by_itself_is_only_told_that_it_is_at_one():
    saddle = {"descent/value": 0.7, "gradient/norm": 1e-5, "curvature/lowest": -4.0}
    assert names("descend", saddle, ("optimizer=perturbed_sgd",)) == [("saddle", "note")]


def found(directory, *words):
    """Names of the findings of a descent."""
    given = ["optimizer=sgd", *words, "pictures=[]", "logging.progress=false"]
    assert execute(compose_tree("descend", given, [config_dir()])[0], directory) == 0
    findings = json.loads((directory / "findings.json").read_text())["findings"]
    return [f["name"] for f in findings]


@pytest.mark.slow
def test_what_the_deep_networks_are_there_to_show_is_found(tmp_path):
    deep = ["objective=deep_sigmoid", "objective.depth=12", "optimizer=adam", "steps=40"]
    assert found(tmp_path / "deep", *deep) == ["vanishing_gradient"]
    assert found(tmp_path / "sgd", "objective=deep_sigmoid", "steps=150") == ["plateau"]
    wide = ["objective=deep_linear", "objective.gain=1.5", "optimizer=adam", "steps=30"]
    assert found(tmp_path / "wide", *wide) == ["exploding_gradient"]


@pytest.mark.parametrize(
    ("function", "optimizer"),
    thinned([("himmelblau", "rmsprop"), ("six_hump_camel", "adam"), ("ackley", "adam")]),
)
def test_a_descent_that_settles_in_a_minimum_has_no_findings(tmp_path, function, optimizer):
    assert found(tmp_path, f"function={function}", f"optimizer={optimizer}", "logging.interval=5") == []


@pytest.mark.parametrize(("batch", "noisy"), [("full", False), ("minibatch", True)])
def test_a_gradient_of_all_samples_is_not_told_that_it_is_noise(tmp_path, batch, noisy):
    """Near the minimum of a convex loss every batch is noise but the one that has them all."""
    assert (
        "noise_dominated" in found(tmp_path, "objective=logistic", f"batch={batch}", "steps=300")
    ) is noisy
    tags = read_scalars(tmp_path)
    assert "full_gradient/noise_scale" in tags
    assert ("gradient/noise_scale" in tags) is noisy


def test_weights_that_are_too_large_from_the_start_are_named_with_the_gain_that_is_not():
    """A network of zeros has half the squared length of a unit vector, 1/2, as its loss."""
    limits = {
        gain: ObjectiveDescent(DeepLinear(gain=gain), Full(), None, 1, torch.device("cpu")).limits
        for gain in (1.0, 1.5)
    }
    assert [found["loss_of_zeros"] for found in limits.values()] == [0.5, 0.5]
    # Each of the ten matrices stretches by 1.5 on average, and the loss grows with the square of the output.
    assert limits[1.5]["first_loss"] == pytest.approx(1.5**20 * limits[1.0]["first_loss"], rel=0.2)
    for gain, found in limits.items():
        where = context("classes", ("objective=deep_linear", f"objective.gain={gain}"))
        loss = {"loss/train": lambda n: 400.0 / n**2}  # below 1/2 from the 29th point on
        seen, _ = watch(replace(where, limits=found), "classes", loss, start=1, end=80)
        assert [(f.name, f.remedy, f.last_step) for f in seen] == [
            ("exploding_gradient", ("objective.gain=1",), 2800)
        ] * (gain == 1.5)


@pytest.mark.parametrize(
    ("trained", "held_out", "said"),
    [
        (0.02, 0.5, True),
        (0.02, 0.45, False),  # 0.2 of a loss of zeros of 2.3
        (0.06, 0.59, False),  # ten times the loss in training
        (0.06, 0.61, True),
        (0.12, 5.0, False),  # not known by heart
    ],
)
def test_samples_known_by_heart_are_named_by_those_held_out(trained, held_out, said):
    history = History()
    for step in range(4):
        history.add(step, {"loss/train": trained, "loss/held_out": held_out})
    found = list(WorseHeldOut()(history, context("classes")))
    assert [sign.kinds for sign in found] == [("data", "regularisation")] * said


def test_a_held_out_loss_that_still_falls_is_none():
    history = History()
    for step in range(4):
        history.add(step, {"loss/train": 0.02, "loss/held_out": 2.0 * 0.9**step})
    assert not list(WorseHeldOut()(history, context("classes")))


@pytest.mark.parametrize(("right", "said"), [(0.1, True), (0.3, False)])
def test_a_negative_loss_is_maximised_where_nothing_is_predicted_any_better(right, said):
    """Log-likelihoods may be negative from the start; then samples are classified better and better."""
    history = History()
    for step, share in enumerate((0.1, right, right)):
        history.add(step, {"loss/train": -(5.0**step), "accuracy/train": share})
    where = replace(context("classes"), limits={"loss_of_zeros": -2.3})
    rule = next(rule for rule in RULES_OF_OBJECTIVE if isinstance(rule, LossMaximised))
    assert [sign.name for sign in rule(history, where)] == ["loss_maximised"] * said


@pytest.mark.parametrize(
    ("mistake", "finding"),
    [("bytes", "unscaled_inputs"), ("zeros", "equal_units"), ("negative", "loss_maximised")],
)
def test_what_a_descent_meets_and_begins_with_is_named(tmp_path, mistake, finding):
    given = f"objective._target_=core.scripts.suites.mistakes.MistakenMoons +objective.mistake={mistake}"
    assert finding in found(tmp_path, "objective=moons", *given.split(), "steps=60")


@pytest.mark.parametrize(
    ("first", "steps", "kinds"),
    [
        (0.03, 1e-3, ("labels", "data")),
        (0.02, 1e-3, ("optimizer", "labels")),
        (0.03, 4e-4, ("optimizer", "labels")),
    ],
)
def test_a_loss_that_stands_while_all_weights_move_is_one_of_the_labels(first, steps, kinds):
    """The last weight's gradient is 0.5, and 5 % of it are 0.025."""
    planted = {"loss/train": 2.3, "layer/0.weight/gradient_norm": first, "gradient/update_ratio": steps}
    found, _ = watch(context("classes", ("optimizer=sgd",)), "classes", planted, end=81)
    (plateau,) = [f for f in found if f.name == "plateau"]
    assert plateau.kinds == kinds
    assert bool(plateau.remedy) is (kinds[0] == "optimizer")


@pytest.mark.parametrize(
    ("course", "said"),
    [
        ((2.3,), True),
        ((0.32, 35_750.0), False),  # a rate that jumped
        ((1.8, 0.32, 16_000.0, 2.3), False),  # and where it has come back to
        ((1.8, 4.0), False),
        ((1.8, 3.0), True),
    ],
)
def test_a_loss_that_has_blown_up_stands_on_no_plateau(course, said):
    """Twice the first loss is above where it began, ten times has been a blow-up."""
    losses = [loss for loss in course[:-1] for _ in range(10)] + [course[-1]] * 10
    history = History()
    for point, loss in enumerate(losses):
        history.add(100 * (point + 1), {"loss/train": loss})
    where = context("classes", ("optimizer=momentum",), total=1000)
    assert [sign.name for sign in Unmoved()(history, where)] == ["plateau"] * said


@pytest.mark.parametrize(("first", "said"), [(20.0, True), (19.9, True), (0.32, False)])
def test_flat_ground_that_a_step_has_carried_a_descent_up_to_is_no_plateau(first, said):
    flat = {"gradient/norm": 1e-5, "curvature/lowest": 0.0, "curvature/sharpness": 1e-4}
    history = History()
    for step in range(10):
        history.add(step, flat | {"descent/value": first if step < 2 else 19.9})
    assert [sign.name for sign in Flat(points=5)(history, context("descend"))] == ["plateau"] * said


def test_a_rate_that_has_jumped_is_no_rate_too_low(tmp_path):
    """Steps of 2 % of the weights, by a schedule that multiplies the rate by 10,000, are not short."""
    jump = ("schedule._target_=core.scripts.suites.blowups.Jump", "schedule.scale=1e4")
    words = ("objective=digits_mlp", "batch=minibatch", "optimizer=sgd", "steps=300", *jump)
    names = found(tmp_path, *words)
    assert "diverged" in names
    assert {"plateau", "update_too_small"}.isdisjoint(names)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((2.3, 0.3, *(23.1,) * 5), True),
        ((2.3, 0.3, *(22.9,) * 5), False),  # below ten times the first loss
        ((2.3, *(100.0,) * 4, 0.3), False),  # it has come down
        ((*(100.0,) * 4,), False),  # four points in a row
    ],
)
def test_a_loss_that_stays_ten_times_above_the_first_has_diverged(losses, said):
    history = History()
    for point, loss in enumerate(losses):
        history.add(point + 1, {"loss/train": loss})
    where = context("classes", ("optimizer=momentum",))
    signs = list(Diverged()(history, replace(where, limits={"first_loss": 2.3})))
    assert [(sign.name, sign.severity, sign.remedy) for sign in signs] == (
        [("diverged", "error", ("optimizer.lr=0.001",))] * said
    )
    assert not list(Diverged()(history, replace(where, limits={"first_loss": -2.3})))


@pytest.mark.parametrize(
    ("objective", "batch", "wanted", "remedy"),
    [
        ("digits_mlp", "stochastic", 32, ("batch=minibatch", "batch.size=32")),
        ("digits_mlp", "minibatch", 64, ("batch.size=64",)),
        ("digits_mlp", "minibatch", 32, ()),
        ("digits_mlp", "full", 64, ()),
        ("moons", "minibatch", 256, ("batch.size=256",)),
        ("moons", "minibatch", 512, ("batch=full",)),
        ("moons", "stochastic", 512, ("batch=full",)),
    ],
)
def test_a_larger_batch_is_one_that_the_run_can_have(objective, batch, wanted, remedy):
    limits = {"train_samples": {"moons": 500.0, "digits_mlp": 1348.0}[objective]}
    where = replace(context("classes", (f"objective={objective}", f"batch={batch}")), limits=limits)
    assert larger_batch(where, where.players[0], wanted) == remedy
    assert larger_batch(context("descend"), context("descend").players[0], wanted) == ()
    remedied("classes", (f"objective={objective}", f"batch={batch}"), remedy)


def test_of_single_samples_noise_is_met_with_the_usual_few(tmp_path):
    words = ("objective=digits_mlp", "batch=stochastic", "optimizer=sgd", "optimizer.lr=0.01", "steps=100")
    assert "noise_dominated" in found(tmp_path, *words)
    (seen,) = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert seen["remedy"] == ["batch=minibatch", "batch.size=32"]
    descent = ObjectiveDescent(DeepLinear(), Full(), None, 1, torch.device("cpu"))
    assert descent.limits["train_samples"] == len(descent.data.x)
