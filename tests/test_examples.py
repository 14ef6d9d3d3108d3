"""The examples do what they say."""

import ast
from pathlib import Path

import pytest

from core.run.tensorboard import read_scalars
from examples import plain_loop

EXAMPLES = sorted(Path(plain_loop.__file__).parent.glob("*.py"))


def test_the_plain_loop_learns_to_read_and_its_gradients_can_be_seen(tmp_path):
    assert plain_loop.train(str(tmp_path), epochs=6) > 0.95
    curves = read_scalars(tmp_path)
    assert list(curves["gradient/norm"]) == [0, 1, 2, 3, 4, 5]
    assert all(curves["gradient/norm_clipped"][epoch] <= 1.0 + 1e-6 for epoch in range(6))
    assert max(curves["gradient/clipped"].values()) > 0.5
    assert set(curves["gradient/skipped"].values()) == {0.0}
    assert "layer/0.weight/gradient_norm" in curves


def test_the_plain_loop_fits_on_a_page_and_needs_neither_trainers_nor_hydra():
    source = Path(plain_loop.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    nodes = list(ast.walk(ast.parse(source)))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.partition(".")[0] not in ("torch", "sklearn", "functools")} == {
        "core.gradients"
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_says_how_to_call_it(path):
    assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")
