"""Generated command lines: one hostile word, or two, beside words that fit."""

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from core.config import config_dir
from tests.fuzz.words_values import ALONE, FLAGS, HYDRA, KEYS, LONGS, PLACES, TARGETS, VALUES
from tests.pairs.space import Space, dotted

FACTS = tomllib.loads((Path(__file__).parent.parent / "pairs" / "space.toml").read_text())
HABITS = tomllib.loads((config_dir() / "habits.toml").read_text(encoding="utf-8"))
TRAINERS = ("rl", "gan", "descend")
# Words that fit, in front of the hostile one, by command.
CONTEXTS = {
    "rl": (
        [], ["agent=sac", "env=pendulum"], ["agent=ppo_rnd", "env=mountain_car"],
        ["agent=td3", "env=pendulum", "clipper=chain"], ["agent=npg", "probe=[noise,curvature]"],
        ["agent=ppo_recurrent", "env=cartpole_no_velocity"], ["env.id=CartPole-v1"],
        ["agent=trpo", "schedule=warmup", "optimizer=sgd"],
        ["agent=vtrace", "optimizer=muon", "schedule=kl_adaptive"],
    ),
    "gan": (
        [], ["data=ring"], ["data=grid", "clipper=zclip", "update=lookahead"],
        ["network=resnet", "conditioning=projection", "augment=ada"],
        ["network=stylegan2", "regularizer=[lecam,consistency]"],
        ["data=ring", "penalty=wgan_gp", "loss=wasserstein", "probe=noise"],
    ),
    "descend": (
        [], ["objective=logistic", "batch=minibatch"], ["optimizers=[sgd,adam]"],
        ["function=quadratic", "optimizer=lbfgs"], ["objective=moons", "batches=[stochastic,full]"],
    ),
    "evaluate": (["run=run_rl", "episodes=1"], ["run_gan", "samples=16"]),
    "export": (["run_rl"], ["run=run_gan", "format=safetensors"]),
    "report": (["run=run_rl"], ["run_descend"]),
    "landscape": (["run=run_rl", "grid=3", "which=[slices]"], ["run=run_gan", "grid=3", "which=[slices]"]),
    "replay": (["run=run_rl", "step=64"], ["run_descend", "step=3"]),
    "compare": (["runs=[run_rl]", "resamples=100"], ["run_rl", "resamples=100"]),
    "runs": ([], ["run_rl"], ["--json"]),
    "tune": (["search=ppo", "resume=x"], ["search=gan", "sampler=random", "resume=x"]),  # none begins
    "bench": ([],),
    "demo": ([],),
}  # fmt: skip
TOOL_GROUPS = {"tune": ["search", "sampler", "pruner"]}
WEIGHTS = {
    "rl": 10, "gan": 9, "descend": 7, "evaluate": 2, "export": 1, "report": 2, "landscape": 2, "compare": 2,
    "replay": 1, "bench": 1, "runs": 1, "tune": 2, "demo": 0.3,
}  # fmt: skip
KINDS = {
    "value": 34, "group": 10, "target": 14, "flags": 7, "hydra": 9, "key": 9, "sweep": 8, "long": 6, "two": 3,
    "habit": 6, "alone": 5,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One command line.

    Attributes:
        command: a name of CONTEXTS.
        words: what is typed.
        hostile: those of the words that were made up.
        kind: how they were.
    """

    command: str
    words: tuple[str, ...]
    hostile: tuple[str, ...]
    kind: str


def lines(count: int, seed: int) -> Iterator[Line]:
    """As many command lines, of every command and every kind."""
    random = Random(seed)
    for _ in range(count):
        command = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        context = tuple(random.choice(CONTEXTS[command]))
        sizes = known(command, context).sizes
        hostile = made(kind, command, context, random)
        yield Line(command, (*context, *sizes, *hostile), hostile, kind)


def made(kind: str, command: str, context: tuple[str, ...], random: Random) -> tuple[str, ...]:
    """The hostile words of one kind."""
    there = known(command, context)
    plus = random.choice(["", "", "", "", "+", "++", "~"])
    if kind == "flags":
        return tuple(random.choice(FLAGS))
    if kind == "hydra":
        return (*random.choice([(), (), ("-m",)]), random.choice(HYDRA))
    if kind == "habit":
        word = random.choice([row for table in HABITS.values() for row in table])
        word = word.replace("=#", "=16") if "=" in word else f"{word}={random.choice(VALUES)}"
        flag = f"--{word.replace('_', '-')}"
        return random.choice([(word,), (word,), (flag,), tuple(flag.split("=", 1))])
    if kind == "alone":
        return (random.choice(ALONE),)
    if kind == "key":
        return (f"{plus}{random.choice(KEYS)}{random.choice(['=', '=1', '=adam', '=[1]', ''])}",)
    if kind == "two":
        kinds = random.choices(["value", "group", "target", "hydra", "key"], k=2)
        return tuple(itertools.chain(*(made(k, command, context, random) for k in kinds)))
    value = random.choice(LONGS if kind == "long" else TARGETS if kind == "target" else VALUES)
    if kind == "target":
        parts = [*there.parts, *PLACES, ""]
        part = random.choice(parts)
        name = f"{part}._target_".lstrip(".")
        form = random.choice([f"{name}={value}", f"{name}={value}", f"+{name}={value}", f"~{name}"])
        whole = f"{part}={{_target_:{value}}}" if part and "{" not in value else form
        return (random.choice([form, form, form, whole]),)
    names = there.groups if kind == "group" and there.groups else there.options
    if kind == "long" and random.random() < 0.3:
        names = there.groups or names
    name = random.choice(names) if names else random.choice(["x", "--x"])
    many = ("-m",) if kind == "sweep" else ()
    return (*many, f"{plus if random.random() < 0.3 else ''}{name}={value}")


@dataclass(frozen=True)
class Known:
    """What there is to be typed beside these words.

    Attributes:
        options: dotted names, groups of options too.
        parts: of them, those with a `_target_`.
        groups: those that choose a file.
        sizes: words that keep a valid run short.
    """

    options: tuple[str, ...]
    parts: tuple[str, ...]
    groups: tuple[str, ...]
    sizes: tuple[str, ...]


@cache
def known(command: str, context: tuple[str, ...]) -> Known:
    """What there is to be typed beside these words."""
    if command in ("demo", "runs"):
        return Known((), (), (), ())
    space = Space(command, FACTS)
    sizes = space.sizes(context) if command in TRAINERS else []
    options = [word for word in context if "=" in word and not word.startswith("resume=")]
    names = list(dotted(space.tree([*options, *sizes])))
    inner = {".".join(name.split(".")[:i]) for name in names for i in range(1, name.count(".") + 1)}
    parts = sorted(name.removesuffix("._target_") for name in names if name.endswith("._target_"))
    groups = (
        [*space.groups(), "experiment"] if command in TRAINERS else TOOL_GROUPS.get(command, ["features"])
    )
    options = sorted({name for name in names if not name.endswith("_target_")} | inner)
    return Known(tuple(options), tuple(parts), tuple(groups), tuple(sizes))
