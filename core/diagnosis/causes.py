"""Which findings bring about which others: what a rule hands over as `Sign.explains`.

A chain needs no more than its first link: what explains a step that is too long explains what that step does.
"""

# How little is learnt says that something is wrong, not what.
LITTLE_LEARNT = ("no_better_than_constant", "not_trained_long_enough", "plateau")
# Steps that are too long carry the parameters where gradients are huge, or zero.
LONG_STEPS = (
    "exploding_gradient",
    "non_finite",
    "dead_units",
    "saturated_units",
    "vanishing_gradient",
    "oscillation",
    "above_edge_of_stability",
    "clipping_always_on",
    "worse_held_out",
    *LITTLE_LEARNT,
)
# What is out of scale, or turned round, makes steps too long.
SCALE = (
    "update_too_large",
    "diverged",
    "outputs_too_large",
    "weight_decay_dominates",
    "noise_dominated",
    *LONG_STEPS,
)
# Nothing comes through: steps are short, and nothing is learnt.
NO_GRADIENT = ("vanishing_gradient", "update_too_small", "detached_layer", *LITTLE_LEARNT)
# What is wrong with the program itself explains whatever else is seen.
PROGRAM = tuple(dict.fromkeys((*SCALE, *NO_GRADIENT, "constant_output", "equal_units", "eps_too_large")))
