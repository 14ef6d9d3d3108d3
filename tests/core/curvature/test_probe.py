"""The curvature probe and the classification of large points, on networks whose dense Hessian is known."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian as dense_hessian
from torch.autograd.functional import jacobian
from torch.nn.functional import cross_entropy

from core.curvature import CurvatureProbe, Hessian, classify_point, twice_differentiable
from core.gradients import GradientStep, Objective


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def setting(optimizer=torch.optim.SGD, dtype=torch.float64, **options):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 2))
    module.to(dtype)
    x, y = torch.randn(32, 3, dtype=dtype), torch.randint(2, (32,))
    objective = Objective(module, lambda forward, x, y: cross_entropy(forward(x), y), (x, y))
    step = GradientStep(module, optimizer(module.parameters(), **{"lr": 0.1, **options}))
    return module, objective, step, lambda: (cross_entropy(module(x), y), {})


def dense(objective: Objective):
    """Gradient and Hessian of an objective, by torch."""
    sizes = [p.numel() for p in objective.parameters]

    def function(vector):
        pieces = vector.split(sizes)
        shaped = [piece.view(p.shape) for piece, p in zip(pieces, objective.parameters, strict=True)]
        return objective(dict(zip(objective.names, shaped, strict=True)))

    point = torch.cat([p.detach().flatten() for p in objective.parameters])
    return jacobian(function, point), dense_hessian(function, point)


def test_every_tag_is_what_the_dense_hessian_says():
    _, objective, step, closure = setting(momentum=0.9)
    for _ in range(3):
        step(closure)
    g, h = dense(objective)
    eigenvalues = torch.linalg.eigvalsh(h)
    probe = CurvatureProbe(lanczos_steps=37, trace_products=120)
    found = probe(objective, step, rng())
    bend = float(g @ h @ g)
    expected = {
        "sharpness": float(eigenvalues[-1]),
        "lowest": float(eigenvalues[0]),
        "along_gradient": bend / float(g @ g),
        "newton_step": float(g @ g) / bend,
        "trace": float(h.trace()),
        "stability": float(eigenvalues[-1]) * 0.1 / 3.8,
        "predicted_decrease": 0.1 * float(g @ g) - 0.005 * bend,
    }
    assert bend > 0
    share = found.pop("curvature/negative_share")
    assert found == {f"curvature/{name}": pytest.approx(v, rel=1e-6) for name, v in expected.items()}
    short = CurvatureProbe(lanczos_steps=37)
    shares = [short(objective, step, rng(s))["curvature/negative_share"] for s in range(1, 40)]
    true_share = float((eigenvalues < -1e-2 * eigenvalues.abs().max()).double().mean())
    assert 0 <= share <= 1
    assert true_share > 0.1
    assert sum(shares) / len(shares) == pytest.approx(true_share, abs=0.05)


def test_with_adam_the_preconditioned_sharpness_and_step_count():
    _, objective, step, closure = setting(torch.optim.Adam, lr=0.01)
    for _ in range(4):
        step(closure)
    g, h = dense(objective)
    state = [step.optimizer.state[p] for p in step.parameters]
    v = torch.cat([s["exp_avg_sq"].flatten() for s in state]) / (1 - 0.999**4)
    inverse = 1 / ((1 - 0.9**4) * (v.sqrt() + 1e-8))
    sharpness = float(torch.linalg.eigvals(inverse.diag() @ h).real.max())
    found = CurvatureProbe(lanczos_steps=37)(objective, step, rng())
    assert found["curvature/stability"] == pytest.approx(sharpness * 0.01 / 38, rel=1e-6)
    d = -0.01 * inverse * g
    assert found["curvature/predicted_decrease"] == pytest.approx(-float(g @ d + d @ h @ d / 2), rel=1e-6)
    plain = CurvatureProbe(lanczos_steps=37, stability=False)(objective, step, rng())
    assert plain == {k: found[k] for k in found if k.split("/")[1] not in ("stability", "predicted_decrease")}


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.NAdam, {}),
    ],
)
def test_a_run_is_the_same_to_the_bit_with_the_probe_and_without_it(optimizer, options):
    def run(probe: CurvatureProbe | None):
        module, objective, step, closure = setting(optimizer, torch.float32, **options)
        torch.manual_seed(7)
        for _ in range(4):
            step.compute(closure)
            gradients = [p.grad.clone() for p in step.parameters]
            if probe is not None:
                probe(objective, step, rng())
            assert all(torch.equal(a, p.grad) for a, p in zip(gradients, step.parameters, strict=True))
            step.apply(closure)
        assert module.training
        return [*module.state_dict().values(), torch.random.get_rng_state()]

    with_probe, without = run(CurvatureProbe(trace_products=6)), run(None)
    assert all(torch.equal(a, b) for a, b in zip(with_probe, without, strict=True))


def test_an_optimizer_without_a_known_threshold_loses_two_tags_and_no_other():
    _, objective, step, closure = setting(torch.optim.NAdam)
    step(closure)
    found = CurvatureProbe()(objective, step, rng())
    assert set(found) >= {"curvature/sharpness", "curvature/lowest", "curvature/along_gradient"}
    assert not set(found) & {"curvature/stability", "curvature/predicted_decrease"}


def test_a_loss_that_is_not_finite_has_no_curvature():
    module, objective, step, _ = setting()
    with torch.no_grad():
        module[0].weight.fill_(torch.nan)
    assert CurvatureProbe()(objective, step, rng()) == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [("interval", 0), ("lanczos_steps", 1), ("trace_products", 5), ("trace_products", -1)],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        CurvatureProbe(**{option: value})


def test_attention_is_measured_by_kernels_that_have_a_second_derivative():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(3, 4, 8)

    def loss(forward, x):
        return forward(x, x, x)[0].square().mean()

    objective = Objective(attention, lambda forward, x: loss(forward, x), (x,))
    step = GradientStep(attention, torch.optim.SGD(attention.parameters(), lr=0.1))
    assert CurvatureProbe(lanczos_steps=3)(objective, step, rng())["curvature/sharpness"] > 0
    with twice_differentiable(nn.LSTM(2, 2)):
        assert not torch.backends.cudnn.enabled
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cudnn.enabled
    assert torch.backends.cuda.flash_sdp_enabled()


def at(function, *point: float):
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    return Hessian(function(x), [x])


def test_points_of_known_kind():
    def camel(x):
        a, b = x.square()
        return (4 - 2.1 * a + a * a / 3) * a + x[0] * x[1] + (4 * b - 4) * b

    kinds = {
        "minimum": at(camel, 0.0898420131, -0.7126564030),
        "saddle": at(camel, 0.0, 0.0),
        "slope": at(camel, 0.5, 0.5),
        "maximum": at(lambda x: -x.square().sum(), 0.0, 0.0),
        "degenerate": at(lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, 0.0, 0.0),
    }
    assert {kind: classify_point(h, rng()).kind for kind, h in kinds.items()} == {k: k for k in kinds}
    flat = classify_point(at(lambda x: x[0] ** 2 + x[1] ** 4, 0.0, 0.0), rng())
    assert (flat.kind, flat.converged) == ("degenerate", True)


@pytest.mark.parametrize(
    ("lowest", "highest", "kind"),
    [(-1.1e-3, 10.0, "saddle"), (-0.9e-3, 10.0, "degenerate"), (0.9e-3, 10.0, "degenerate"),
     (1.1e-3, 10.0, "minimum"), (-10.0, 1.1e-3, "saddle"), (-10.0, 0.9e-3, "degenerate"),
     (-10.0, -0.9e-3, "degenerate"), (-10.0, -1.1e-3, "maximum")],
)  # fmt: skip
def test_an_eigenvalue_counts_beyond_eps_of_the_largest_magnitude(lowest, highest, kind):
    """The border is at 1e-4 * 10 on either side of zero."""
    found = classify_point(at(lambda x: 0.5 * (lowest * x[0] ** 2 + highest * x[1] ** 2), 0.0, 0.0), rng())
    assert found.kind == kind


def test_a_minimum_is_not_claimed_before_the_lowest_eigenvalue_is_known():
    curvatures = torch.cat([torch.linspace(0.5, 100, 200), torch.tensor([-0.3])]).double()
    x = torch.zeros(201, dtype=torch.float64, requires_grad=True)
    hessian = Hessian(0.5 * (curvatures * x.square()).sum(), [x])
    early, late = classify_point(hessian, rng(), steps=4), classify_point(hessian, rng(), steps=201)
    assert early.lowest > 0
    assert (early.kind, early.converged) == ("degenerate", False)
    assert (late.kind, late.converged) == ("saddle", True)
    assert late.lowest == pytest.approx(-0.3, abs=1e-2)


def test_a_saddle_of_a_float32_network_is_found_with_the_way_out_of_it():
    """A network of zeros stands at a saddle: hidden and output weights can only grow together."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1, bias=False))
    for p in module.parameters():
        nn.init.zeros_(p)
    x = torch.randn(64, 20)
    objective = Objective(module, lambda forward, x: (forward(x) - x[:, :1].sin()).square().mean(), (x,))
    hessian = Hessian(objective(), objective.parameters)
    found = classify_point(hessian, rng())
    assert (found.kind, found.converged) == ("saddle", True)
    assert found.lowest == pytest.approx(-found.sharpness, rel=1e-3)
    for length in (-0.1, 0.1):
        pieces = hessian.layout.split(length * found.escape)
        moved = dict(zip(objective.names, pieces, strict=True))  # all parameters are zero
        change = float((objective(moved) - objective()).detach())
        assert change == pytest.approx(0.5 * length**2 * found.lowest, rel=0.05)


def test_classification_that_has_no_answer_is_refused():
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        classify_point(at(lambda x: x.sum() * float("inf"), 1.0), rng())
    with pytest.raises(ValueError, match="eps must be"):
        classify_point(at(lambda x: x.square().sum(), 1.0), rng(), eps=0.0)
