"""All per-sample gradients in factors, from one forward and one backward pass, and their norms.

A linear layer's gradient for sample i is the outer product of what entered the layer and what backward
brought to its output, so its norm follows from these two, which one pass over the whole batch gives for all
samples. A layer that is applied at T positions (a sequence, the pixels of a convolution, a second call)
sums T such products:

    dL_i/dW = D_i^T A_i,   A_i [T, in] inputs, D_i [T, out] gradients at the output
    |dL_i/dW|^2 = |D_i^T A_i|^2 = <A_i A_i^T, D_i D_i^T>

Sources: Goodfellow 2015, arXiv:1510.01799 (T = 1); Rochette et al. 2019, arXiv:1912.06015 (convolutions by
unfolding); Li et al. 2021, arXiv:2110.05679, section 4 (the Gram form for T > 1); Bu et al. 2022,
arXiv:2205.10683 (the cheaper of the two forms, layer by layer).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from core.checks import require
from core.gradients.graph import refuse_reentrant
from core.gradients.norms import accumulation_dtype, layer_norms
from core.gradients.objective import Objective, own_randomness
from core.noise.per_sample import (
    as_rows,
    check_without_randomness,
    gradients_or_zeros,
    require_mean_of_samples,
    require_separate_samples,
    rounding,
    sample_gradients,
    tolerance,
)

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Share:
    """What one call of a layer contributes to the per-sample gradients of its weight or its bias."""

    role: str  # "weight" or "bias"
    layer: Layer
    entered: Tensor  # input of the layer, [B, ...]
    delta: Tensor  # gradient of each sample's own loss at the layer's output, [B, ...]

    @property
    def outer(self) -> bool:
        """Whether the layer is linear and was applied at one position per sample."""
        return self.delta.dim() == 2

    def factors(self, rows: slice) -> tuple[Tensor, Tensor]:
        """A and D of some samples, [b, groups, T, in] and [b, groups, T, out]."""
        entered, delta = self.entered[rows], self.delta[rows]
        if isinstance(self.layer, nn.Linear):
            delta = delta.reshape(len(delta), 1, -1, self.layer.out_features)
            inputs = entered.reshape(len(entered), 1, -1, self.layer.in_features)
        else:
            delta = delta.unflatten(1, (self.layer.groups, -1)).flatten(3).mT
            inputs = delta if self.role == "bias" else _patches(self.layer, entered)
        # A bias is a weight whose input is always 1.
        return (torch.ones_like(delta[..., :1]) if self.role == "bias" else inputs), delta


@dataclass(frozen=True)
class SamplePass:
    """One forward and backward pass, and what it tells about the gradients of single samples.

    Attributes:
        shares: by parameter name, one per call of its layer; none: the loss does not reach it.
        others: names of the parameters that the loss reaches, but not through layers that have factors.
        gradient: of the mean loss, by name: of `others`, or of all parameters if that was asked for.
        drawn: whether the loss drew random numbers.
    """

    shares: dict[str, list[Share]]
    others: list[str]
    gradient: dict[str, Tensor]
    drawn: bool


def per_sample_norms(
    objective: Objective, *, chunk_size: int | None = None, check: bool = True
) -> dict[str, Tensor]:
    """Norm of the gradient of every single sample's own loss, per parameter.

    Linear and convolution layers take the cheap way, called once or often, their weights tied or not.
    Parameters of other layers (LayerNorm, Embedding, ...) that the loss reaches go through
    `torch.func.vmap`, only they. At the end the sample with the largest gradient is computed by itself and
    compared: what the hooks cannot see (a weight used outside of its layer, a loss that mixes samples) ends
    in an error instead of a wrong number. With dropout, a sample keeps its mask of the batch.

    Args:
        objective: loss and batch of B samples.
        chunk_size: samples worked on at once where a temporary is larger than the activations (unfolded
            images, what vmap needs), >= 1; None = all.
        check: make that comparison, which costs another forward and backward pass, of one sample. Where the
            norms are wanted again and again, the first time is enough.

    Returns:
        By parameter name, [B], float64; zeros where the loss does not reach a parameter, frozen ones left
        out. The joint norm of sample i is `torch.stack([*norms.values()]).norm(dim=0)[i]`.

    Raises:
        ValueError: as in `per_sample_gradients`, or the comparison fails.
    """
    seen = sample_pass(objective)
    size = objective.samples
    require(chunk_size is None or chunk_size >= 1, "chunk_size", chunk_size, "an integer >= 1 or null")
    device = objective.parameters[0].device
    zeros = torch.zeros(size, dtype=accumulation_dtype(device), device=device)
    norms = dict.fromkeys(objective.names, zeros)
    for name, shares in seen.shares.items():
        if len(shares) == 1 and shares[0].outer:
            norms[name] = outer_norms(shares[0])
        elif shares:
            norms[name] = torch.cat([_product_norms(*pair) for pair in factors(shares, chunk_size)])
    if seen.others:
        chunks = list(sample_gradients(objective, seen.others, chunk_size))
        for name in seen.others:
            norms[name] = torch.cat([row_norms(as_rows(chunk[name])) for chunk in chunks])
        if not seen.drawn:
            total = [seen.gradient[name] for name in seen.others]
            sums = [torch.stack([c[name].sum(0) for c in chunks]).sum(0) for name in seen.others]
            require_mean_of_samples(total, sums, [norms[name] for name in seen.others])
    if check and seen.drawn:
        check_without_randomness(objective, per_sample_norms)
    elif check:
        compare_with_largest(objective, torch.stack([*norms.values()]))
    return norms


def sample_pass(objective: Objective, *, with_gradient: bool = False) -> SamplePass:
    """Run the loss once forward and once backward, watching the layers.

    Args:
        objective: loss and batch of B samples.
        with_gradient: compute the gradient of every parameter as well.

    Raises:
        ValueError: as in `require_separate_samples`.
    """
    require_separate_samples(objective)
    parameters = dict(zip(objective.names, objective.parameters, strict=True))
    with own_randomness(objective) as drawn, _recorded(objective) as record:
        loss = objective.on(objective.batch)
    uses = _uses(objective, record)
    asked = [name for name in parameters if with_gradient or name not in uses]
    calls = record.calls
    inputs = [*(call.output for call in calls), *(parameters[name] for name in asked)]
    found: list[Tensor | None] = [None] * len(inputs)
    if loss.requires_grad:
        refuse_reentrant(loss)
        # torch's stub promises tensors, also where allow_unused makes some of them None.
        found = list(torch.autograd.grad(loss, inputs, allow_unused=True))  # type: ignore[arg-type]
    # Backward starts from a mean over the batch: what arrives is 1/B of a sample's own.
    deltas = {
        id(call): None if d is None else d * objective.samples for call, d in zip(calls, found, strict=False)
    }
    gradient = dict(zip(asked, found[len(calls) :], strict=True))
    others = [name for name in parameters if name not in uses and gradient[name] is not None]
    shares = {
        name: [
            Share(role, call.layer, call.entered, delta)
            for role, call in uses.get(name, [])
            if (delta := deltas[id(call)]) is not None
        ]
        for name in parameters
        if name not in others
    }
    dense = {name: torch.zeros_like(parameters[name]) if g is None else g for name, g in gradient.items()}
    return SamplePass(shares, others, dense, drawn())


def factors(shares: Sequence[Share], chunk_size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """A and D chunk by chunk; further calls that share a parameter count as further positions."""
    size = len(shares[0].delta)
    for start in range(0, size, chunk_size or size):
        pairs = [share.factors(slice(start, start + (chunk_size or size))) for share in shares]
        if len(pairs) == 1:
            yield pairs[0]
        else:
            yield torch.cat([a for a, _ in pairs], dim=2), torch.cat([d for _, d in pairs], dim=2)


def outer_norms(share: Share) -> Tensor:
    """Norms where there is one position: |delta| |input|, [B]."""
    lengths = row_norms(share.delta)
    return lengths if share.role == "bias" else lengths * row_norms(share.entered)


def row_norms(rows: Tensor) -> Tensor:
    """Norm of each row, [B]."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=accumulation_dtype(rows.device))


def compare_with_largest(objective: Objective, norms: Tensor) -> None:
    """Raise ValueError unless the sample with the largest gradient has these norms by itself too.

    Args:
        objective: loss and batch; the loss draws no random numbers.
        norms: per parameter and sample, [L, B]; when they are not finite, nothing is compared.
    """
    joint = torch.linalg.vector_norm(norms, dim=0)
    i = int(joint.argmax())
    alone = gradients_or_zeros(objective, objective.on([part[i : i + 1] for part in objective.batch]))
    own = layer_norms(alone)
    difference = torch.linalg.vector_norm(own - norms[:, i])
    scale = torch.maximum(joint[i], torch.linalg.vector_norm(own))
    if joint[i].isfinite() and not difference <= tolerance(alone[0]) * scale + rounding(alone):
        raise ValueError(
            f"sample {i} alone has another gradient than it contributes to the batch: the loss is not the "
            "mean of its samples' own losses (a sum, or advantages normalised inside it: put the normalised "
            "values into the batch), or the samples meet in the network, or a weight is used outside of its "
            "layer's forward (a gradient penalty does so: take per_sample_gradients)"
        )


@dataclass(frozen=True)
class _Call:
    """One call of a layer: what entered, [B, ...], and where in the graph its output was made."""

    layer: Layer
    entered: Tensor
    output: GradientEdge


@dataclass(frozen=True)
class _Record:
    """What the hooks saw: the calls, and the parameters (by id) whose use they cannot account for."""

    calls: list[_Call] = field(default_factory=list)
    unaccounted: set[int] = field(default_factory=set)


@contextmanager
def _recorded(objective: Objective) -> Iterator[_Record]:
    """Hooks on every layer while the loss is computed; afterwards none is left, also after an error."""
    record = _Record()
    handles = []
    try:
        for module in objective.module.modules():
            # A subclass may do anything in its forward, so only the classes themselves count.
            if type(module) in LAYERS:
                # First in the row: other hooks may put something else in the place of the output.
                handles.append(module.register_forward_hook(_hook(record, objective.samples), prepend=True))
            else:
                record.unaccounted.update(id(p) for p in module._parameters.values() if p is not None)
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _hook(record: _Record, size: int) -> Callable[[Layer, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: Layer, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:
            return  # under no_grad: no gradient comes from this call
        dims = 2 if isinstance(layer, nn.Linear) else 2 + len(layer.kernel_size)
        if len(args) == 1 and args[0].dim() >= dims and len(args[0]) == size:
            # The edge stays that of the layer's own output when an activation then works in place.
            record.calls.append(_Call(layer, args[0].detach(), get_gradient_edge(output)))
        else:
            record.unaccounted.update(id(p) for p in layer.parameters())

    return hook


def _uses(objective: Objective, record: _Record) -> dict[str, list[tuple[str, _Call]]]:
    """Calls by the names of the parameters that they use; parameters used in any other way are left out."""
    names = {id(p): name for name, p in zip(objective.names, objective.parameters, strict=True)}
    uses: dict[str, list[tuple[str, _Call]]] = {}
    for call in record.calls:
        for role in ("weight", "bias"):
            key = id(call.layer._parameters.get(role))
            if key in names and key not in record.unaccounted:
                uses.setdefault(names[key], []).append((role, call))
    return uses


def _patches(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, images: Tensor) -> Tensor:
    """What the kernel sees at every output position, [B, groups, T, in / groups * kernel]."""
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    padding: list[int] = []
    for i in reversed(range(len(spans))):  # torch pads from the last dimension to the first
        if isinstance(conv.padding, str):
            before = spans[i] // 2 if conv.padding == "same" else 0
            padding += [before, spans[i] - before if conv.padding == "same" else 0]
        else:
            padding += [conv.padding[i]] * 2
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    patches = nn.functional.pad(images, padding, mode=mode) if any(padding) else images
    for i, span in enumerate(spans):
        patches = patches.unfold(2 + i, span + 1, conv.stride[i])[..., :: conv.dilation[i]]
    dims = len(spans)
    patches = patches.unflatten(1, (conv.groups, -1)).movedim(2, 2 + dims)
    return patches.flatten(2 + dims).flatten(2, 1 + dims)


def _product_norms(inputs: Tensor, delta: Tensor) -> Tensor:
    """|delta^T inputs| for every sample, over its groups, [B], in the cheaper of the two forms."""
    positions, ins, outs = inputs.shape[2], inputs.shape[3], delta.shape[3]
    if positions * (ins + outs) >= ins * outs:
        return row_norms((delta.mT @ inputs).flatten(1))
    # In float64, as positions can cancel down to the rounding errors of the squares.
    exact = accumulation_dtype(delta.device)
    inputs, delta = inputs.to(exact), delta.to(exact)
    squares = ((inputs @ inputs.mT) * (delta @ delta.mT)).sum((1, 2, 3))
    return squares.clamp(min=0).sqrt()
