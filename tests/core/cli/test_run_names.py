"""Names of runs: typed ones end the path of the run; in a sweep, jobs are named by what tells them apart."""

import pytest

from core.cli.launch import compose_tree
from core.cli.names import job_names, swept_options
from core.config import ConfigError, config_dir


def place(*overrides: str, job: int | None = None) -> str:
    return str(compose_tree("rl", overrides, [config_dir()], job)[1])


def test_a_name_ends_the_path_unless_the_path_was_typed():
    assert place("name=baseline") == "runs/rl/baseline"
    assert place("name=baseline", "hydra.run.dir=here") == "here"
    assert place("name=baseline", job=3) == "runs/rl/baseline/3"
    assert place("name=null").startswith("runs/rl/2")


@pytest.mark.parametrize("name", ["a/b", "/a", "..", ".hidden", "''", "' a'", "7", "[a]"])
def test_a_name_that_is_no_folders_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        place(f"name={name}")


@pytest.mark.parametrize(
    ("batches", "swept", "names"),
    [
        (
            [["agent=ppo", f"seed={s}", f"optimizer.lr={lr}"] for s in (1, 2) for lr in (0.1, 0.01)],
            ("seed", "optimizer.lr"),
            ["seed=1,lr=0.1", "seed=1,lr=0.01", "seed=2,lr=0.1", "seed=2,lr=0.01"],
        ),
        (
            [["optimizer.lr=1", "discriminator.lr=2"], ["optimizer.lr=2", "discriminator.lr=1"]],
            ("optimizer.lr", "discriminator.lr"),
            ["optimizer.lr=1,discriminator.lr=2", "optimizer.lr=2,discriminator.lr=1"],
        ),
        ([["seed=1"]], (), ["0"]),
        ([["seed=1"], ["seed=1"]], (), ["0", "1"]),
        ([["x='a/b'"], ["x=a:b"], ["x='a b'"]], ("x",), ["x=a_b,0", "x=a:b", "x=a_b,2"]),
        ([[f"x={'y' * 300}"], ["x=z"]], ("x",), [f"x={'y' * 118},0", "x=z"]),
    ],
)
def test_jobs_are_named_by_what_differs(batches, swept, names):
    assert swept_options(batches) == swept
    assert job_names(batches) == names


def test_a_sweep_has_one_name():
    with pytest.raises(ConfigError, match="name is that of the whole sweep"):
        job_names([["name=a"], ["name=b"]])
