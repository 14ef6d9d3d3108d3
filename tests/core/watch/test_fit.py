"""Rules about outputs, targets and what is learnt, on loops of which it is known what is wrong."""

import math

import pytest
import torch
from torch import nn

from core import Watch
from core.watch.described import Constant, at_start, described, ending
from tests.core.watch.loops import alarms, classes, classifier, named, train

pytestmark = pytest.mark.usefixtures("blank_figures")

STEPS = 80


def watched(model, loss, data, lr=3e-3, **options):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, **options)
    watch = Watch(model, optimizer, loss=loss)
    train(model, optimizer, loss, watch, data)
    return watch


def quantities(steps, scale=1.0):
    return ((x, scale * (x[:, :1] + 0.5)) for x, _ in classes(steps))


def test_a_healthy_classifier_and_a_healthy_regression_raise_nothing():
    assert alarms(watched(classifier(), nn.CrossEntropyLoss(), classes(STEPS), lr=0.03)) == set()
    assert alarms(watched(classifier(outputs=1), nn.MSELoss(), quantities(STEPS), lr=0.03)) == set()


@pytest.mark.parametrize(
    ("last", "name"),
    [(torch.sigmoid, "sigmoid"), (torch.tanh, "tanh"), (torch.relu, "relu"),
     (nn.functional.softsign, "softsign"),
     (lambda x: x.softmax(1), "softmax"), (lambda x: x.sigmoid().view(3, 2).squeeze(), "sigmoid")],
)  # fmt: skip
def test_the_last_activation_is_read_from_the_graph(last, name):
    found = ending(last(torch.randn(3, 2, requires_grad=True)))
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize("last", [lambda x: x, lambda x: 2 * x.sigmoid(), lambda x: x / (1 + x.square())])
def test_what_is_no_activation_has_no_range(last):
    assert ending(last(torch.randn(3, 2, requires_grad=True))) is None


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.Softsign()])
def test_bounded_scores_do_not_fit_a_cross_entropy(last):
    found = named(watched(classifier(last), nn.CrossEntropyLoss(), classes(STEPS)))
    assert found["output_does_not_fit_loss"].kinds == ("activation",)


def test_a_softmax_over_one_output_is_constant_and_explains_that_nothing_is_learnt():
    data = ((x, (y[:, None] > 0).float()) for x, y in classes(STEPS))
    watch = watched(classifier(nn.Softmax(dim=1), outputs=1), nn.BCELoss(), data)
    first, *others = (f for f in watch.findings if f.severity != "note")
    assert (first.name, first.kinds) == ("output_does_not_fit_loss", ("activation",))
    assert "vanishing_gradient" in {f.name for f in others}
    assert {f.consequence_of for f in others} == {"output_does_not_fit_loss"}


def test_targets_that_a_loss_of_probabilities_or_an_activation_cannot_reach_are_counted():
    y = torch.tensor([[-0.5], [0.0], [0.5], [1.5]])
    logits = torch.zeros(4, 1, requires_grad=True)
    assert described("bce_with_logits", logits, y)["label/outside"] == 0.5
    assert described("elementwise", logits.relu(), y)["label/outside"] == 0.25
    assert "label/outside" not in described("elementwise", logits, y)


@pytest.mark.parametrize(
    ("rows", "found"),
    [([[0.0, 1.0], [1.0, 0.0]], 1.0), ([[0.0, 1.0], [1.0, 1.0]], 0.0), ([[0.5, 0.5], [1.0, 0.0]], 0.0),
     ([[0.0], [1.0]], 1.0), ([[1.0], [1.0]], 0.0)],
)  # fmt: skip
def test_one_hot_rows_and_single_bits_are_classes(rows, found):
    y = torch.tensor(rows)
    assert described("elementwise", torch.zeros_like(y), y)["label/of_classes"] == found


def test_the_best_constant_of_classes_has_the_entropy_of_their_frequencies():
    y = torch.tensor([0, 0, 0, 1])
    found = Constant(nn.CrossEntropyLoss()).loss(torch.randn(4, 3), y, {})
    assert found is not None
    assert found.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), rel=1e-4)


def test_the_best_constant_of_quantities_has_their_variance_and_counts_all_batches():
    constant, y = Constant(nn.MSELoss()), torch.tensor([[0.0], [4.0]])
    assert constant.loss(torch.zeros(2, 1), y, {}) == pytest.approx(4.0)
    # The mean of 0, 4, 8, 8 is 5.
    assert constant.loss(torch.zeros(2, 1), torch.tensor([[8.0], [8.0]]), {}) == pytest.approx(9.0)
    assert Constant(nn.TripletMarginLoss()).loss(y, y, {}) is None


def test_first_outputs_are_measured_by_their_deviation_within_a_row_or_by_the_targets():
    scores = torch.tensor([[100.0, 104.0], [-7.0, -3.0]])
    assert at_start("cross_entropy", scores, None) == pytest.approx(2.0)
    assert at_start("elementwise", torch.full((2, 1), 6.0), torch.full((2, 1), 3.0)) == pytest.approx(2.0)


def test_a_loss_that_is_maximised_is_an_error():
    model, loss = classifier(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with Watch(model, optimizer, loss=loss) as watch:
        for x, y in classes(STEPS):
            optimizer.zero_grad()
            (-loss(model(x), y)).backward()
            optimizer.step()
    assert watch.findings[0].name == "loss_maximised"
    assert watch.findings[0].kinds == ("loss",)


def test_equal_weights_stay_equal_and_are_named_with_their_layer():
    model = classifier()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    found = named(watched(model, nn.CrossEntropyLoss(), classes(STEPS)))["equal_units"]
    assert (found.layer, found.kinds) == ("0.weight", ("init",))


def test_a_last_layer_of_zeros_is_healthy():
    model = classifier()
    nn.init.zeros_(model[2].weight)
    watch = watched(model, nn.CrossEntropyLoss(), classes(STEPS), lr=0.03)
    assert "equal_units" not in named(watch)


def test_labels_that_do_not_depend_on_the_inputs_leave_the_loss_at_that_of_a_constant():
    random = torch.Generator().manual_seed(3)
    data = ((x, torch.randint(3, (64,), generator=random)) for x, _ in classes(400))
    found = named(watched(classifier(), nn.CrossEntropyLoss(), data, lr=0.01))["no_better_than_constant"]
    assert found.kinds == ("labels", "data")
    assert found.evidence["loss/constant"] == pytest.approx(math.log(3), rel=0.01)


def test_steps_that_are_too_short_for_the_run_are_named_at_its_end():
    watch = watched(classifier(), nn.CrossEntropyLoss(), classes(STEPS), lr=2e-4)
    last = [f for f in watch.findings if f.kinds[:1] == ("learning_rate",)]
    assert {f.first_step for f in last} == {STEPS}
    assert "raise the learning rate from 0.0002 to 0.002" in last[0].remedy


def test_eps_weight_decay_and_targets_out_of_scale_are_named_with_the_number_to_use():
    found = named(watched(classifier(), nn.CrossEntropyLoss(), classes(STEPS), eps=1.0))
    assert found["eps_too_large"].remedy == ("lower the eps from 1 to 1e-08",)
    found = named(watched(classifier(), nn.CrossEntropyLoss(), classes(STEPS), weight_decay=10.0))
    assert found["weight_decay_dominates"].remedy == ("lower the weight decay from 10 to 0.0001",)
    found = named(watched(classifier(outputs=1), nn.MSELoss(), quantities(STEPS, scale=1e3)))
    assert found["unscaled_targets"].kinds == ("preprocessing", "normalisation")
