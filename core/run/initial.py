"""Begin a training with another run's weights.

Only weights and, if wanted, running statistics are taken over: optimizers, counters and random numbers begin
anew, and everything else may be another. What continues a run is `resume=DIR`.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from core.config import ConfigError
from core.run.saved import Saved, read_saved
from core.text import shown


def read_initial(option: str, source: str, target: str, interface: Mapping[str, object]) -> Saved:
    """The run that a training begins from.

    Args:
        option: that names it, for messages.
        source: its directory, for the last checkpoint, or the path of one.
        target: the class of its options, dotted.
        interface: what goes into the new network and comes out, which has to be the same.

    Raises:
        ConfigError: there is no such run, a file is damaged, or another interface.
    """
    path = Path(source)
    run, checkpoint = (path.parent.parent, path.stem) if path.suffix == ".pt" else (path, "last")
    try:
        saved = read_saved(run, target, checkpoint)
    except ConfigError as error:
        raise ConfigError(f"{option}={source}: {error}") from error
    differences = [
        f"{name} is {shown(saved.interface.get(name))} there and {shown(value)} here"
        for name, value in interface.items()
        if saved.interface.get(name) != value
    ]
    if differences:
        raise ConfigError(f"{option}={source}: {'; '.join(differences)}")
    return saved


def take_over(modules: Mapping[str, nn.Module], saved: Saved, *, statistics: bool) -> None:
    """Load the weights of a run into modules, once all of them are known to fit.

    Args:
        modules: by their name in a checkpoint.
        saved: the run.
        statistics: the buffers too; without, they stay as they are.

    Raises:
        ConfigError: lists every layer that does not fit.
    """
    states = {name: _wanted(module, saved.state.get(name), statistics) for name, module in modules.items()}
    wrong = [line for name, module in modules.items() for line in _differences(name, module, states[name])]
    if wrong:
        raise ConfigError(f"{saved.path}: {len(wrong)} layers do not fit: {'; '.join(wrong)}")
    for name, module in modules.items():
        module.load_state_dict(states[name])


def _wanted(module: nn.Module, state: object, statistics: bool) -> dict[str, object]:
    """The weights of a state, and its buffers or the module's own."""
    found = {str(name): value for name, value in state.items()} if isinstance(state, Mapping) else {}
    own = {name for name, _ in module.named_buffers()} if not statistics else set()
    kept = {name: value for name, value in module.state_dict().items() if name in own}
    return {name: value for name, value in found.items() if name not in own} | kept


def _differences(owner: str, module: nn.Module, state: Mapping[str, object]) -> list[str]:
    own: Mapping[str, Tensor] = module.state_dict()
    lines = []
    for name in [*own, *(name for name in state if name not in own)]:
        there, here = (_described(tensors.get(name)) for tensors in (state, own))
        if there != here:
            lines.append(f"{owner}.{name} is {there} there and {here} here")
    return lines


def _described(value: object) -> str:
    if value is None:
        return "missing"
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{list(value.shape)}" if value.is_floating_point() else f"{list(value.shape)} of {value.dtype}"
