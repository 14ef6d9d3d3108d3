"""What a run is made of, as far as its diagnosis needs to know, and what its options can cure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# As they are appended to a command: ("optimizer.lr=0.001",); sentences where there is no such command.
Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One parameter tensor of a player.

    Attributes:
        name: as in its tags.
        size: number of its elements.
        dim: number of its dimensions; weights have 2 and more, biases and gains have 1.
    """

    name: str
    size: int
    dim: int


@dataclass(frozen=True)
class Player:
    """What one `GradientStep` moves.

    Attributes:
        name: empty where there is only one player.
        layers: from the input to the output.
        lr: the learning rate its optimizer was built with.
        batch: samples behind one gradient; None = unknown.
        optimizer: name of the optimizer's class.
        initial_norm: of all its weights as one vector, before the first step; 0 = unknown.
        frozen: names of its network's parameters that require no gradient.
    """

    name: str
    layers: tuple[Layer, ...]
    lr: float
    batch: int | None = None
    optimizer: str = "Adam"
    initial_norm: float = 0.0
    frozen: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What its tags begin with."""
        return f"{self.name}/" if self.name else ""


def nothing(context: "Context") -> Overrides:
    """No override: these options cannot bring the cure about."""
    return ()


def no_batch(context: "Context", player: Player, samples: int) -> Overrides:
    """No override: these options have no batch size."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """How one trainer's options bring about what the rules for any network propose.

    The options that every trainer shares (optimizer, clipper) are known to `core.diagnosis.remedies`. A field
    that is left out proposes nothing.

    Attributes:
        own_rates: by player, the option that holds its own learning rate; null there means optimizer.lr.
        ruinous: findings that are no errors and yet the end of a training: a run may return from them.
        live: options, or what their names begin with, that may change in the middle of a run.
        network: the group that chooses the class of the networks; empty where there is none.
        loss: the group that chooses the class of the loss; empty where there is none.
        larger_batch: about this number of samples behind one gradient; empty unless it is more than now.
        shallower: fewer layers, or layers that pass more of the gradient on.
        leakier: activations that pass a gradient on either side of zero.
        smaller_inputs: inputs on a common scale.
        varied_inputs: inputs that differ from sample to sample.
        smaller_targets: what the network is to predict, on a common scale.
        unbounded: activations between the layers that pass the gradient on undiminished.
        paired: targets that belong to their inputs.
        longer: a longer run.
        sign: the loss with its sign turned.
        more_data: more samples, or less freedom to learn them by heart.
        random_weights: initial weights that differ from unit to unit.
        bare_data: none of the user's own code between the data and the network.
        full_precision: 32 bits in place of 16.
        safe_operations: nothing that leaves its range at zero or at a large number.
        told: what is told of a remedy, by the name of its player, where there are no options to override;
            None = overrides, and nothing where the run lacks one of their options.
    """

    own_rates: Mapping[str, str] = field(default_factory=dict)
    ruinous: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    network: str = ""
    loss: str = ""
    larger_batch: Callable[["Context", Player, int], Overrides] = no_batch
    shallower: Callable[["Context"], Overrides] = nothing
    leakier: Callable[["Context"], Overrides] = nothing
    smaller_inputs: Callable[["Context"], Overrides] = nothing
    varied_inputs: Callable[["Context"], Overrides] = nothing
    smaller_targets: Callable[["Context"], Overrides] = nothing
    unbounded: Callable[["Context"], Overrides] = nothing
    paired: Callable[["Context"], Overrides] = nothing
    longer: Callable[["Context"], Overrides] = nothing
    sign: Callable[["Context"], Overrides] = nothing
    more_data: Callable[["Context"], Overrides] = nothing
    random_weights: Callable[["Context"], Overrides] = nothing
    bare_data: Callable[["Context"], Overrides] = nothing
    full_precision: Callable[["Context"], Overrides] = nothing
    safe_operations: Callable[["Context"], Overrides] = nothing
    told: Callable[["Context", str, Overrides], Overrides] | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What does not change while a run is diagnosed.

    Attributes:
        options: by dotted name, including those that are null.
        players: in order.
        unit: of the x-axis.
        total: its value at the end of the run.
        limits: bounds of single quantities that the options do not tell, for the trainer's own rules.
        remedies: how these options bring a cure about.
        defaults: the options as they would be had only groups been chosen and no value been typed; looked up
            when a remedy asks for them.
    """

    options: Mapping[str, object]
    players: tuple[Player, ...] = ()
    unit: str = "steps"
    total: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    remedies: Remedies = field(default_factory=Remedies)
    defaults: Callable[[], Mapping[str, object]] = dict

    def number(self, option: str) -> float | None:
        """An option that is a number, or None."""
        value = self.options.get(option)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def chosen(self, group: str) -> str:
        """The class chosen for a group of options, its last name; empty where none is chosen."""
        return str(self.options.get(f"{group}._target_") or "").rpartition(".")[2]

    def player(self, *names: str) -> Player | None:
        """The player of the first of these names that there is, or None."""
        by_name = {player.name: player for player in self.players}
        return next((by_name[name] for name in names if name in by_name), None)
