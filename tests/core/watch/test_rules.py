"""Loops with one fault each, and the healthy loop just on the other side of the border."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core import Watch
from tests.core.watch.loops import alarms, classes, classifier, named, train

pytestmark = pytest.mark.usefixtures("blank_figures")

STEPS = 40


def adam(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def watched(model, loss, data, optimizer=None, each=lambda step: None) -> Watch:
    """The loop of everybody, watched to its end."""
    optimizer = optimizer or adam(model)
    watch = Watch(model, optimizer, loss=loss)
    train(model, optimizer, loss, watch, data, each)
    return watch


def test_a_healthy_classifier_raises_no_alarm():
    watch = watched(classifier(), nn.CrossEntropyLoss(), classes(300))
    assert alarms(watch) == set()


@pytest.mark.parametrize("place", ["before forward", "before backward", "after step", "model", "zeros"])
def test_wherever_the_gradient_is_cleared_it_is_cleared(place):
    model = classifier()
    optimizer = adam(model)
    watch = Watch(model, optimizer)
    for x, y in classes(STEPS):
        if place == "before forward":
            optimizer.zero_grad()
        value = cross_entropy(model(x), y)
        if place in ("before backward", "zeros"):
            optimizer.zero_grad(set_to_none=place != "zeros")
        value.backward()
        optimizer.step()
        if place == "after step":
            optimizer.zero_grad()
        if place == "model":
            model.zero_grad()
    watch.close()
    assert alarms(watch) == set()


def test_gradients_that_are_never_cleared_are_named_within_ten_steps():
    model = classifier()
    optimizer = adam(model)
    watch = Watch(model, optimizer)
    for x, y in classes(10):
        cross_entropy(model(x), y).backward()
        optimizer.step()
    found = named(watch)["gradients_not_cleared"]
    assert found.evidence["gradient/carried"] == pytest.approx(1.0)
    assert (found.severity, found.kinds, found.remedy) == (
        "error", ("zero_grad",), ("call optimizer.zero_grad() after optimizer.step(), once every step",),
    )  # fmt: skip
    assert found.first_step <= 6


def test_gradients_that_another_loss_reaches_before_they_are_cleared_are_healthy():
    # A game: the generator's loss goes through the discriminator, whose gradient is cleared only later.
    players = {"g": nn.Linear(2, 2), "d": nn.Linear(2, 1)}
    optimizers = {name: adam(net) for name, net in players.items()}
    watch = Watch(players, optimizers)
    torch.manual_seed(0)
    for _ in range(STEPS):
        for name, sign in (("d", 1.0), ("g", -1.0)):
            optimizers[name].zero_grad()
            (sign * players["d"](players["g"](torch.randn(16, 2))).tanh().mean()).backward()
            optimizers[name].step()
    watch.close()
    assert "gradients_not_cleared" not in named(watch)
    assert "no_gradient" not in named(watch)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_between_backward_and_step_is_named(set_to_none):
    model = classifier()
    optimizer = adam(model)
    watch = Watch(model, optimizer)
    for x, y in classes(STEPS):
        cross_entropy(model(x), y).backward()
        optimizer.zero_grad(set_to_none=set_to_none)
        optimizer.step()
    watch.close()
    found = named(watch)["no_gradient"]
    assert found.kinds == ("zero_grad",)
    assert found.evidence["gradient/lost"] == 1.0
    assert "before loss.backward()" in found.remedy[0]


def test_a_loss_of_another_model_is_named():
    model, other = classifier(), classifier()
    optimizer = adam(model)
    watch = Watch(model, optimizer)
    for x, y in classes(STEPS):
        optimizer.zero_grad()
        cross_entropy(other(x), y).backward()
        optimizer.step()
    watch.close()
    found = named(watch)["no_gradient"]
    assert found.kinds == ("loss", "stale_optimizer")
    assert found.evidence == {"gradient/absent": 1.0}


def test_a_part_that_was_replaced_after_the_optimizer_was_made_is_stale_and_never_moved():
    model = classifier()
    optimizer = adam(model)
    model[2] = nn.Linear(32, 3)
    watch = watched(model, nn.CrossEntropyLoss(), classes(STEPS), optimizer)
    found = named(watch)
    assert found["stale_parameters"].evidence == {"stale": 2.0, "held": 4.0}
    assert found["stale_parameters"].severity == "warning"
    assert found["unoptimized_parameters"].layer == "2.weight"
    assert found["unoptimized_parameters"].evidence == {
        "parameters": 2.0, "with_gradient": 2.0, "share": pytest.approx(99 / (99 + 8 * 32 + 32)),
    }  # fmt: skip


def test_a_frozen_body_and_a_loss_with_parameters_of_its_own_are_healthy():
    model = classifier()
    model[0].requires_grad_(False)
    scale = nn.Parameter(torch.ones(()))  # of the loss: in the optimizer, in no model
    optimizer = torch.optim.Adam([*model.parameters(), scale], lr=3e-3)
    watch = Watch(model, optimizer)
    for x, y in classes(STEPS):
        optimizer.zero_grad()
        cross_entropy(scale * model(x), y).backward()
        optimizer.step()
    watch.close()
    assert alarms(watch) == set()
    assert set(named(watch)) == {"frozen_layer"}


HEADS = {
    "softmax twice": (nn.CrossEntropyLoss(), nn.Softmax(dim=1), 3, "output/probabilities"),
    "scores for NLL": (nn.NLLLoss(), nn.Identity(), 3, "output/log_probabilities"),
    "one class": (nn.CrossEntropyLoss(), nn.Identity(), 1, "output/classes"),
}


@pytest.mark.parametrize("case", HEADS)
def test_outputs_that_do_not_fit_their_loss_are_named(case):
    loss, head, outputs, evidence = HEADS[case]
    data = ((x, y.clamp(max=outputs - 1)) for x, y in classes(STEPS))
    watch = watched(classifier(head, outputs=outputs), loss, data)
    assert evidence in named(watch)["output_does_not_fit_loss"].evidence


@pytest.mark.parametrize(
    ("loss", "head"),
    [(nn.CrossEntropyLoss(), nn.LogSoftmax(dim=1)), (nn.NLLLoss(), nn.LogSoftmax(dim=1))],
    ids=["cross-entropy of log-softmax", "NLL of log-softmax"],
)  # fmt: skip
def test_outputs_that_fit_are_not(loss, head):
    watch = watched(classifier(head), loss, classes(STEPS))
    assert "output_does_not_fit_loss" not in named(watch)


@pytest.mark.parametrize("head", [nn.Sigmoid(), nn.Identity()])
def test_a_sigmoid_before_bce_with_logits_is_taken_twice(head):
    data = ((x, (y[:, None] > 0).float()) for x, y in classes(STEPS))
    watch = watched(classifier(head, outputs=1), nn.BCEWithLogitsLoss(), data)
    assert ("output_does_not_fit_loss" in named(watch)) == isinstance(head, nn.Sigmoid)


@pytest.mark.parametrize("squeezed", [False, True])
def test_predictions_and_targets_that_spread_over_each_other_are_named(squeezed, recwarn):
    model = classifier(*([nn.Flatten(0)] if squeezed else []), outputs=1)
    watch = watched(model, nn.MSELoss(), ((x, x[:, 0]) for x, _ in classes(STEPS)))
    found = named(watch).get("output_does_not_fit_loss")
    assert (found is None) == squeezed
    if found is not None:
        assert found.evidence == {"output/broadcast": 64.0}


@pytest.mark.parametrize("scale", [60.0, 40.0])
def test_inputs_of_a_large_scale_are_named(scale):
    watch = watched(classifier(), nn.CrossEntropyLoss(), classes(STEPS, scale=scale))
    assert ("unscaled_inputs" in alarms(watch)) == (scale > 50)
    if scale > 50:
        assert named(watch)["unscaled_inputs"].evidence["input/rms"] == pytest.approx(60, rel=0.1)


def test_a_norm_in_front_takes_any_scale():
    model = nn.Sequential(nn.BatchNorm1d(8), *classifier())
    watch = watched(model, nn.CrossEntropyLoss(), classes(STEPS, scale=1000.0))
    assert "unscaled_inputs" not in named(watch)


@pytest.mark.parametrize("same", [True, False])
def test_samples_that_are_all_the_same_are_named(same):
    data = ((x[:1].expand(64, -1) if same else x, y) for x, y in classes(STEPS))
    watch = watched(classifier(), nn.CrossEntropyLoss(), data)
    assert ("constant_inputs" in named(watch)) == same


@pytest.mark.parametrize("back", [True, False])
def test_training_in_evaluation_mode_is_named(back):
    model = classifier()
    model.insert(1, nn.Dropout(0.2))

    def each(step: int) -> None:
        if step == 20:
            model.eval()
            model.train(back)

    watch = watched(model, nn.CrossEntropyLoss(), classes(STEPS), each=each)
    assert ("trained_in_evaluation_mode" in named(watch)) == (not back)


@pytest.mark.parametrize("mode", [True, False])
def test_an_evaluation_in_training_mode_is_named(mode):
    model, loss = classifier(), nn.CrossEntropyLoss()
    model.insert(1, nn.BatchNorm1d(32))
    x, y = next(classes(1))

    def each(step: int) -> None:
        model.train(mode)
        with torch.no_grad():
            loss(model(x), y)
        model.train()

    watch = watched(model, loss, classes(STEPS), each=each)
    assert ("evaluated_in_training_mode" in named(watch)) == mode


def test_a_learning_rate_far_too_high_has_its_number_in_a_sentence():
    model = classifier()
    watch = watched(model, nn.CrossEntropyLoss(), classes(60), torch.optim.Adam(model.parameters(), lr=3.0))
    remedy = named(watch)["update_too_large"].remedy
    assert remedy == ("lower the learning rate from 3 to 0.003",)


def test_a_rule_of_ones_own_is_asked_like_ours():
    from core.diagnosis import Sign

    def plateau(history, context):
        if (history.last("loss/train") or 0.0) > 0.1:
            yield Sign(name="too_high", severity="note", evidence={"loss": 1.0}, what="it is high.", cause="")

    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = adam(model)
    watch = Watch(model, optimizer, loss=loss, rules=[plateau])
    train(model, optimizer, loss, watch, classes(STEPS))
    assert "too_high" in named(watch)


def test_a_function_is_heard_through_the_watch():
    model = classifier(nn.Softmax(dim=1))
    optimizer = adam(model)
    watch = Watch(model, optimizer, loss=cross_entropy)
    heard = watch.loss
    assert heard is not None
    for x, y in classes(STEPS):
        optimizer.zero_grad()
        heard(model(x), y).backward()
        optimizer.step()
    watch.close()
    assert "output_does_not_fit_loss" in named(watch)


def test_the_long_steps_of_lbfgs_are_its_own_and_no_fault():
    model = classifier()
    x, y = next(classes(1, batch=256))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=10, line_search_fn="strong_wolfe")
    watch = Watch(model, optimizer)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = cross_entropy(model(x), y)
        value.backward()
        return value

    before = closure().item()
    for _ in range(20):
        optimizer.step(closure)
    watch.close()
    assert closure().item() < 0.1 * before
    assert alarms(watch) == set()


def summed(model, optimizer, spoilt, graph=True, scaler=None):
    """A loop whose loss is NaN at some steps, in its graph or beside it, watched to its end."""
    watch = Watch(model, optimizer, scaler=scaler)
    for step, (x, y) in enumerate(classes(STEPS), 1):
        optimizer.zero_grad()
        loss, odd = cross_entropy(model(x), y), float("nan") if step in spoilt else 1.0
        loss = loss * odd if graph else loss + torch.tensor(odd) * 0.0
        watch.log(loss=loss)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    watch.close()
    return watch


def test_a_loss_that_is_nan_is_named_at_once_and_nobody_claims_that_its_steps_were_skipped():
    model = classifier()
    found = named(summed(model, adam(model), {20}))["non_finite"]
    assert (found.severity, found.first_step) == ("error", 20)  # from there on the weights are NaN too
    assert found.evidence["skipped"] == 1.0
    assert "were skipped" not in found.what


def test_a_loss_that_is_nan_although_every_gradient_is_finite_is_a_warning():
    model = classifier()
    watch = summed(model, adam(model), {20, 24}, graph=False)
    found = named(watch)["non_finite"]
    assert (found.severity, found.first_step, found.evidence) == ("warning", 20, {"losses": 1.0})
    assert found.what == "loss/train is not finite, and every gradient is."
    assert not found.active
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("spoilt", "expected"), [(range(1, 5), False), ([step for step in range(6, 40) if step % 5], True)]
)
def test_under_a_loss_scaler_only_steps_that_overflow_point_after_point_are_a_fault(spoilt, expected):
    """It begins with too large a scale on purpose, and skips what overflows."""
    model = classifier()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    watch = summed(model, adam(model), set(spoilt), scaler=scaler)
    assert ("non_finite" in alarms(watch)) == expected
    assert all(p.isfinite().all() for p in model.parameters())
