"""The rules about agents, for a `Watch` of somebody else's loop.

watch = Watch(agent, optimizer, rules=agent_rules(env.single_action_space, {"gamma": 0.99}))
watch.log(**{"episode/return": 20.0, "policy/entropy": 0.6, "policy/approx_kl": 0.01})
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from gymnasium import spaces

from core.diagnosis import Context, History, Overrides, Rule, Sign
from core.diagnosis.findings import is_sentence
from gradrl.diagnosis import AGENT_RULES
from gradrl.envs.spaces import BoxAction, action_decoder

# What the options of our agents do in a loop that has no such options.
ADVICE = {
    "normalize_reward": "divide the rewards by a running deviation of the return",
    "normalize_observation": "scale the observations to mean 0 and standard deviation 1",
    "agent.normalize_advantage": "scale the advantages of a batch to mean 0 and standard deviation 1",
}


def agent_rules(
    actions: spaces.Space,
    options: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
    progress: Callable[[], float] = lambda: 1.0,
    words: Mapping[str, str] | None = None,
) -> tuple[Rule, ...]:
    """The rules about agents; each speaks where the numbers that it looks at are logged under our tags.

    Args:
        actions: the environment's action space, of one copy.
        options: what is set, by the names of our agents' options: gamma, entropy_coef, num_epochs, target_kl,
            temperature, normalize_advantage.
        defaults: of the library, by the same names; a remedy returns to them where they lie on the way.
        progress: share of the training that is done, in [0, 1].
        words: what the library calls an option.

    Raises:
        ValueError: no policy of ours could choose such actions.
    """
    limits = action_decoder(actions).limits
    own, usual = _as_agent(options or {}), _as_agent(defaults or {})
    scaled = dict.fromkeys(("normalize_reward", "normalize_observation"), False)

    def asked(rule: Rule) -> Rule:
        def ask(history: History, context: Context) -> Iterator[Sign]:
            known = replace(
                context,
                options={**scaled, **context.options, **own},
                limits=limits,
                total=max(1, round(history.step / max(progress(), 1e-6))),
                defaults=lambda: {**context.options, **usual},
            )
            for sign in rule(history, known):
                yield replace(sign, remedy=_told(sign.remedy, known, words or {}))

        return ask

    return tuple(map(asked, AGENT_RULES))


def in_our_units(entropy: float, actions: spaces.Space) -> float:
    """An entropy of the environment's own actions [nats] as that of actions in [-1, 1]."""
    decoder = action_decoder(actions)
    if not isinstance(decoder, BoxAction):
        return entropy
    return entropy - sum(math.log(scale) for scale in decoder.scale)


def _as_agent(options: Mapping[str, object]) -> dict[str, object]:
    return {name if "." in name or name in ADVICE else f"agent.{name}": v for name, v in options.items()}


def _told(remedy: Overrides, context: Context, words: Mapping[str, str]) -> Overrides:
    """Overrides of an agent's options as sentences; those of an optimizer are told by `Watch`."""
    told = []
    for part in remedy:
        option, _, value = part.partition("=")
        name = option.removeprefix("agent.")
        if option in ADVICE and not is_sentence(part):
            told.append(ADVICE[option])
        elif option.startswith("agent.") and not is_sentence(part):
            now = context.options.get(option)
            told.append(f"set {words.get(name, name)} from {now} to {value}")
        else:
            told.append(part)
    return tuple(told)
