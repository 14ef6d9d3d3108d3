"""The table of `suite=elsewhere`: other environments, data, networks and faults than those of `faults.py`."""

from dataclasses import dataclass

from .faults import PLANTS, QUIET, Setting

SEEDS = (301, 302)
MISTAKES = "core.scripts.suites.mistakes"


@dataclass(frozen=True)
class Fault:
    """A setting with one thing wrong.

    Attributes:
        setting: name of the healthy one.
        overrides: appended to its command.
        kinds: right ones.
    """

    setting: str
    overrides: tuple[str, ...]
    kinds: tuple[str, ...]


def _trained(name: str, options: str = "") -> str:
    """A wrapper that only the training has: evaluations tell what became of it."""
    return f"env.train_wrappers=[{{_target_:{MISTAKES}.{name}{options}}}]"


def _everywhere(name: str, options: str = "") -> str:
    return f"env.wrappers=[{{_target_:{MISTAKES}.{name}{options}}}]"


def _reward(scale: float) -> str:
    return f"env.train_wrappers=[{{_target_:{PLANTS}.ScaledReward,scale:{scale}}}]"


def _network(name: str, module: str = MISTAKES) -> str:
    return f"policy._target_={module}.{name}"


def _mistaken(data: str, mistake: str) -> tuple[str, ...]:
    return f"objective._target_={MISTAKES}.Mistaken{data}", f"+objective.mistake={mistake}"


RL = (*QUIET, "logging.snapshots=0", "evaluation.episodes=20", "evaluation.interval_episodes=5")
WORLD = "env.import_module=core.scripts.suites.worlds"
CELLS, MASS = ("env.id=Cells-v0", WORLD), ("env.id=Mass-v0", "agent.gamma=0.95", WORLD)
PPO = (
    "agent=ppo",
    "agent.num_steps=64",
    "agent.num_epochs=6",
    "agent.num_minibatches=8",
    "optimizer.lr=1e-3",
    "logging.interval=1",
    "diagnosis.unit_health.interval=48",
    *RL,
)
A2C = ("agent=a2c", "logging.interval=10", "diagnosis.unit_health.interval=20", *RL)
REPLAY = (
    "agent.batch_size=64",
    "agent.learning_starts=300",
    "policy.hidden_sizes=[64,64]",
    "optimizer.lr=1e-3",
    "logging.interval=50",
    "diagnosis.unit_health.interval=50",
    *RL,
)
GAN = (
    "logging.interval=20",
    "logging.snapshots=0",
    "diagnosis.unit_health.interval=30",
    "measurements.samples=128",
    *QUIET,
)
DESCENT = ("pictures=[]", "logging.interval=20", "diagnosis.unit_health.interval=20", *QUIET[:2])

SETTINGS: dict[str, Setting] = {
    "ppo_cells": Setting("rl", (*PPO, *CELLS, "total_steps=16384", "logging.eval_interval=820"), floor=-0.8),
    "ppo_mass": Setting("rl", (*PPO, *MASS, "total_steps=24576", "logging.eval_interval=1230"), floor=-40.0),
    "ppo_acrobot": Setting(
        "rl",
        (
            "agent=ppo",
            "env=acrobot",
            "total_steps=20480",
            "logging.interval=1",
            "agent.num_steps=64",
            "logging.eval_interval=1024",
            "diagnosis.unit_health.interval=64",
            *RL,
        ),
        floor=-500.0,
    ),
    "a2c_cells": Setting("rl", (*A2C, *CELLS, "total_steps=20000", "logging.eval_interval=1000"), floor=-0.8),
    "a2c_mass": Setting("rl", (*A2C, *MASS, "total_steps=30000", "logging.eval_interval=1500"), floor=-40.0),
    "sac_mass": Setting(
        "rl", ("agent=sac", *MASS, *REPLAY, "total_steps=2000", "logging.eval_interval=200"), floor=-40.0
    ),
    "ddpg_pendulum": Setting(
        "rl",
        ("agent=ddpg", "env=pendulum", *REPLAY, "total_steps=4000", "logging.eval_interval=400"),
        floor=-1200.0,
    ),
    "td3_mass": Setting(
        "rl", ("agent=td3", *MASS, *REPLAY, "total_steps=2000", "logging.eval_interval=200"), floor=-40.0
    ),
    "hinge": Setting(
        "gan",
        (
            "data=digits",
            "loss=hinge",
            "network.width=96",
            "network.depth=2",
            "total_images=40000",
            "logging.eval_interval=5000",
            *GAN,
        ),
        floor=0.0,
    ),
    "lattice": Setting(
        "gan",
        (
            "data=grid",
            "data.side=3",
            "loss=nonsaturating",
            "penalty=r1",
            "penalty.gamma=0.1",
            "total_images=200000",
            "batch_size=128",
            "logging.eval_interval=20000",
            *GAN,
        ),
        floor=0.0,
    ),
    "digits": Setting(
        "descend",
        (
            "objective=digits_mlp",
            "objective.hidden_sizes=[64,64]",
            "batch=minibatch",
            "optimizer=momentum",
            "optimizer.lr=0.01",
            "steps=800",
            *DESCENT,
        ),
        floor=0.1,
    ),
    "moons": Setting(
        "descend",
        ("objective=moons", "batch=minibatch", "optimizer=adam", "optimizer.lr=0.01", "steps=800", *DESCENT),
        floor=0.5,
    ),
    "linear": Setting(
        "descend",
        (
            "objective=deep_linear",
            "objective.depth=4",
            "batch=minibatch",
            "optimizer=adam",
            "optimizer.lr=3e-3",
            "steps=600",
            *DESCENT,
        ),
        floor=0.1,
    ),
}

# Settings that differ from those by more than a fault: with them, what should be quiet.
OTHERS: dict[str, Setting] = {
    "ppo_cells_relu": Setting("rl", (*SETTINGS["ppo_cells"].overrides, "policy.activation=relu"), floor=-0.8),
    "ppo_mass_normalised": Setting(
        "rl",
        (*SETTINGS["ppo_mass"].overrides, "normalize_observation=true", "normalize_reward=true"),
        floor=-40.0,
    ),
    "ppo_cells_bonus": Setting(
        "rl", (*SETTINGS["ppo_cells"].overrides, "agent.entropy_coef=0.01"), floor=-0.8
    ),
    "reinforce_cells": Setting(
        "rl",
        ("agent=reinforce", *CELLS, *RL, "agent.num_steps=80", "total_steps=20000", "logging.interval=1"),
        floor=-0.8,
    ),
    "sac_mass_fixed": Setting("rl", (*SETTINGS["sac_mass"].overrides, "agent.temperature=0.05"), floor=-40.0),
    "hinge_augmented": Setting("gan", (*SETTINGS["hinge"].overrides, "augment=diffaugment"), floor=0.0),
    "lattice_relativistic": Setting(
        "gan", (*SETTINGS["lattice"].overrides, "loss=relativistic", "penalty=r1_r2"), floor=0.0
    ),
    "digits_adam": Setting(
        "descend", (*SETTINGS["digits"].overrides[:3], "optimizer=adam", "steps=800", *DESCENT), floor=0.1
    ),
    "moons_full": Setting(
        "descend",
        ("objective=moons", "batch=full", "optimizer=adam", "optimizer.lr=0.01", "steps=800", *DESCENT),
        floor=0.5,
    ),
}

FAULTS: dict[str, Fault] = {
    # agents
    "cells_reward_sign": Fault("ppo_cells", (_reward(-1.0),), ("reward",)),
    "sac_reward_sign": Fault("sac_mass", (_reward(-1.0),), ("reward",)),
    "mass_reward_constant": Fault("ppo_mass", (_trained("ConstantReward"),), ("reward",)),
    "sac_reward_constant": Fault("sac_mass", (_trained("ConstantReward"),), ("reward",)),
    "mass_reward_x1e3": Fault("a2c_mass", (_reward(1000.0),), ("reward", "normalisation")),
    "pendulum_reward_x1e3": Fault("ddpg_pendulum", (_reward(1000.0),), ("reward", "normalisation")),
    "acrobot_observation_constant": Fault(
        "ppo_acrobot", (_everywhere("ConstantObservation"),), ("observation",)
    ),
    "mass_observation_constant": Fault("td3_mass", (_everywhere("ConstantObservation"),), ("observation",)),
    "mass_observation_noise": Fault("ppo_mass", (_everywhere("NoiseObservation"),), ("observation",)),
    "cells_observation_noise": Fault("a2c_cells", (_everywhere("NoiseObservation"),), ("observation",)),
    "cells_observation_held": Fault("ppo_cells", (_everywhere("HeldObservation"),), ("observation",)),
    "sac_observation_held": Fault("sac_mass", (_everywhere("HeldObservation"),), ("observation",)),
    "mass_observation_x1e4": Fault(
        "ppo_mass", (_everywhere("ScaledObservation", ",scale:10000.0"),), ("observation", "normalisation")
    ),
    "td3_observation_x1e4": Fault(
        "td3_mass", (_everywhere("ScaledObservation", ",scale:10000.0"),), ("observation", "normalisation")
    ),
    "mass_action_ignored": Fault("ppo_mass", (_trained("IgnoredAction"),), ("data",)),
    "sac_action_ignored": Fault("sac_mass", (_trained("IgnoredAction"),), ("data",)),
    "acrobot_gamma_0": Fault("ppo_acrobot", ("agent.gamma=0",), ("discount",)),
    "cells_gamma_0": Fault("a2c_cells", ("agent.gamma=0",), ("discount",)),
    "cells_entropy": Fault("ppo_cells", ("agent.entropy_coef=1",), ("exploration",)),
    "mass_entropy": Fault("a2c_mass", ("agent.entropy_coef=1",), ("exploration",)),
    "sac_temperature": Fault("sac_mass", ("agent.temperature=30.0",), ("exploration",)),
    "ppo_mass_entropy": Fault("ppo_mass", ("agent.entropy_coef=0.5",), ("exploration",)),
    "mass_no_noise": Fault("td3_mass", ("agent.noise.std=0", "agent.learning_starts=64"), ("exploration",)),
    "pendulum_no_noise": Fault(
        "ddpg_pendulum", ("agent.noise.std=0", "agent.learning_starts=64"), ("exploration",)
    ),
    "cells_critic_detached": Fault("a2c_cells", (_network("CutCritic"),), ("frozen",)),
    "mass_critic_detached": Fault("ppo_mass", (_network("CutCritic"),), ("frozen",)),
    "acrobot_zeros": Fault("ppo_acrobot", (_network("Zeros"),), ("init",)),
    "cells_alike": Fault("a2c_cells", (_network("Alike"),), ("init",)),
    "mass_lr_x300": Fault("ppo_mass", ("optimizer.lr=0.3",), ("learning_rate",)),
    "sac_lr_x100": Fault("sac_mass", ("optimizer.lr=0.1",), ("learning_rate",)),
    "cells_lr_x1e-3": Fault("ppo_cells", ("optimizer.lr=1e-6",), ("learning_rate",)),
    "td3_lr_x1e-3": Fault("td3_mass", ("optimizer.lr=1e-6",), ("learning_rate",)),
    "cells_unended": Fault("a2c_cells", (_trained("Unended"),), ("terminal",)),
    "acrobot_cut_short": Fault("ppo_acrobot", (_trained("CutShort", ",at:20"),), ("terminal",)),
    "mass_target_asleep": Fault("td3_mass", ("agent.tau=1e-7",), ("target_update",)),
    "sac_target_asleep": Fault("sac_mass", ("agent.tau=1e-7",), ("target_update",)),
    "cells_dead_units": Fault(
        "ppo_cells", (_network("DeadUnits", PLANTS), "policy.activation=relu"), ("init", "activation")
    ),
    "acrobot_saturated": Fault("ppo_acrobot", (_network("SaturatedUnits", PLANTS),), ("init",)),
    "cells_weight_decay": Fault(
        "a2c_cells", ("optimizer=adamw", "optimizer.weight_decay=30"), ("regularisation",)
    ),
    "mass_weight_decay": Fault(
        "ppo_mass", ("optimizer=adamw", "optimizer.weight_decay=30"), ("regularisation",)
    ),
    "sac_batch_of_1": Fault("sac_mass", ("agent.batch_size=1",), ("batch",)),
    "td3_batch_of_1": Fault("td3_mass", ("agent.batch_size=1",), ("batch",)),
    "cells_clip_nothing": Fault(
        "ppo_cells", ("agent.clip_coef=1e-5",), ("regularisation", "learning_rate", "epochs")
    ),
    "acrobot_epochs": Fault(
        "ppo_acrobot", ("agent.num_epochs=60", "agent.clip_coef=0.9"), ("epochs", "learning_rate")
    ),
    # games
    "hinge_bytes": Fault("hinge", (f"data._target_={MISTAKES}.ByteDigits",), ("preprocessing",)),
    "lattice_bytes": Fault("lattice", (f"data._target_={MISTAKES}.ByteGrid",), ("preprocessing",)),
    "hinge_generator_sign": Fault("hinge", (f"loss._target_={MISTAKES}.PushedAway",), ("loss",)),
    "lattice_generator_sign": Fault("lattice", (f"loss._target_={MISTAKES}.HelpsTheOther",), ("loss",)),
    "lattice_swapped": Fault("lattice", (f"loss._target_={MISTAKES}.Swapped",), ("loss", "labels")),
    "hinge_swapped": Fault("hinge", (f"loss._target_={MISTAKES}.SwappedHinge",), ("loss", "labels")),
    "hinge_weight_decay": Fault(
        "hinge", ("optimizer=adamw", "optimizer.weight_decay=30"), ("regularisation",)
    ),
    "lattice_weight_decay": Fault(
        "lattice", ("optimizer=adamw", "optimizer.weight_decay=30"), ("regularisation",)
    ),
    "lattice_deaf": Fault("lattice", (f"network._target_={MISTAKES}.DeafGenerator",), ("data", "layers")),
    "hinge_deaf": Fault("hinge", (f"network._target_={MISTAKES}.DeafGenerator",), ("data", "layers")),
    "hinge_lr_x100": Fault("hinge", ("optimizer.lr=0.2",), ("learning_rate",)),
    "lattice_lr_x100": Fault("lattice", ("optimizer.lr=0.3",), ("learning_rate",)),
    "lattice_batch_of_2": Fault(
        "lattice", ("batch_size=2", "total_images=4000", "logging.eval_interval=400"), ("batch",)
    ),
    "hinge_batch_of_2": Fault(
        "hinge", ("batch_size=2", "total_images=2500", "logging.eval_interval=300"), ("batch",)
    ),
    "hinge_penalty": Fault("hinge", ("penalty.gamma=3000",), ("regularisation",)),
    "lattice_penalty": Fault("lattice", ("penalty.gamma=300",), ("regularisation",)),
    "lattice_generator_asleep": Fault(
        "lattice", ("optimizer.lr=1e-7", "discriminator.lr=3e-3"), ("learning_rate",)
    ),
    "hinge_discriminator_asleep": Fault("hinge", ("discriminator.lr=1e-7",), ("learning_rate",)),
    # descents
    "digits_shuffled": Fault("digits", _mistaken("Digits", "shuffled"), ("labels",)),
    "moons_shuffled": Fault("moons", _mistaken("Moons", "shuffled"), ("labels",)),
    "moons_bytes": Fault("moons", _mistaken("Moons", "bytes"), ("preprocessing", "normalisation")),
    "digits_bytes": Fault("digits", _mistaken("Digits", "bytes"), ("preprocessing", "normalisation")),
    "digits_negative": Fault("digits", _mistaken("Digits", "negative"), ("loss",)),
    "moons_negative": Fault("moons", _mistaken("Moons", "negative"), ("loss",)),
    "digits_softmax": Fault("digits", _mistaken("Digits", "softmax"), ("activation", "loss")),
    "moons_softmax": Fault("moons", _mistaken("Moons", "softmax"), ("activation", "loss")),
    "moons_zeros": Fault("moons", _mistaken("Moons", "zeros"), ("init",)),
    "digits_alike": Fault("digits", _mistaken("Digits", "alike"), ("init",)),
    "digits_thirty": Fault(
        "digits", (*_mistaken("Digits", "thirty"), "batch.size=30"), ("data", "epochs", "regularisation")
    ),
    "moons_few": Fault(
        "moons", ("objective.samples=6", "batch.size=6"), ("data", "epochs", "regularisation")
    ),
    "linear_lr_x300": Fault("linear", ("optimizer.lr=1",), ("learning_rate",)),
    "digits_lr_x1e3": Fault("digits", ("optimizer.lr=10",), ("learning_rate",)),
    "moons_lr_x1e-4": Fault("moons", ("optimizer.lr=1e-6",), ("learning_rate",)),
    "digits_lr_x1e-4": Fault("digits", ("optimizer.lr=1e-6",), ("learning_rate",)),
    "digits_decay": Fault("digits", ("optimizer.weight_decay=3",), ("regularisation",)),
    "moons_decay": Fault("moons", ("optimizer=adamw", "optimizer.weight_decay=30"), ("regularisation",)),
    "linear_batch_of_1": Fault("linear", ("batch.size=1", "optimizer.lr=0.02"), ("batch", "learning_rate")),
    "linear_deep": Fault(
        "linear",
        ("objective=deep_sigmoid", "objective.depth=9"),
        ("activation", "layers", "optimizer"),
    ),
    "digits_one_label": Fault("digits", _mistaken("Digits", "one_label"), ("labels", "data")),
    "moons_momentum": Fault(
        "moons", ("optimizer=momentum", "optimizer.momentum=0.99", "optimizer.lr=10"), ("learning_rate",)
    ),
}


def half(name: str) -> str:
    """Which half of the table a fault belongs to."""
    return ("calibration", "held_out")[list(FAULTS).index(name) % 2]
