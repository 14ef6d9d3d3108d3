"""The table of `suite=diagnosis`: healthy runs, and the same runs with one fault planted in each.

A row says which finding must name the fault. Settings and seeds are other ones than those that the thresholds
of `core.diagnosis` come from; docs/diagnosis.md says how the two were kept apart.
"""

from dataclasses import dataclass
from typing import Literal

PLANTS = "core.scripts.suites.plants"
SEEDS = (201, 202, 203)

Kind = Literal["rl", "gan", "descend"]


@dataclass(frozen=True)
class Setting:
    """A healthy run.

    Attributes:
        kind: root configuration.
        overrides: the command.
        floor: score of a run that has learnt nothing, in the unit of `diagnosis.score`.
    """

    kind: Kind
    overrides: tuple[str, ...]
    floor: float


@dataclass(frozen=True)
class Fault:
    """A setting with one thing wrong.

    Attributes:
        setting: name of the healthy one.
        overrides: appended to its command.
        finding: what must be found; several where one fault has several right names.
        onset: share of the run before the fault begins to act.
    """

    setting: str
    overrides: tuple[str, ...]
    finding: tuple[str, ...]
    onset: float = 0.0


def _wrapped(name: str, option: str) -> str:
    return f"env.train_wrappers=[{{_target_:{PLANTS}.{name},{option}}}]"


QUIET = ("logging.progress=false", "logging.draw_interval=100000000", "logging.checkpoint_interval=100000000")
RL = (*QUIET, "evaluation.episodes=20", "evaluation.interval_episodes=10")
CARTPOLE = (
    "env=cartpole",
    "total_steps=100000",
    "logging.interval=1",
    "diagnosis.unit_health.interval=60",
    *RL,
)
REACHER = ("env.id=Reacher-v5", "logging.interval=100", "diagnosis.unit_health.interval=100", *RL)
SMALL = (
    "agent.batch_size=64",
    "agent.learning_starts=500",
    "policy.hidden_sizes=[64,64]",
    "optimizer.lr=1e-3",
)

GAN = ("logging.interval=25", "diagnosis.unit_health.interval=30", "measurements.samples=128", *QUIET)
DIGITS = ("data=digits", "total_images=100000", "logging.eval_interval=5000", *GAN)

SETTINGS: dict[str, Setting] = {
    "ppo": Setting("rl", ("agent=ppo", *CARTPOLE), floor=20.0),
    "reach": Setting(
        "rl", ("agent=ppo", "env.id=Reacher-v5", "total_steps=100000", "logging.interval=1", *RL), floor=-45.0
    ),
    "a2c": Setting("rl", ("agent=a2c", *CARTPOLE, "logging.interval=10"), floor=20.0),
    "td3": Setting("rl", ("agent=td3", *REACHER, *SMALL, "total_steps=5000"), floor=-45.0),
    "ring": Setting(
        "gan", ("data=ring", "total_images=384000", "logging.eval_interval=25600", *GAN), floor=0.0
    ),
    "digits": Setting("gan", DIGITS, floor=0.0),
    "saddle": Setting(
        "descend", ("function=himmelblau", "start=[0,1]", "steps=500", "optimizer=sgd"), floor=0.0
    ),
    "classes": Setting(
        "descend",
        ("objective=digits_mlp", "batch=minibatch", "optimizer=adam", "steps=1500", *QUIET[:2]),
        floor=0.1,
    ),
    "moons": Setting(
        "descend", ("objective=moons", "batch=full", "optimizer=sgd", "steps=1500", *QUIET[:2]), floor=0.5
    ),
}

FAULTS: dict[str, Fault] = {
    # the learning rate
    "ppo_lr_x100": Fault(
        "ppo", ("optimizer.lr=0.1",), ("update_too_large", "runaway_kl", "ratio_out_of_hand")
    ),
    "ppo_lr_x1e-4": Fault("ppo", ("optimizer.lr=1e-7",), ("update_too_small",)),
    "gan_lr_x100": Fault("digits", ("optimizer.lr=0.2",), ("update_too_large",)),
    "gan_generator_asleep": Fault(
        "digits",
        ("optimizer.lr=1e-8", "discriminator.lr=2e-3"),
        ("update_too_small", "discriminator_too_strong"),
    ),
    "critic_lr_x50": Fault("td3", ("agent.critic_lr=0.05",), ("update_too_large",)),
    "classes_lr_x300": Fault("classes", ("optimizer.lr=0.3",), ("update_too_large",)),
    "momentum_over_the_edge": Fault(
        "moons",
        ("optimizer=momentum", "optimizer.momentum=0.9", "optimizer.lr=20"),
        ("oscillation", "above_edge_of_stability", "update_too_large"),
    ),
    # rewards
    "reward_x1e4": Fault("ppo", (_wrapped("ScaledReward", "scale:10000.0"),), ("reward_scale",)),
    "reward_nan": Fault(
        "ppo", (_wrapped("BrokenReward", "at:1500"),), ("non_finite_experience",), onset=0.12
    ),
    "advantage_raw": Fault(
        "ppo",
        ("agent.normalize_advantage=false", _wrapped("ScaledReward", "scale:100.0")),
        ("unnormalized_advantage",),
    ),
    # units and layers
    "dead_relu": Fault(
        "ppo", (f"policy._target_={PLANTS}.DeadUnits", "policy.activation=relu"), ("dead_units",)
    ),
    "saturated_tanh": Fault("ppo", (f"policy._target_={PLANTS}.SaturatedUnits",), ("saturated_units",)),
    "detached_critic": Fault("ppo", (f"policy._target_={PLANTS}.DetachedCritic",), ("detached_layer",)),
    "frozen_layer": Fault("ppo", (f"policy._target_={PLANTS}.FrozenActor",), ("frozen_layer",)),
    "dead_generator": Fault("digits", (f"network._target_={PLANTS}.DeadGenerator",), ("dead_units",)),
    "deep_sigmoid": Fault(
        "classes", ("objective=deep_sigmoid", "objective.depth=12"), ("vanishing_gradient",)
    ),
    "half_precision_unscaled": Fault(
        "digits",
        (f"network._target_={PLANTS}.HalfGradients", f"loss._target_={PLANTS}.Averaged", "penalty=none"),
        ("vanishing_gradient",),
    ),
    "log_of_zero": Fault("digits", (f"loss._target_={PLANTS}.LogOfZero",), ("non_finite",), onset=0.38),
    # clipping, batches, averages
    "clip_to_nothing": Fault(
        "ppo", ("clipper.max_norm=1e-6", "optimizer=sgd", "optimizer.lr=1e-2"), ("clipping_always_on",)
    ),
    "batch_of_two": Fault("classes", ("batch.size=2",), ("noise_dominated",)),
    "average_asleep": Fault("digits", ("average.half_life=1e9", "average.ramp_up=null"), ("stale_average",)),
    "target_asleep": Fault("td3", ("agent.tau=1e-7",), ("stale_target",)),
    # policies
    "no_exploration": Fault("reach", ("policy.log_std=-7",), ("collapsed_entropy",)),
    "too_many_epochs": Fault(
        "ppo",
        ("agent.num_epochs=150", "agent.clip_coef=0.95", "optimizer.lr=3e-3"),
        ("runaway_kl", "ratio_out_of_hand"),
    ),
    # games
    "discriminator_x10": Fault(
        "digits",
        (
            "loss=minimax",
            "penalty=none",
            "discriminator.steps=10",
            "logging.interval=4",
            "total_images=400000",
        ),
        ("discriminator_too_strong",),
    ),
    "discriminator_asleep": Fault(
        "digits", ("discriminator.lr=1e-7",), ("discriminator_too_weak", "update_too_small")
    ),
    "penalty_x1000": Fault("ring", ("penalty.gamma=1000",), ("penalty_dominating", "discriminator_too_weak")),
    "penalty_x1e-6": Fault("ring", ("penalty.gamma=1e-6",), ("penalty_asleep",)),
    "few_images": Fault(
        "digits", ("data.held_out=1733", "penalty=none"), ("discriminator_overfitting",), onset=0.2
    ),
    "collapse": Fault(
        "ring", ("loss=nonsaturating", "penalty=none", "discriminator.lr=1e-4"), ("mode_collapse",), onset=0.2
    ),
    "wasserstein_bare": Fault("digits", ("loss=wasserstein", "penalty=none"), ("exploding_gradient",)),
    # landscapes
    "start_on_saddle": Fault("saddle", ("function=double_well", "start=[0,1]"), ("saddle",), onset=0.2),
    "start_on_plateau": Fault(
        "classes", ("objective=deep_sigmoid", "optimizer=sgd"), ("plateau", "vanishing_gradient")
    ),
}

HEALTHY: dict[str, Setting] = {
    "ppo": SETTINGS["ppo"],
    "a2c": SETTINGS["a2c"],
    **{
        f"{agent}_cartpole": Setting("rl", (f"agent={agent}", *CARTPOLE, "total_steps=60000"), floor=20.0)
        for agent in ("reinforce", "npg", "trpo", "ppo_kl", "ppo_recurrent", "vtrace")
    },
    "ppo_relu": Setting("rl", ("agent=ppo", "policy.activation=relu", *CARTPOLE), floor=20.0),
    "ppo_shared": Setting("rl", ("agent=ppo", "policy.shared=true", *CARTPOLE), floor=20.0),
    "td3": SETTINGS["td3"],
    "sac": Setting("rl", ("agent=sac", *REACHER, *SMALL, "total_steps=5000"), floor=-45.0),
    "ring": SETTINGS["ring"],
    "digits": SETTINGS["digits"],
    **{
        f"digits_{loss}": Setting("gan", (*DIGITS, f"loss={loss}", *penalty), floor=0.0)
        for loss, penalty in {
            "hinge": (),
            "least_squares": (),
            "relativistic": ("penalty=r1_r2",),
            "wasserstein": ("penalty=wgan_gp",),
        }.items()
    },
    "classes": SETTINGS["classes"],
    "moons": SETTINGS["moons"],
    "classes_full": Setting(
        "descend",
        ("objective=digits_mlp", "batch=full", "optimizer=adam", "steps=300", *QUIET[:2]),
        floor=0.1,
    ),
    "logistic": Setting(
        "descend",
        ("objective=logistic", "batch=minibatch", "optimizer=momentum", "steps=1500", *QUIET[:2]),
        floor=0.1,
    ),
    "rosenbrock": Setting("descend", ("function=rosenbrock", "optimizer=adam", "steps=1000"), floor=0.0),
    "himmelblau": SETTINGS["saddle"],
}
