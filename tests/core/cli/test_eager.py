"""torch's optimizers without its compiler: the same numbers, and torch's own methods wherever it is there."""

import subprocess
import sys

import pytest
import torch

from core.cli.eager import COMPILER, READ, keep_compiler_out

KNOWN = torch.__version__.startswith(READ)
pytestmark = pytest.mark.slow
known = pytest.mark.skipif(
    not KNOWN, reason=f"torch {torch.__version__} is not {READ}x: it imports its compiler"
)


BEGIN = """
import sys
import torch
from core.cli.eager import keep_compiler_out

assert keep_compiler_out()
"""
STEPS = """
import torch

for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad):
    torch.manual_seed(1)
    p = torch.nn.Parameter(torch.randn(50))
    other = torch.nn.Parameter(torch.randn(50))
    optimizer = kind([p], lr=0.1)
    optimizer.add_param_group({"params": [other], "lr": 0.2})
    for _ in range(3):
        optimizer.zero_grad()
        (p.square().sum() + (p * other).sin().sum()).backward()
        optimizer.step()
        assert torch.is_grad_enabled()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(lambda: (p * other).sum())
    print(kind.__name__, p.tolist(), other.tolist(), other.requires_grad)
"""
DIFFERENTIABLE = """
x = torch.tensor([3.0], requires_grad=True)
p = x * 1.0
optimizer = torch.optim.SGD([p], lr=0.25, differentiable=True)
p.grad = 2 * x
optimizer.step()  # p = x - 0.25 * 2 x
p.sum().backward()
print(p.item(), x.grad.item())
"""
COUNTED = """
from gradgan.evaluation.cost import cost

print(cost(torch.nn.Linear(3, 5), torch.zeros(2, 3)))
"""
LATER = """
double = torch._disable_dynamo(lambda x: 2 * x)
triple = torch._disable_dynamo(recursive=False)(lambda x: 3 * x)
print(double(1), triple(1))
p = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([p], lr=0.5)
print("torch._dynamo" in sys.modules)

@torch.compile(backend="eager")
def step():
    optimizer.zero_grad()
    p.square().sum().backward()
    optimizer.step()

for _ in range(3):
    step()
print(p.tolist())
compiled = torch.compile(lambda x: double(x) + triple(x), backend="eager")
print(compiled(torch.ones(())).item())
"""


@pytest.fixture(scope="module")
def said() -> list[str]:
    """The lines of one process in which nothing is imported yet: before its compiler comes, and after."""
    program = BEGIN + STEPS + DIFFERENTIABLE + COUNTED + LATER
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@known
def test_optimizers_do_the_same_to_the_bit(said, capsys) -> None:
    __import__(COMPILER)  # so that the optimizers here are torch's own
    exec(STEPS, {})
    expected = capsys.readouterr().out.splitlines()
    assert len(expected) == 5
    assert said[:5] == expected


@known
def test_a_differentiable_optimizer_keeps_its_graph(said) -> None:
    assert said[5] == "1.5 0.5"


@known
def test_operations_are_counted_and_the_compiler_is_not_imported(said) -> None:
    assert said[6] == "Cost(parameters=20, multiply_adds=15)"
    assert said[8] == "False"


@known
def test_once_the_compiler_is_imported_the_methods_are_those_of_torch(said) -> None:
    assert said[9] == "[0.0, 0.0, 0.0]"


@known
def test_what_torch_decorates_later_is_decorated_as_by_torch_once_the_compiler_is_there(said) -> None:
    assert said[7] == "2 3"
    assert said[10:] == ["5.0"]


def test_a_release_that_was_not_read_is_left_as_it_is(monkeypatch) -> None:
    before = torch.optim.Optimizer.zero_grad, torch.optim.Adam.step
    monkeypatch.setattr(torch, "__version__", "99.0.0")
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)
    assert keep_compiler_out() is False
    assert (torch.optim.Optimizer.zero_grad, torch.optim.Adam.step) == before


def test_a_process_with_a_compiler_is_left_as_it_is() -> None:
    before = torch.optim.Optimizer.zero_grad, torch.optim.Adam.step
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]).zero_grad()
    __import__(COMPILER)
    assert keep_compiler_out() is False
    assert (torch.optim.Optimizer.zero_grad, torch.optim.Adam.step) == before
