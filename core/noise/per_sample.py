"""The gradient of every sample's own loss, and what makes it undefined."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from core.checks import require
from core.gradients.graph import refuse_reentrant
from core.gradients.norms import global_norm, require_real
from core.gradients.objective import Objective, own_randomness

FEW = 4  # samples on which a network with dropout is checked in evaluation mode: any two would do


def per_sample_gradients(objective: Objective, *, chunk_size: int | None = None) -> dict[str, Tensor]:
    """Gradient of the loss of every single sample, as if it were a batch of its own.

    It needs memory for B gradients. Dropout draws a mask of its own for every sample, as it does in a step,
    so that the gradients' variance is what the step suffers; with chunks the masks are other ones.

    Args:
        objective: loss and batch of B samples.
        chunk_size: samples worked on at once, >= 1; None = all. Bounds the memory that the backward pass
            needs on top of the result.

    Returns:
        By parameter name, [B, *shape]; zeros where the loss does not reach a parameter, frozen ones left out.

    Raises:
        ValueError: an empty batch; batch normalisation in training mode; a network or loss that
            `torch.func.vmap` cannot map over samples; a loss that is not the mean of its samples' own losses.
    """
    with own_randomness(objective) as drawn:
        total = gradients_or_zeros(objective, objective.on(objective.batch))
    chunks = list(sample_gradients(objective, chunk_size=chunk_size))
    gradients = {name: torch.cat([chunk[name] for chunk in chunks]) for name in objective.names}
    if drawn():
        check_without_randomness(objective, per_sample_gradients)
    else:
        sums = [g.sum(0) for g in gradients.values()]
        norms = [torch.linalg.vector_norm(as_rows(g), dim=1) for g in gradients.values()]
        require_mean_of_samples(total, sums, norms)
    return gradients


def sample_gradients(
    objective: Objective, names: Sequence[str] | None = None, chunk_size: int | None = None
) -> Iterator[dict[str, Tensor]]:
    """The same chunk by chunk, and without checking that the loss is the mean of its samples' own losses.

    Args:
        objective: loss and batch of B samples.
        names: parameters to differentiate with respect to; None = all.
        chunk_size: samples in a chunk, the last may have fewer; None = all.

    Yields:
        By parameter name, [chunk, *shape].

    Raises:
        ValueError: as in `per_sample_gradients`.
    """
    require_separate_samples(objective)
    size = objective.samples
    require(chunk_size is None or chunk_size >= 1, "chunk_size", chunk_size, "an integer >= 1 or null")
    detached = {n: p.detach() for n, p in zip(objective.names, objective.parameters, strict=True)}
    asked = {name: detached.pop(name) for name in (objective.names if names is None else names)}

    def own_loss(parameters: dict[str, Tensor], *sample: Tensor) -> Tensor:
        return objective.on([part[None] for part in sample], {**detached, **parameters})

    mapped = vmap(grad(own_loss), in_dims=(None, *[0] * len(objective.batch)), randomness="different")
    for start in range(0, size, chunk_size or size):
        samples = [part[start : start + (chunk_size or size)] for part in objective.batch]
        # Another seed per chunk, or the samples of all chunks would share their masks.
        with own_randomness(objective, seed=start), _own_states(objective.module), _mapping_explained():
            chunk = mapped(asked, *samples)
        yield chunk


def as_rows(gradients: Tensor) -> Tensor:
    """Per-sample gradients [B, *shape] as rows [B, n]; a parameter without dimensions has n = 1."""
    return gradients.flatten(1) if gradients.dim() > 1 else gradients[:, None]


def gradients_or_zeros(objective: Objective, loss: Tensor) -> list[Tensor]:
    """Gradient of the loss per parameter, zeros where it does not reach."""
    if not loss.requires_grad:
        return [torch.zeros_like(p) for p in objective.parameters]
    refuse_reentrant(loss)
    return list(torch.autograd.grad(loss, objective.parameters, allow_unused=True, materialize_grads=True))


def require_separate_samples(objective: Objective) -> None:
    """Raise ValueError unless every sample can have a gradient of its own."""
    sizes = {len(part) for part in objective.batch}
    if len(sizes) != 1 or sizes == {0}:
        shapes = [tuple(part.shape) for part in objective.batch]
        raise ValueError(
            f"per-sample gradients want tensors [B, ...] with one B >= 1, got the shapes {shapes}"
        )
    require_real("per-sample gradients", objective.names, objective.parameters)
    require_no_shared_statistics(objective.module)


def require_no_shared_statistics(network: nn.Module) -> None:
    """Raise ValueError where batch normalisation mixes the samples."""
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"per-sample gradients are not defined through {name or 'the module'}, a "
                f"{type(module).__name__} that uses the batch's statistics: they are shared by all samples. "
                "Call eval() on it (running statistics), or use GroupNorm or LayerNorm"
            )


def require_mean_of_samples(total: Sequence[Tensor], sums: Sequence[Tensor], norms: Sequence[Tensor]) -> None:
    """Raise ValueError unless the samples' own gradients have the batch's gradient as their mean.

    Args:
        total: gradient of the batch, per parameter; when it is not finite, nothing is checked.
        sums: the samples' own gradients, summed, per parameter.
        norms: their norms, per parameter [B]; rounding errors scale with them.
    """
    size = len(norms[0])
    difference = global_norm([own / size - g for own, g in zip(sums, total, strict=True)])
    scale = global_norm(norms) / size**0.5
    if global_norm(total).isfinite() and not difference <= tolerance(total[0]) * scale + rounding(total):
        raise ValueError(
            "the loss of the batch is not the mean of its samples' own losses (their gradients have another "
            "mean), so a sample has no gradient of its own. Is the loss a sum instead of a mean? Is something"
            " normalised over the batch inside it (advantages)? Put the normalised values into the batch"
        )


def tolerance(like: Tensor) -> float:
    """Relative difference that rounding alone may make; TF32 on accelerators keeps three digits."""
    return torch.finfo(like.dtype).eps ** 0.5 if like.device.type == "cpu" else 1e-2


def rounding(gradient: Sequence[Tensor]) -> float:
    """Norm of the rounding errors of a gradient whose components are differences of numbers about 1.

    A gradient that is itself no longer than this says nothing about the loss: an output that is right to
    the last digit leaves nothing but these errors.
    """
    return torch.finfo(gradient[0].dtype).eps * sum(g.numel() for g in gradient) ** 0.5


def check_without_randomness(objective: Objective, measure: Callable[[Objective], object]) -> None:
    """Let `measure` check a few samples in evaluation mode: with dropout, the masks would differ."""
    modes = [(module, module.training) for module in objective.module.modules()]
    if not any(training for _, training in modes):
        return  # what is random in evaluation mode too cannot be checked
    try:
        # Set one by one: a module's own train() may do more than change the mode.
        for module, _ in modes:
            module.training = False
        measure(Objective(objective.module, objective.loss, [part[:FEW] for part in objective.batch]))
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _own_states(module: nn.Module) -> Iterator[None]:
    """Begin recurrent layers with zeros of every sample's own: torch's are shared, and written into.

    cuDNN's kernels cannot be mapped at all.
    """

    def begin(layer: nn.RNNBase, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> Any:
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or args[0].dim() != 3:
            return None  # a state that is handed over belongs to its sample
        first = args[0][:, 0, :1] if layer.batch_first else args[0][0, :, :1]
        layers = layer.num_layers * (1 + layer.bidirectional)
        hidden, cell = (
            torch.zeros_like(first).expand(layers, -1, size).contiguous()
            for size in (layer.proj_size or layer.hidden_size, layer.hidden_size)
        )
        return (args[0], (hidden, cell) if isinstance(layer, nn.LSTM) else hidden), {}

    recurrent = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    with ExitStack() as stack:
        for layer in recurrent:
            hook = layer.register_forward_pre_hook(begin, with_kwargs=True)
            stack.callback(hook.remove)
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def _mapping_explained() -> Iterator[None]:
    """Say what was attempted. The loss of the whole batch has been computed by now, so it is the mapping."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            "per-sample gradients: torch.func.vmap cannot map this loss over single samples; it can neither "
            "follow an `if` or .item() on data nor write a sample's values into a tensor that all samples "
            f"share. Its reason: {str(error).splitlines()[0]}"
        ) from error
