"""The effective learning rate of a layer: with the denominators of an adaptive optimizer included."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.gradients.norms import accumulation_dtype


def effective_lrs(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensor | None:
    """The rate at which plain gradient descent would move each tensor as far as this optimizer does.

        Adam and its kin:  lr / (sqrt(mean(v) / (1 - beta2^t)) + eps),   v = exp_avg_sq or max_exp_avg_sq
        RMSprop:           lr / (sqrt(mean(v)) + eps),   v = square_avg (centred: less grad_avg^2)
        RAdam:             lr until its rectification r_t begins (rho_t > 5), then lr r_t over Adam's root
        Adagrad:           lr / (1 + (t - 1) lr_decay) / (sqrt(mean(sum)) + eps)
        SGD:               lr

    The mean over a tensor's elements is taken inside the root: a mean of reciprocals would be dominated by
    the few elements that never have a gradient. Momentum is not included.

    Args:
        optimizer: after at least one step.
        parameters: its parameters, in the order wanted.

    Returns:
        [L], NaN where a parameter has no state yet; None for an optimizer that is not one of these.

    Sources: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; Graves 2013, arXiv:1308.0850, eq. 38-45; Liu et
        al. 2020, arXiv:1908.03265, algorithm 2 (RAdam); Duchi et al. 2011 (Adagrad).
    """
    rule = _rule(optimizer)
    if rule is None:
        return None
    dtype = accumulation_dtype(parameters[0].device)
    rates: dict[int, Tensor] = {}
    unknown = torch.full((), float("nan"), dtype=dtype, device=parameters[0].device)
    for group in optimizer.param_groups:
        known = [p for p in group["params"] if optimizer.state.get(p) or rule is _sgd]
        if known:
            values = rule(group, [optimizer.state[p] for p in known], unknown)
            rates |= zip(map(id, known), values.unbind(), strict=True)
    return torch.stack([rates.get(id(p), unknown) for p in parameters])


Rule = Callable[[dict, list[dict], Tensor], Tensor]


def _rule(optimizer: torch.optim.Optimizer) -> Rule | None:
    """How this class divides."""
    kind = torch.optim
    if isinstance(optimizer, kind.RAdam):
        return _radam
    if isinstance(optimizer, kind.Adam | kind.AdamW | kind.NAdam):
        return _adam
    if isinstance(optimizer, kind.RMSprop):
        return _rmsprop
    if isinstance(optimizer, kind.Adagrad):
        return _adagrad
    return _sgd if isinstance(optimizer, kind.SGD) else None


def _adam(group: dict, states: list[dict], like: Tensor) -> Tensor:
    square = _means([s.get("max_exp_avg_sq", s["exp_avg_sq"]) for s in states], like)
    return group["lr"] / ((square / (1 - group["betas"][1] ** _steps(states, like))).sqrt() + group["eps"])


def _radam(group: dict, states: list[dict], like: Tensor) -> Tensor:
    beta2, steps = group["betas"][1], _steps(states, like)
    seen = 1 - beta2**steps
    longest = 2 / (1 - beta2) - 1  # rho_infinity
    rho = longest - 2 * steps * beta2**steps / seen
    begun = rho > 5
    rho = torch.where(begun, rho, 6.0)  # any number that has a root; what comes of it is not taken
    shares = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
    square = _means([s["exp_avg_sq"] for s in states], like)
    rate = group["lr"] * (shares * seen).sqrt() / (square.sqrt() + group["eps"])
    return torch.where(begun, rate, group["lr"])


def _steps(states: list[dict], like: Tensor) -> Tensor:
    """Steps of every tensor, [L]. Those of optimizers that are not fused are on the CPU."""
    return torch.stack([s["step"] for s in states]).to(like.device, like.dtype, non_blocking=True)


def _rmsprop(group: dict, states: list[dict], like: Tensor) -> Tensor:
    square = _means([s["square_avg"] for s in states], like)
    if group["centered"]:
        square = square - _means([s["grad_avg"].square() for s in states], like)
    return group["lr"] / (square.sqrt() + group["eps"])


def _adagrad(group: dict, states: list[dict], like: Tensor) -> Tensor:
    lr = group["lr"] / (1 + (_steps(states, like) - 1) * group["lr_decay"])
    return lr / (_means([s["sum"] for s in states], like).sqrt() + group["eps"])


def _sgd(group: dict, states: list[dict], like: Tensor) -> Tensor:
    return torch.full_like(like, group["lr"]).expand(len(states))


def _means(squares: list[Tensor], like: Tensor) -> Tensor:
    """Mean of every tensor, [L]."""
    if like.device.type == "cpu":
        return torch.tensor([s.mean().item() for s in squares], dtype=like.dtype)
    return torch.stack([s.mean() for s in squares]).to(like.dtype)
