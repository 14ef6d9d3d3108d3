"""Every optimizer by name: it builds, descends, and says in one line what it cannot do."""

import copy
import importlib
import importlib.util
import inspect
import io
import warnings

import pytest
import torch
import yaml
from torch import nn

from core.config import Component, ConfigError, Tree, build, config_dir
from core.gradients import GlobalNorm, GradientStep, MonitorConfig
from core.optim.evaluation import evaluation_parameters
from core.optim.factory import build_optimizer, check_optimizer

CONF = config_dir()
NAMES = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
TORCH = {
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type)
    and issubclass(found, torch.optim.Optimizer)
    and found not in (torch.optim.Optimizer, torch.optim.SparseAdam)  # no network here has sparse gradients
}
MONITOR = MonitorConfig(sample_interval=1000)


def tree(name: str) -> Tree:
    """The options of a file, with the one interpolation there is resolved."""
    text = (CONF / "optimizer" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text.replace("${seed}", "1"))


def component(options: Tree) -> Component:
    built = build(options, "optimizer")
    assert isinstance(built, Component)
    return built


def of(target: type, **options: object) -> Component:
    return component({"_target_": f"{target.__module__}.{target.__qualname__}", **options})


class Quadratic(nn.Module):
    """0.5 sum a (w - 1)^2 over a matrix and a vector, or over the rows of a sparse embedding."""

    def __init__(self, sparse: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.sparse = sparse
        if sparse:
            self.tokens = nn.Embedding(4, 3, sparse=True)
            nn.init.zeros_(self.tokens.weight)
        else:
            self.weight = nn.Parameter(torch.zeros(4, 3, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(3, dtype=dtype))

    def forward(self) -> torch.Tensor:
        rows = self.tokens(torch.arange(4)) if self.sparse else self.weight
        curvature = torch.tensor([1.0, 2.0, 4.0], dtype=rows.dtype)
        loss = 0.5 * (curvature * (rows - 1).square()).sum()
        return loss if self.sparse else loss + 0.5 * (curvature * (self.bias - 1).square()).sum()


def step_of(model: nn.Module, chosen: Component) -> GradientStep:
    with warnings.catch_warnings(action="ignore"):
        optimizer = build_optimizer(chosen, model.named_parameters())
    clipper = [] if chosen.target is torch.optim.LBFGS else [GlobalNorm(max_norm=100.0)]
    return GradientStep(model, optimizer, clipper, monitor=MONITOR)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_by_name_decreases_a_quadratic_and_goes_on_from_its_state_to_the_bit(name):
    chosen = component(tree(name))
    model = Quadratic()
    step = step_of(model, chosen)
    begin = model().item()
    for _ in range(10):
        step(lambda: (model(), {}))
    assert model().item() < begin * (1 - 1e-6)
    twin = copy.deepcopy(model)
    other = step_of(twin, chosen)
    file = io.BytesIO()
    torch.save(step.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(5):
        step(lambda: (model(), {}))
        other(lambda: (twin(), {}))
        for scheduled in (step, other):
            scheduled.set_lr_scale(0.5)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_class_of_torch_has_a_file():
    targets = [
        line.split(":", 1)[1].strip().removeprefix("torch.optim.")
        for name in NAMES
        for line in (CONF / "optimizer" / f"{name}.yaml").read_text().splitlines()
        if "_target_: torch.optim." in line
    ]
    assert set(targets) == TORCH


@pytest.mark.parametrize("name", NAMES)
def test_a_file_agrees_with_torch_where_torch_would_say_so(name):
    """Each option of a file is one of the class; `groups` is ours and not a keyword of any of them."""

    def walk(node: Tree) -> None:
        if str(node.get("_target_", "")).startswith("torch.optim."):
            parameters = inspect.signature(getattr(torch.optim, node["_target_"].split(".")[-1])).parameters
            assert set(node) - {"_target_", "groups"} <= set(parameters)
            assert "groups" not in parameters
        for child in node.values():
            if isinstance(child, dict):
                walk(child)

    walk(tree(name))


# ---- kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_the_fused_kernel_is_chosen_and_its_step_runs(kind, dtype):
    model = Quadratic(dtype=dtype)
    step = step_of(model, of(kind, lr=0.1))
    assert step.optimizer.param_groups[0]["fused"] is True
    step(lambda: (model(), {}))
    assert (model.weight > 0).all()


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"groups": {"late": {"momentum": 0.9}}}])
def test_momentum_bears_a_parameter_whose_first_gradient_comes_late(options):
    early, late = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = build_optimizer(of(torch.optim.SGD, lr=0.1, **options), [("early", early), ("late", late)])
    for p in (early, late):
        for q in (early, late) if p is late else (early,):
            q.grad = torch.ones(3)
        optimizer.step()
    assert late.tolist() == pytest.approx([0.9] * 3)
    assert early.tolist() == pytest.approx([1 - 0.1 - 0.1 * (1.9 if "momentum" in options else 1.0)] * 3)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adagrad])
def test_a_sparse_embedding_is_trained_as_a_dense_one(kind):
    dense, sparse = Quadratic(), Quadratic(sparse=True)
    dense.bias.requires_grad_(False)
    dense.forward = lambda: 0.5 * (torch.tensor([1.0, 2.0, 4.0]) * (dense.weight - 1).square()).sum()
    for model in (dense, sparse):
        step = step_of(model, of(kind, lr=0.1))
        for _ in range(3):
            step(lambda model=model: (model(), {}))
        copied = step_of(model, of(kind, lr=0.1))
        copied.load_state_dict(step.state_dict())
        copied(lambda model=model: (model(), {}))
    torch.testing.assert_close(sparse.tokens.weight, dense.weight)


def test_fused_is_left_out_where_there_is_no_kernel_and_the_users_choice_stands():
    z = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    assert build_optimizer(of(torch.optim.Adam), [("z", z)]).param_groups[0]["fused"] is None
    p = nn.Parameter(torch.zeros(2))
    assert build_optimizer(of(torch.optim.Adam, fused=False), [("p", p)]).param_groups[0]["fused"] is False
    assert "fused" not in build_optimizer(of(torch.optim.RMSprop), [("p", p)]).param_groups[0]


# ---- what a class cannot take


def test_options_are_tried_before_a_network_is_made():
    def never():
        raise AssertionError("a network was made")

    check_optimizer(of(torch.optim.Adam, lr=0.1, groups=None), never)
    with pytest.raises(ValueError, match=r"optimizer.lr must be a number >= 0, got -1"):
        check_optimizer(of(torch.optim.Adam, lr=-1), never)
    with pytest.raises(ValueError, match="optimizer: NAdam refuses its options: Invalid epsilon"):
        check_optimizer(of(torch.optim.NAdam, eps=-1.0), never)


def test_muon_alone_names_the_parameters_it_cannot_take_and_warns_on_the_cpu():
    with pytest.raises(ValueError, match="Muon takes only matrices, which bias are not; optimizer=muon"):
        check_optimizer(of(torch.optim.Muon), lambda: [Quadratic()])
    model = nn.Linear(2, 2, bias=False)
    with pytest.warns(UserWarning, match="bfloat16"):
        build_optimizer(of(torch.optim.Muon), model.named_parameters())


def test_muon_and_adamw_share_the_parameters_and_each_does_what_it_does_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    options = tree("muon") | {"exclude": ["1.*"]}
    options["others"]["weight_decay"] = 0.1
    alone = copy.deepcopy(model)
    step = step_of(model, component(options))
    assert [len(group["params"]) for group in step.optimizer.param_groups] == [1, 3]
    assert step.base_lrs == [3e-4, 3e-4]
    muon = torch.optim.Muon([alone[0].weight], lr=3e-4, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    others = [p for p in alone.parameters() if p is not alone[0].weight]
    adamw = torch.optim.AdamW(others, lr=3e-4, weight_decay=0.1, fused=True)
    x = torch.linspace(-1, 1, 15).reshape(5, 3)
    for _ in range(3):
        step(lambda: (model(x).square().mean(), {}))
        alone.zero_grad()
        alone(x).square().mean().backward()
        muon.step()
        adamw.step()
    for a, b in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_lone_scalar_is_moved_as_adamw_moves_it():
    scalar, alone = (nn.Parameter(torch.tensor(2.0)) for _ in range(2))
    muon = build_optimizer(component(tree("muon")), [("log_temperature", scalar)])
    adamw = torch.optim.AdamW([alone], lr=3e-4, weight_decay=0.0)
    for _ in range(4):
        for p, optimizer in ((scalar, muon), (alone, adamw)):
            p.grad = p.detach().clone()
            optimizer.step()
    assert muon.param_groups[0]["lr"] == 3e-4
    torch.testing.assert_close(scalar, alone)


def test_what_cannot_be_split_is_refused():
    options = tree("muon")
    with pytest.raises(ValueError, match=r"the pattern head.\* matches no matrix"):
        check_optimizer(component(options | {"exclude": ["head.*"]}), lambda: [Quadratic()])
    with pytest.raises(ValueError, match="no parameter of two dimensions"):
        check_optimizer(component(options), lambda: [nn.LayerNorm(3)])
    options["others"]["lr"] = 0.1
    with pytest.raises(ConfigError, match=r"optimizer.others.lr must be left out"):
        component(options)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_takes_the_second_players_rate(name):
    model = Quadratic()
    with warnings.catch_warnings(action="ignore"):
        optimizer = build_optimizer(component(tree(name)), model.named_parameters(), lr=0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_sparse_adam_names_the_parameters_whose_gradient_is_dense():
    check_optimizer(of(torch.optim.SparseAdam), lambda: [Quadratic(sparse=True)])
    for model in (Quadratic(), nn.Embedding(2, 2)):
        with pytest.raises(ValueError, match=r"weight.* will have dense ones; use optimizer=adam"):
            check_optimizer(of(torch.optim.SparseAdam), lambda model=model: [model])


# ---- classes from elsewhere


class Sign(torch.optim.Optimizer):
    """A class as other packages write them, with a keyword of its own and any others."""

    def __init__(self, params, lr=0.1, scale=1.0, **kwargs):
        assert scale > 0, "scale is not positive"
        super().__init__(params, {"lr": lr, "scale": scale, **kwargs})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * group["scale"] * p.grad.sign()


def test_a_third_party_class_is_built_with_its_own_options_and_keeps_its_own_message():
    model = Quadratic()
    step = step_of(model, of(Sign, lr=0.25, scale=2.0, groups={"bias": {"scale": 1.0}}))
    step(lambda: (model(), {}))
    assert (model.weight == 0.5).all()
    assert (model.bias == 0.25).all()
    with pytest.raises(ValueError, match="optimizer: Sign refuses its options: scale is not positive"):
        check_optimizer(of(Sign, scale=-1.0))


@pytest.mark.parametrize(
    ("module", "name"), [("pytorch_optimizer", "Lion"), ("pytorch_optimizer", "SOAP"), ("heavyball", "AdamW")]
)
def test_optimizers_of_other_packages_descend_unmodified(module, name):
    package = pytest.importorskip(module)
    model = Quadratic()
    step = step_of(model, of(getattr(package, name), lr=0.05))
    begin = model().item()
    for _ in range(20):
        step(lambda: (model(), {}))
    assert model().item() < 0.9 * begin


class Averaging(torch.optim.SGD):
    """As a schedule-free optimizer: trains at one point, is to be measured at another, by its own methods.

    Averages all iterates; `eval` goes a third of the way to the average and `train` back.
    """

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.training = False

    def train(self):
        if not self.training:
            self._move(-0.5)
        self.training = True

    def eval(self):
        if self.training:
            self._move(1 / 3)
        self.training = False

    @torch.no_grad()
    def _move(self, weight):
        for p in self.param_groups[0]["params"]:
            if "z" in self.state[p]:
                p.lerp_(self.state[p]["z"], weight)

    @torch.no_grad()
    def step(self, closure=None):
        assert self.training, "not in training mode"
        super().step()
        for p in self.param_groups[0]["params"]:
            z = self.state[p].setdefault("z", torch.full_like(p, 0.123))
            z.lerp_(p, 0.3)


def schedule_free_classes():
    if importlib.util.find_spec("schedulefree") is None:
        return [Averaging]
    package = importlib.import_module("schedulefree")
    return [Averaging, package.AdamWScheduleFree, package.SGDScheduleFree]


@pytest.mark.parametrize("kind", schedule_free_classes())
def test_an_optimizer_with_modes_trains_and_is_measured_elsewhere_without_a_trace(kind):
    measured, untouched = Quadratic(), Quadratic()
    steps = [step_of(model, of(kind, lr=0.01)) for model in (measured, untouched)]
    plain_one = step_of(Quadratic(), of(torch.optim.SGD, lr=0.1))
    for _ in range(5):
        steps[0](lambda: (measured(), {}))
        steps[1](lambda: (untouched(), {}))
        here = measured.weight.detach().clone()
        with evaluation_parameters(steps[0].optimizer, plain_one.optimizer):
            moved = not torch.equal(measured.weight, here)
        assert torch.equal(measured.weight, here)
    assert moved
    assert torch.equal(measured.weight, untouched.weight)
    with pytest.raises(KeyError), evaluation_parameters(steps[0].optimizer):
        raise KeyError
    assert torch.equal(measured.weight, untouched.weight)


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_takes_the_same_steps_whatever_the_layout_of_the_weights(name):
    """Convolutions are faster with the channels last, and LBFGS views each gradient as one vector."""

    def descended(layout: torch.memory_format) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, 4), nn.Flatten(), nn.Linear(4, 2)
        ).double()
        net.to(memory_format=layout)
        x = torch.randn(4, 3, 6, 6, dtype=torch.float64).to(memory_format=layout)
        with warnings.catch_warnings(action="ignore"):
            optimizer = build_optimizer(component(tree(name)), net.named_parameters(), lr=1e-3)
        step = GradientStep(net, optimizer, monitor=MONITOR)
        for _ in range(3):
            step(lambda: (net(x).square().mean(), {}))
        return [p.detach() for p in net.parameters()]

    found, wanted = (descended(layout) for layout in (torch.channels_last, torch.contiguous_format))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
