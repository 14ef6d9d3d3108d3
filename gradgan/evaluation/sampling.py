"""Samples of a generator, the labels they are made of, paths between latents, and the nearest images."""

import torch
from torch import Tensor, nn

BATCH = 500  # samples drawn at once
CHUNK = 5000  # images of a pool compared at once: 60 MB of 32x32 pixels in colour


def even_labels(count: int, num_classes: int, random: torch.Generator) -> Tensor:
    """Labels in random order, each class as often as any other, or once more; int64 [count], on the CPU."""
    order = torch.randperm(count, generator=random, device=random.device).cpu()
    return order % num_classes


def proportional_labels(count: int, like: Tensor, random: torch.Generator) -> Tensor:
    """Labels in random order, each class as often as among others, to within one; int64 [count], on the CPU.

    Args:
        count: how many.
        like: the others, int64 [N].
        random: decides the order.
    """
    places = (torch.arange(count, dtype=torch.float64) + 0.5) * (len(like) / count)
    return like.cpu().sort().values[places.long()][torch.randperm(count, generator=random)]


@torch.no_grad()
def sample(generator: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Samples [N, ...] on the CPU of a generator in evaluation mode.

    Args:
        generator: called with latents, and with labels if there are any.
        z: latents [N, latent_size], where the generator is.
        labels: int64 [N], anywhere; None for a generator that is not conditional.
    """
    if labels is None:
        return torch.cat([generator(batch).cpu() for batch in z.split(BATCH)])
    pairs = zip(z.split(BATCH), labels.to(z.device).split(BATCH), strict=True)
    return torch.cat([generator(*pair).cpu() for pair in pairs])


def spherical(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Points on the arc from one latent to another, evenly in angle.

    With w the angle between both, sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end for t from 0 to 1.
    Halfway on a straight line between normal latents the norm would fall by a factor of sqrt(2), to where the
    generator has seen none.

    Args:
        start: [N, latent_size].
        end: [N, latent_size].
        steps: >= 2, both ends included.

    Returns:
        [N, steps, latent_size]; a straight line where the two are parallel.

    Source: Shoemake 1985, doi:10.1145/325165.325242; for latents White 2016, arXiv:1609.04468, section 2.1.
    """
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = cosine.arccos()[:, None, None]
    sine = angle.sin()
    parallel = sine < 1e-4
    safe = torch.where(parallel, 1.0, sine)
    before = torch.where(parallel, 1 - t, ((1 - t) * angle).sin() / safe)
    after = torch.where(parallel, t, (t * angle).sin() / safe)
    return before * start[:, None] + after * end[:, None]


def nearest(images: Tensor, pool: Tensor, neighbours: int) -> Tensor:
    """The images of a pool that differ least from each image, by the sum of squared pixel differences.

    Args:
        images: uint8 [Q, C, H, W].
        pool: uint8 [N, C, H, W], N >= `neighbours`.
        neighbours: how many, the nearest first.

    Returns:
        Indices into the pool, int64 [Q, neighbours].
    """
    wanted = images.flatten(1).float()
    distances = [torch.cdist(wanted, part.flatten(1).float()) for part in pool.split(CHUNK)]
    return torch.cat(distances, dim=1).topk(neighbours, dim=1, largest=False).indices
