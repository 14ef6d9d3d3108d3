"""What the report and `compare` know about reinforcement-learning agents."""

from collections.abc import Iterator
from typing import cast

from core.compare.find import Score
from core.numbers import number, seconds
from core.report.charts import Chart, Line
from core.report.facts import class_name, option, summary_fact
from core.report.record import Fact, Kind, Record

OUTCOME = (
    Chart("Return",
          "Sum of the rewards of an episode. An evaluation plays separate episodes; its band is ± one "
          "standard deviation between them.",
          (Line("training", "episode/return", 3), Line("evaluation", "eval/return_mean"))),
    Chart("Episode length", "Steps until an episode ends.", (Line("training", "episode/length", 3),)),
)  # fmt: skip

GRADIENTS = (
    Chart("Variance of the policy gradient",
          "Variance of one sample's gradient when the return is weighted as it is, less its mean, less the "
          "predicted value, or as a generalized advantage. Logarithmic.",
          (Line("no baseline", "policy_gradient/variance_no_baseline", 2),
           Line("mean", "policy_gradient/variance_mean_baseline", 3),
           Line("value", "policy_gradient/variance_value_baseline", 4),
           Line("advantage", "policy_gradient/variance_gae")), log=True),
    Chart("Agreement of minibatches",
          "Cosine of a minibatch's policy gradient with that of the rest of the rollout, and with that of "
          "100 times as many other samples.",
          (Line("rest of the rollout", "policy_gradient/minibatch_cosine"),
           Line("100 times as many", "policy_gradient/minibatch_cosine_100x", 3))),
    Chart("Policy against value",
          "Cosine of the policy's and the value's gradient on the layers that they share; where it is "
          "negative, they pull apart.", (Line("cosine", "policy_gradient/value_cosine"),)),
    Chart("Noise scale of the policy gradient",
          "Number of samples at which its signal and its noise are equally long; there is none where noise "
          "drowns the signal. Logarithmic.", (Line("samples", "policy_gradient/noise_scale"),), log=True),
)  # fmt: skip

LOSSES = (
    Chart("Policy loss", "Negative surrogate objective of the policy.", (Line("loss", "loss/policy"),)),
    Chart("Value loss", "Squared error of the predicted return.", (Line("loss", "loss/value"),), log=True),
    Chart("Entropy", "Randomness of the policy, in nats; it falls as the policy becomes deterministic.",
          (Line("nats", "policy/entropy"),)),
    Chart("Change of the policy",
          "KL divergence of the policy after an update from the one that acted, in nats.",
          (Line("nats", "policy/approx_kl"),), log=True),
    Chart("Clipped ratios", "Share of samples whose probability ratio is outside of the clipping interval.",
          (Line("share", "policy/clip_fraction"),)),
    Chart("Explained variance",
          "Share of the variance of the returns that the value function explains; 1 is perfect, 0 is a "
          "constant guess.", (Line("share", "policy/explained_variance"),)),
)  # fmt: skip


def subject(record: Record) -> str:
    """The environment."""
    return str(option(record.options, "env", "id"))


def title(record: Record) -> str:
    """The agent and its environment."""
    return f"{class_name(record.options.get('agent'))} on {subject(record)}"


def facts(record: Record) -> Iterator[Fact]:
    """The final return, else the last ones; when the task was solved; the best return."""
    summary = record.summary
    remarks = "".join(f"; {remark}" for remark in cast(list[str], summary.get("remarks") or []))
    mean = summary.get("eval_return_mean")
    if isinstance(mean, int | float):
        greedy = option(record.options, "evaluation", "deterministic")
        how = "the most likely action" if greedy else "sampled actions"
        note = f"final parameters, {how}; ± is the standard deviation between episodes"
        if summary.get("eval_episodes_capped"):
            note += f"; {summary['eval_episodes_capped']} were cut off by evaluation.max_episode_steps"
        value = f"{number(mean)} ± {number(summary.get('eval_return_std'))}"
        note += remarks
        yield Fact(value, f"mean return over {number(summary.get('eval_episodes'))} episodes", note, mean)
    else:
        if lost := summary.get("eval_episodes_without_return"):
            note = f"{number(lost)} of {number(summary.get('eval_episodes'))} returns are not a number"
            yield Fact("none", "mean return of the final evaluation", note)
        for tag, source in (("eval/return_mean", "evaluation"), ("episode/return", "training episodes")):
            last = record.last(tag)
            if last:
                note = f"at {last[1]:,} {record.unit}{remarks}"
                yield Fact(number(last[0]), f"last mean return, {source}", note, last[0])
    label = "environment steps until solved"
    note = f"first evaluation at or above the threshold, after {seconds(summary.get('solved_at_wall_s'))}"
    yield from summary_fact(record, "solved_at_env_steps", label, note)
    if "solved_at_env_steps" in summary and summary["solved_at_env_steps"] is None:
        note = "no evaluation reached the environment's reward threshold, or it has none"
        yield Fact("not solved", label, note)
    kept = (record.directory / "checkpoints" / "best.pt").exists()
    note = "of the evaluations during training" + ("; kept in checkpoints/best.pt" if kept else "")
    yield from summary_fact(record, "best_eval_return_mean", "best mean return", note)


AGENT = Kind(
    name="Reinforcement learning",
    unit="environment steps",
    length="total_steps",
    efforts={"env_steps_per_s": "environment steps a second"},
    players=("actor", "critic"),
    title=title,
    subject=subject,
    facts=facts,
    outcome=OUTCOME,
    overview=tuple(chart for chart in LOSSES if chart.title in ("Entropy", "Change of the policy")),
    gradients=GRADIENTS,
    losses=LOSSES,
    captions={"agent": "One episode of the agent, played by its latest parameters."},
)

SCORE = Score(
    package="gradrl",
    command="train_rl",
    runs="reinforcement-learning runs",
    label="mean return of evaluation",
    unit="env steps",
    long_unit="environment steps",
    entries=("eval_return_mean",),
    curves=("eval/return_mean",),
    task=("env",),
    task_options=("env.id",),
    method="agent",
)
