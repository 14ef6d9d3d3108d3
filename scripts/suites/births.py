"""The faults of `suite=replay`: runs that end in numbers that are not finite, or out of all proportion.

Each says where its number is born: forward, backward, in the loss, in the batch, or in an update, and in
which module. Two answers are right where a fault has two ends: a rate that is far too high shows in the
parameters after the update, and in the first output that no number holds.
"""

from dataclasses import dataclass
from typing import Literal

PARTS = "core.scripts.suites.broken"
SEEDS = (11, 12)
QUIET = ("logging.progress=false", "logging.draw_interval=100000000", "logging.eval_interval=100000000")


@dataclass(frozen=True)
class Fault:
    """A run with one fault.

    Attributes:
        kind: root configuration.
        overrides: the command.
        how: directions of birth that are right, as in `core.replay.origin.Birth`.
        module: regular expression for the whole name of the module, tensor or loss.
    """

    kind: Literal["rl", "gan", "descend"]
    overrides: tuple[str, ...]
    how: tuple[str, ...]
    module: str


def _ppo(*overrides: str) -> tuple[str, ...]:
    return (
        "agent=ppo", "env=cartpole", "num_envs=4", "agent.num_steps=64", "agent.num_minibatches=4",
        "agent.num_epochs=4", "total_steps=12288", "evaluation.episodes=5", "logging.interval=4",
        "logging.checkpoint_interval=2048", *QUIET, *overrides,
    )  # fmt: skip


def _off_policy(*overrides: str) -> tuple[str, ...]:
    return (
        "env.id=Pendulum-v1", "num_envs=1", "total_steps=3000", "agent.learning_starts=500",
        "agent.batch_size=32", "policy.hidden_sizes=[32,32]", "evaluation.episodes=5", "logging.interval=50",
        "logging.checkpoint_interval=1000", *QUIET, *overrides,
    )  # fmt: skip


def _ring(*overrides: str) -> tuple[str, ...]:
    return (
        "data=ring", "network.width=32", "network.depth=2", "total_images=76800", "batch_size=64",
        "evaluation.samples=200", "logging.interval=20", "logging.checkpoint_interval=12800",
        "measurements.samples=64", *QUIET, *overrides,
    )  # fmt: skip


def _digits(*overrides: str) -> tuple[str, ...]:
    return (
        "objective=digits_mlp", "batch=minibatch", "optimizer=adam", "steps=400", "logging.interval=10",
        "logging.checkpoint_interval=50", "pictures=[]", *QUIET[:2], *overrides,
    )  # fmt: skip


def _plane(*overrides: str) -> tuple[str, ...]:
    return (
        "steps=300", "logging.interval=10", "logging.checkpoint_interval=20", "pictures=[]", *QUIET[:2],
        *overrides,
    )  # fmt: skip


BIRTHS: dict[str, Fault] = {
    "critic_log_of_zero": Fault(
        "rl", _ppo(f"policy._target_={PARTS}.FailingCritic"), ("forward",), r"critic\.\d+"
    ),
    "critic_root_of_zero": Fault(
        "rl", _ppo(f"policy._target_={PARTS}.SteepCritic"), ("backward",), r"critic\.\d+"
    ),
    "value_is_a_root": Fault("rl", _ppo(f"policy._target_={PARTS}.RootValue"), ("backward",), "policy"),
    "reward_1e30": Fault(
        "rl",
        _ppo(f"env.train_wrappers=[{{_target_:{PARTS}.LargeReward,share:0.0002}}]"),
        ("loss", "batch"),
        r"value|batch\.(target|advantage)",
    ),
    "observation_3e38": Fault(
        "rl",
        _ppo(f"env.wrappers=[{{_target_:{PARTS}.LargeObservation,share:0.0005}}]", "policy.activation=relu"),
        ("batch", "forward"),
        r"batch\.obs|(actor|critic)\.\d",
    ),
    "rate_x1e25_at_half_time": Fault(
        "rl",
        _ppo(f"schedule._target_={PARTS}.Jump", "schedule.factor=1e25", "clipper=none"),
        ("update",),
        r"(actor|critic)\.\d+",
    ),
    "critic_rate": Fault(
        "rl", _off_policy("agent=td3", "agent.critic_lr=1e6"), ("update",), r"(critic|q).*"
    ),
    "nan_pixel": Fault("gan", _ring(f"data._target_={PARTS}.BrokenRing"), ("batch",), r"real\.x"),
    "naive_log": Fault(
        "gan", _ring(f"loss._target_={PARTS}.NaiveLog", "penalty=none"), ("loss",), r".*"
    ),
    "generator_log_of_zero": Fault(
        "gan", _ring(f"network._target_={PARTS}.FailingMLP"), ("forward",), r"generator\.network\.2"
    ),
    "discriminator_root_of_zero": Fault(
        "gan",
        _ring(f"network._target_={PARTS}.FailingMLP", "network.player=discriminator", "network.fault=sqrt"),
        ("backward",),
        r"discriminator\.body\.3",
    ),
    "feature_without_deviation": Fault(
        "gan",
        _ring(f"network._target_={PARTS}.FailingMLP", "network.fault=constant"),
        ("forward",),
        r"generator\.network\.2",
    ),
    "root_of_a_flat_gradient": Fault(
        "gan", _ring(f"penalty._target_={PARTS}.RootPenalty"), ("loss",), r"gradient"
    ),
    "discriminator_rate": Fault(
        "gan",
        _ring(
            "optimizer=sgd", "optimizer.lr=1e-2", "discriminator.lr=1e4", "penalty=none", "loss=wasserstein"
        ),
        ("update",),
        r"discriminator\..*",
    ),
    "rate_x1e10_at_half_time": Fault(
        "gan", _ring(f"schedule._target_={PARTS}.Jump", "schedule.factor=1e10"), ("update",),
        r"(generator|discriminator)\..*",
    ),
    "classifier_rate": Fault(
        "descend", _digits(
            "optimizer=sgd", "optimizer.lr=1.0", f"schedule._target_={PARTS}.Jump", "schedule.factor=1e308",
        ), ("update",), r"\d+"
    ),
    "classifier_log_of_zero": Fault(
        "descend", _digits(f"objective._target_={PARTS}.FailingDigits"), ("forward",), "2"
    ),
    "classifier_overflow": Fault(
        "descend",
        _digits(f"objective._target_={PARTS}.FailingDigits", "objective.fault=exp"),
        ("forward",),
        "2",
    ),
    "pixel_is_not_a_number": Fault(
        "descend", _digits(f"objective._target_={PARTS}.BrokenDigits"), ("batch",), "x"
    ),
    "deep_overflow": Fault(
        "descend",
        _digits("objective=deep_linear", "objective.gain=1e80", "batch=full", "optimizer=sgd"),
        ("forward",),
        r"\d+",
    ),
    "rosenbrock_lbfgs": Fault(
        "descend",
        _plane(
            "function=rosenbrock", "optimizer=lbfgs", "optimizer.line_search_fn=null", "optimizer.lr=1e30"
        ),
        ("update", "loss"),
        r".*",
    ),
    "rosenbrock_rate": Fault(
        "descend", _plane("function=rosenbrock", "optimizer=sgd", "optimizer.lr=0.1"),
        ("update", "loss"), r".*",
    ),
}  # fmt: skip
