"""Words that once ended in a trace, or in a line that did not help: now in one line, nothing made."""

import pytest

from core.text import MOST, listed, one_line, shortened, shown
from tests.conftest import Command, assert_refused
from tests.thinned import thinned

LONG = "x" * 3000
WORDS = [
    ("rl", ["probe=1"], "probe=1 must name different choices"),
    ("rl", ["monitor=[null]"], "monitor=[null] must name different choices"),
    ("rl", ["env=[[1]]"], "env=[[1]] must name different choices"),
    ("rl", ["clipper='${}'"], "clipper='${}' cannot be composed"),
    ("rl", ["schedule=${nothing}"], "schedule=${nothing} cannot be composed: Error resolving"),
    ("gan", ["~data=[[1]]"], "~data=[[1]] cannot be composed"),
    ("descend", ["hydra/job_logging=3"], "hydra/job_logging=3 cannot be composed"),
    ("rl", ["_target_=typing.Any"], "_target_ says what class this is"),
    ("report", ["~_target_"], "_target_ says what class this is"),
    (
        "descend",
        ["batches=[full]", "objective=moons", "~batches.full._target_"],
        "full._target_ says",
    ),
    ("rl", ["optimizer._target_=.."], "optimizer._target_ must be a dotted name"),
    ("rl", ["optimizer._target_=.torch"], "optimizer._target_ must be a dotted name"),
    ("rl", [f"seed={'9' * 5000}"], "cannot read 'seed=999"),
    (
        "rl",
        ["seed=99999999999999999999"],
        "seed must be an integer of at most 64 bits",
    ),
    ("rl", [f"agent.target_kl={'9' * 400}"], "agent.target_kl must be a number or null, got 999"),
    ("rl", [f"seed={LONG}"], "seed must be an integer, got 'xxx"),
    ("rl", [f"optimizer={LONG}"], "does not exist; choose from adadelta, adafactor, "),
    ("rl", [f"{LONG}=1"], "unknown option xxx"),
    ("rl", [f"hydra.run.dir={LONG}"], "hydra.run.dir=xxx"),
    ("rl", ["--config-dir", LONG], "--config-dir=xxx"),
    ("report", [f"run={'x' * 256}"], "a name in a path has at most 255 bytes"),
    (
        "evaluate",
        ["samples=range(0,10)"],
        "samples=range(0,10) has several values; this command does",
    ),
    ("rl", ["hydra.verbose=3"], "hydra.verbose is of another kind, got 3"),
    ("rl", ["hydra.job.name=${nothing}"], "hydra.job.name: Interpolation key 'nothing' not found"),
    ("rl", ["hydra.searchpath=[x]"], "hydra.searchpath=[x] cannot be composed"),
    ("rl", ["~seed='${'"], "~seed='${'"),
    ("rl", ["--cfg", "job", "-p", ".."], "--package .."),
    ("gan", ["--hydra-help", "data=ring", "network.depth=2"], "--hydra-help: Could not override"),
    ("rl", ["-m", "seed=choice()"], "cannot read 'seed=choice()'"),
    ("rl", ["+hydra.callbacks.x=1"], "hydra.callbacks.x must be a class with options, got 1"),
    ("gan", ["-m", "+hydra.callbacks.x=1"], "hydra.callbacks.x must be a class with options, got 1"),
    ("gan", ["-m", "+hydra.callbacks.x._target_=no.pe"], "hydra.callbacks.x._target_: no module named no"),
    ("rl", ["~env.kwargs.a.b"], "~env.kwargs.a.b: there is no group of options env.kwargs.a"),
    ("descend", ["name=${unknown:1}"], "name: Unsupported interpolation type unknown"),
    ("gan", [f"+name='${{{LONG}}}'"], "name: Interpolation key 'xxx"),
    ("descend", [f"tags={'1,' * 100}1"], "has several values; a list is tags=[1,1,"),
    (
        "rl",
        ["policy.network._target_=gymnasium.wrappers.vector.ClipReward"],
        "Error: Expected env to be a",
    ),
    ("gan", ["optimizer.eps=99999999999999999999"], "optimizer.eps must be an integer of at most 64 bits"),
    ("rl", ["optimizer={_target_:torch.optim.SparseAdam}"], "SparseAdam takes only sparse gradients"),
    ("rl", ["optimizer={_target_:torch.optim.Muon}"], "Muon takes only matrices, which"),
    ("gan", ["update._target_=tests.own_parts.NumberLoss"], "it has no needs_joint_graph, no"),
    ("rl", ["-m", f"hydra.output_subdir={LONG}"], "hydra.output_subdir=xxx"),
    ("rl", ["hydra.output_subdir="], "hydra.output_subdir must be a name of a folder"),
    ("rl", ["env=pendulum", "env.kwargs={_partial_:true}"], "env.id=Pendulum-v1 cannot be made: TypeError"),
]


@pytest.mark.parametrize(("name", "words", "message"), thinned(WORDS, 2), ids=lambda value: str(value)[:40])
def test_an_odd_word_ends_in_one_line_with_nothing_made(command: Command, name, words, message):
    outcome = command(name, *words)
    assert_refused(outcome, message)
    assert len(outcome.err) <= 201
    assert outcome.made == []


def test_a_demo_takes_no_words(command: Command, monkeypatch):
    monkeypatch.setitem(__import__("tests.conftest").conftest.SCRIPTS, "demo", "demo")
    for word in ("seed=1", f"--x={'é' * 3000}", "x=\n"):
        outcome = command("demo", word)
        assert_refused(outcome, word[:5].strip())
        assert outcome.err.endswith(" is not read: this command takes no options\n")
        assert len(outcome.err) <= 201


def test_what_is_long_is_shortened_in_the_middle():
    assert shortened("a" * MOST) == "a" * MOST
    assert len(shortened("a" * MOST + "b")) == MOST
    assert shortened("0123456789", 9) == "0123...89"
    assert len(shown(["a"] * 1000)) == MOST
    assert shown(10**5000).startswith("a number of int")


def test_names_are_listed_as_far_as_there_is_room():
    assert listed(["one", "two"]) == "one, two"
    assert listed(["one", "two", "three"], 8) == "one, two and 1 others"


def test_a_message_keeps_its_paths_and_its_words():
    path = "/".join(["folder"] * 30)
    assert one_line(ValueError(f"there is no\nrun in {path}")) == f"there is no run in {path}"
    assert len(one_line(ValueError("a" * 101))) == MOST
