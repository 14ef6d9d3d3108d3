"""A typed option that changes nothing in this run is named with its reason; a default or a page's is not."""

import pytest

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir


def said(*overrides: str) -> tuple[str, ...]:
    tree, _, composed = compose_tree("rl", overrides, [config_dir()])
    return check(tree, composed.typed)


DISCRETE = "the actions are discrete"
ONE_EPOCH = "agent.num_epochs is 1, and it counts after the first epoch"
ONE_STEP = "the one gradient step on a rollout starts from the policy that acted"
SHORT = "total_steps=64 agent.learning_starts=32"


@pytest.mark.parametrize(
    ("words", "option", "reason"),
    [
        ("env=cartpole policy.squash=true", "policy.squash", DISCRETE),
        ("env=cartpole policy.log_std=-1", "policy.log_std", DISCRETE),
        ("env=cartpole policy.state_dependent_std=true", "policy.state_dependent_std", DISCRETE),
        ("env=cartpole policy.sde=true", "policy.sde", DISCRETE),
        ("env=cartpole policy.sde_interval=4", "policy.sde_interval", DISCRETE),
        (f"agent=sac env=cartpole policy.sde=true {SHORT}", "policy.sde", DISCRETE),
        (f"agent=sac env=cartpole policy.log_std=-2 {SHORT}", "policy.log_std", DISCRETE),
        ("env=pendulum policy.sde_interval=4", "policy.sde_interval", "policy.sde is false"),
        (f"agent=sac env=pendulum policy.log_std=-2 {SHORT}", "policy.log_std", "policy.sde is false"),
        ("env=cartpole policy.convolutions.features=16", "policy.convolutions", "no observation is an image"),
        (
            f"agent=td3 env=pendulum policy.convolutions.features=16 {SHORT}",
            "policy.convolutions",
            "no observation is an image",
        ),
        (
            "env=cartpole policy.hidden_sizes=[] policy.activation=elu",
            "policy.activation",
            "policy.hidden_sizes is []",
        ),
        (
            "env=cartpole policy.hidden_sizes=[] policy.shared=true",
            "policy.shared",
            "actor and critic have no layer but the last",
        ),
        ("agent.num_epochs=1 agent.target_kl=0.01", "agent.target_kl", ONE_EPOCH),
        ("agent.num_epochs=1 agent.recompute_advantage=true", "agent.recompute_advantage", ONE_EPOCH),
        ("agent.num_epochs=1 agent.num_minibatches=1 agent.clip_coef=0.1", "agent.clip_coef", ONE_STEP),
        (
            "agent.num_epochs=2 agent.num_minibatches=1 agent.target_kl=0.01",
            "agent.target_kl",
            "the first of two gradient steps starts from the policy that acted",
        ),
        (
            f"agent=sac env=pendulum agent.temperature=0.1 agent.target_entropy=-2 {SHORT}",
            "agent.target_entropy",
            "agent.temperature is a number and not learnt",
        ),
        (
            f"agent=td3 env=pendulum agent.target_noise=0 agent.target_noise_clip=1 {SHORT}",
            "agent.target_noise_clip",
            "agent.target_noise is 0",
        ),
        (
            f"agent=ddpg env=pendulum agent.noise.theta=0.3 {SHORT}",
            "agent.noise.theta",
            "agent.noise.kind is gaussian",
        ),
        (
            "agent=reinforce agent.baseline=mean agent.value_coef=1",
            "agent.value_coef",
            "agent.baseline is mean, so there is no critic",
        ),
        (
            f"agent=td3 env=pendulum evaluation.deterministic=false {SHORT}",
            "evaluation.deterministic",
            "the policy is deterministic",
        ),
        (
            f"agent=ddpg env=pendulum evaluation.deterministic=false {SHORT}",
            "evaluation.deterministic",
            "the policy is deterministic",
        ),
        (
            "env=cartpole evaluation.max_episode_steps=500",
            "evaluation.max_episode_steps",
            "CartPole-v1 ends its episodes after 500 steps",
        ),
        (
            "env=cartpole env.autoreset=next_step",
            "env.autoreset",
            "CartPole-v1 runs as its own vector version; env.vectorization=sync reads it",
        ),
        (
            "env=cartpole env.vectorization=torch env.autoreset=next_step",
            "env.autoreset",
            "with env.vectorization=torch copies reset at once",
        ),
        (f"agent=td3 env=pendulum clipper=pcgrad {SHORT}", "clipper", "every gradient step has one loss"),
        ("agent=trpo env=pendulum clipper=pcgrad", "clipper", "every gradient step has one loss"),
        (
            "env=cartpole clipper=pcgrad",
            "clipper",
            "policy and value function share no parameter, and there is no entropy bonus",
        ),
        (
            "env=cartpole clipper=pcgrad clipper.seed=1 agent.entropy_coef=0.01",
            "clipper.seed",
            "policy and value function share no parameter, and two losses have one order",
        ),
        (
            "env=cartpole clipper=pcgrad clipper.seed=1 agent.entropy_coef=0 policy.shared=true",
            "clipper.seed",
            "two losses have one order",
        ),
        ("env=cartpole optimizer.groups=no_decay", "optimizer.groups", "optimizer.weight_decay is 0"),
        (
            "env=cartpole optimizer=adafactor probe=curvature probe.curvature.stability=false",
            "probe.curvature.stability",
            "the stability threshold of Adafactor is not known",
        ),
        (
            "env=cartpole clipper=chain clipper.transforms=[{_target_:core.gradients.PCGrad}]",
            "clipper.transforms.0",
            "policy and value function share no parameter, and there is no entropy bonus",
        ),
    ],
)
def test_a_typed_option_without_effect_is_named_with_its_reason(words, option, reason):
    assert f"{option} has no effect here: {reason}" in said("experiment=none", *words.split())


@pytest.mark.parametrize(
    "words",
    [
        "env=cartpole",  # every default above, none of them typed
        "experiment=rl/td3_pendulum",
        "env=pendulum policy.squash=true policy.log_std=-1",
        "env=pendulum policy.sde=true policy.sde_interval=4",
        f"agent=sac env=pendulum policy.sde=true policy.log_std=-2 {SHORT}",
        f"agent=sac env=pendulum agent.target_entropy=-2 {SHORT}",
        f"agent=td3 env=pendulum agent.target_noise_clip=1 {SHORT}",
        "env=breakout policy.convolutions.features=16",
        "agent.num_epochs=3 agent.target_kl=0.01 agent.recompute_advantage=true",
        "env=cartpole evaluation.deterministic=false evaluation.max_episode_steps=100",
        "env=cartpole env.vectorization=sync env.autoreset=next_step",
        "env=cartpole clipper=pcgrad agent.entropy_coef=0.01",
        "env=cartpole clipper=pcgrad policy.shared=true",
        "env=cartpole clipper=pcgrad clipper.seed=1 policy.shared=true agent.entropy_coef=0.01",
        "env=cartpole optimizer.weight_decay=0.1 optimizer.groups=no_decay",
        "env=cartpole probe=curvature probe.curvature.stability=false",
        "agent=ppo_kl env=cartpole clipper=pcgrad",
    ],
)
def test_nothing_is_said_of_what_has_an_effect_or_was_not_typed(words):
    assert said(*words.split()) == ()


def test_options_of_one_reason_share_a_line():
    lines = said("env=cartpole", "policy.squash=true", "policy.sde=true")
    assert lines == (f"policy.squash and policy.sde have no effect here: {DISCRETE}",)


@pytest.mark.parametrize("agent", ["ppo", "trpo"])
def test_a_pattern_that_leaves_nothing_out_is_refused(agent):
    words = [f"agent={agent}", "clipper=agc", "experiment=none"]
    assert said(*words, "clipper.exclude=[critic.*]") == ()
    with pytest.raises(ConfigError, match=r"clipper\.exclude: the pattern nothing\.\* matches no parameter"):
        said(*words, "clipper.exclude=[critic.*,nothing.*]")


def test_the_command_says_it_before_the_run(command):
    words = ["total_steps=64", "num_envs=2", "agent.num_steps=32", "evaluation.episodes=1", "num_envs=2"]
    outcome = command("rl", *words, "experiment=none", "policy.squash=true", "hydra.run.dir=run")
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[0] == f"policy.squash has no effect here: {DISCRETE}"
