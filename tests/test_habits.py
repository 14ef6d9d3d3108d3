"""The words of other projects are answered with ours, in one line; and what is proposed there is accepted."""

import functools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from core.cli.choices import YamlFile
from core.cli.compose import compose_checked
from core.cli.habits import hint
from core.cli.overrides import parse
from core.config import config_dir, flat
from tests.conftest import Command, assert_refused

TABLES = tomllib.loads((config_dir() / "habits.toml").read_text(encoding="utf-8"))
KINDS = {
    "trainers": ("rl", "gan", "descend"),
    "tools": ("evaluate", "export", "report", "landscape", "replay"),
}
CONTEXTS = {  # what a remark in brackets says that the words are for
    "of sac": ["agent=sac", "env=pendulum", "experiment=none"],
    "of td3": ["agent=td3", "env=pendulum", "experiment=none"],
    "of data=folder": ["data=folder"],
}


class Row(NamedTuple):
    """A row of the table, for one command: the word, and what it is there."""

    command: str
    word: str
    ours: str


def rows() -> Iterator[Row]:
    for kind, table in TABLES.items():
        for command in KINDS.get(kind, (kind,)):
            own = TABLES.get(command, {}) if kind in KINDS else {}
            yield from (Row(command, word, ours) for word, ours in table.items() if word not in own)


ROWS = list(rows())
FIRST = {row[1:]: row for row in reversed(ROWS)}  # of the commands that share a row
AT_ONCE = [row for row in ROWS if FIRST[row[1:]] == row][::3]
EACH = [row if row in AT_ONCE else pytest.param(row, marks=pytest.mark.slow) for row in ROWS]
IDS = [f"{row.command}-{row.word}" for row in ROWS]


def typed(row: Row, value: str) -> str:
    """The word as somebody types it; `#` and no value stand for this one."""
    name, equals, given = row.word.partition("=")
    return f"{name}={value if not equals or given == '#' else given}"


@functools.cache
def options(command: str, *words: str) -> dict:
    return flat(compose_checked(command, [*words], [config_dir()]).options, empty=True)


def filled(row: Row) -> tuple[list[str], list[str]]:
    """The words that are proposed, `{}` as the option's present value, and what they are typed with."""
    words, _, remark = row.ours.partition(" (")
    context = next((those for key, those in CONTEXTS.items() if remark.startswith(key)), [])
    root = YamlFile(config_dir() / f"{row.command}.yaml")
    split = shlex.split(words)
    whole = [word for word in split if not re.search(r"=.*(\{|N$|VALUE$)", word)]
    tree = options(row.command, *context, *whole)
    found = []
    for word in split:
        option, _, given = word.partition("=")
        value = root.choices.get(option, tree.get(option, "1"))
        value = (
            "null"
            if value is None
            else str(value).replace(" ", "").lower()
            if isinstance(value, bool)
            else str(value)
        )
        value = "0.5" if "[" in given and "{" in given else value
        value = "examples.own_callbacks.WeightNorm" if option == "callbacks" else value
        found.append(f"{option}={given.replace('{}', value).replace('{lower}', value)}")
    found = [re.sub(r"=N$", "=64", word).replace("NAME=VALUE", "a=1") for word in found]
    return found, context


@pytest.mark.parametrize("row", EACH, ids=IDS)
def test_a_word_of_another_project_is_answered_with_ours_in_one_line_and_nothing_made(command: Command, row):
    value = "cpu" if "device={" in row.ours else "3"
    words = row.ours.partition(" (")[0].replace("{}", value).replace("{lower}", value)
    for word in (typed(row, value), f"--{typed(row, value).replace('_', '-')}"):
        outcome = command(row.command, word)
        assert_refused(outcome, words, word.partition("=")[0])
        assert len(outcome.err) <= 200 + len("error: \n")


@pytest.mark.parametrize("command", sorted({row.command for row in ROWS}))
def test_the_answer_is_short_however_long_the_word_is(command):
    root = YamlFile(config_dir() / f"{command}.yaml")
    for row in (row for row in ROWS if row.command == command):
        for word in (typed(row, "9" * 3000), f"--{typed(row, '9' * 3000)}"):
            said = hint(root, [word])
            assert said is not None
            assert len(said) <= 193, said


@pytest.mark.parametrize("row", EACH, ids=IDS)
def test_what_is_proposed_is_accepted_here(row):
    words, context = filled(row)
    for word in words:
        parse(word)
    compose_checked(row.command, [*context, *words], [config_dir()])


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("rl", ["--env", "cartpole"], "--env cartpole: options are typed without dashes, here env=cartpole"),
        ("rl", ["--seed", "1"], "--seed 1: options are typed without dashes, here seed=1"),
        ("rl", ["--seed=1"], "--seed=1: options are typed without dashes, here seed=1"),
        ("rl", ["-seed", "1"], "-seed 1: options are typed without dashes, here seed=1"),
        ("rl", ["env=cartpole", "--lr=3e-4"], "--lr=3e-4: options are typed without dashes, here"),
        ("rl", ["--Learning-Rate", "3e-4"], "here optimizer.lr=3e-4"),
        ("gan", ["--batch-size", "16"], "16: options are typed without dashes, here batch_size=16"),
        ("rl", ["--sed", "1"], "there is no flag --sed; options are typed NAME=VALUE; did you mean seed?"),
        ("rl", ["agent=PPO"], "did you mean ppo?"),
        ("rl", ["agent=A2C"], "did you mean a2c?"),
        ("rl", ["env=CartPole-v1"], "env=CartPole-v1 is no choice of env; an id is typed env.id=CartPole-v1"),
        ("rl", ["env=ALE/Pong-v5"], "an id is typed env.id=ALE/Pong-v5"),
        ("rl", ["agnet=ppo"], "agnet=ppo: here this is agent=ppo"),
        ("rl", ["optimizer=Adam"], "did you mean adam?"),
        ("rl", ["agent.learning_rate=1e-3"], "here this is optimizer.lr=1e-3"),
        ("rl", ["probe=noise,curvature"], "several values; a list is probe=[noise,curvature]; add -m"),
        ("rl", ["policy.hidden_sizes=64,64"], "several values; a list is policy.hidden_sizes=[64,64]"),
        ("rl", ["seed=1,2"], "seed=1,2 has several values; add -m to run all of them"),
        ("gan", ["optimizer.betas=0,0.99"], "a list is optimizer.betas=[0,0.99]"),
        ("rl", ["--track"], "--track: options are typed without dashes, here logger=wandb"),
        ("rl", ["wandb=true"], "wandb=true: here this is logger=wandb"),
        ("gan", ["wandb=False"], "here this is logger=tensorboard (the event file, which every run has)"),
        ("rl", ["--wandb-project-name", "x"], "here logger=wandb logger.wandb.project=x"),
        ("descend", ["callback=mine.Pull"], "here this is callbacks=[{_target_:mine.Pull}]"),
        ("gan", ["batch=16"], "batch=16: here this is batch_size=16"),
        ("gan", ["loss=wgan"], "loss=wgan: here this is loss=wasserstein penalty=wgan_gp"),
        ("descend", ["start=0,0"], "start=0,0 has several values; a list is start=[0,0]; add -m"),
        ("descend", ["optimizers=sgd,adam"], "a list is optimizers=[sgd,adam]"),
        ("descend", ["batch=16"], "here this is objective=digits_mlp batch=minibatch batch.size=16"),
        ("landscape", ["run=x", "which=path,game"], "a list is which=[path,game]"),
    ],
)  # fmt: skip
def test_a_habit_is_answered_with_what_is_to_be_typed(command: Command, name, words, message):
    assert_refused(command(name, *words), message)


def test_words_that_another_mistake_stands_beside_are_not_blamed(command: Command):
    assert_refused(command("rl", "agent.clip_coeff=0.3", "env=cartpole"), "did you mean agent.clip_coef?")
    assert_refused(command("rl", "--cfg", "job", "seeed=1"), "unknown option seeed; did you mean seed?")


def test_the_page_about_the_command_line_shows_what_is_said(command: Command):
    page = (Path(__file__).resolve().parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
    shown = re.findall(r"^error: (.*)$", page, re.MULTILINE)
    assert len(shown) == 4
    for line in shown:
        typed = re.split(r": | is no ", line)[0].split()
        assert command("gan" if "loss" in line else "rl", *typed).err == f"error: {line}\n"
