"""Parts of a user's own are tried on a few numbers before anything is made; one that does not fit is refused.

Ours are left out: tests try them, and a forward pass of a large pair takes seconds.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from core.errors import described
from core.own_module import attempt, seeded, tried
from core.state import StateDict
from gradgan.batch import Batch
from gradgan.data import Data
from gradgan.game.game import FakeBatch, Game, StepInfo
from gradgan.game.players import Discriminator, Generator
from gradgan.losses import Loss
from gradgan.networks import Network

Players = tuple[Generator, Discriminator]


def named(part: object) -> str:
    """What a part is called in a message: its class, as `_target_` has it."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


def ours(part: object) -> bool:
    """Whether a part is one of this package."""
    return named(part).startswith("gradgan.")


def try_loss(loss: Loss) -> None:
    """Raise ValueError unless both players' losses of a few logits are scalars that carry a gradient."""
    if ours(loss):
        return
    real, fake = torch.tensor([[0.7, -1.2, 0.1], [-0.4, 0.9, 1.6]])
    read = real if loss.generator_uses_real else None
    for method, logits in (("discriminator", (real, fake)), ("generator", (fake, read))):
        needs = fake.clone().requires_grad_()
        given = [needs if each is fake else each for each in logits]
        what = f"loss={named(loss)}: {method}"
        value = attempt(what, getattr(loss, method), *given)
        if not isinstance(value, Tensor) or value.dim() or not value.requires_grad:
            kind = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            kind += " without one" if isinstance(value, Tensor) and not value.dim() else ""
            raise ValueError(f"{what} must return a scalar with a gradient, got {kind}")


def try_network(network: Network, latent_size: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the pair makes samples of latents, and features of samples, each on its own."""
    if ours(network):
        return
    what = f"network={named(network)}"
    random = torch.Generator().manual_seed(0)
    generator = seeded(
        0, lambda: attempt(f"{what}: generator", network.generator, latent_size, shape, random)
    )
    tried(f"{what}: the generator", generator, (latent_size,), shape, alone=False)
    returned = seeded(0, lambda: attempt(f"{what}: body", network.body, shape, random))
    if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], int):
        kind = type(returned).__name__
        raise ValueError(f"{what}: body must return a module and its number of features, got {kind}")
    tried(f"{what}: the discriminator's body", returned[0], shape, (returned[1],))


def try_game(game: Game, players: Callable[[], Players], size: int, data: Data, classes: int | None) -> None:
    """Raise ValueError unless penalty, augmentation and regularizers give the discriminator's loss its terms.

    Args:
        game: whose parts are tried together, where one of them is the user's own.
        players: both, which are left alone.
        size: numbers in a latent.
        data: says the shape of a sample.
        classes: of conditional players; None = they are not.
    """
    parts = {"penalty": game.penalty, "augment": game.augment}
    parts |= {f"regularizer.{name}": part for name, part in game.regularizers.items()}
    own = [f"{option}={named(part)}" for option, part in parts.items() if part is not None and not ours(part)]
    if not own:
        return
    what, random = " and ".join(own), torch.Generator().manual_seed(0)
    generator, discriminator = copy.deepcopy(players())
    labels = None if classes is None else torch.arange(4) % classes
    real = Batch(torch.rand(4, *data.shape, generator=random), labels)
    fake = FakeBatch(generator, torch.randn(4, size, generator=random), labels, shared=False)
    augmentation = torch.tensor(game.augment.initial if game.augment is not None else 0.0)
    info = StepInfo(update=0, progress=0.0, augmentation=augmentation, seed=0)
    states: dict[str, StateDict] = {name: {} for name in game.regularizers}
    losses, metrics = attempt(what, game.discriminator_loss, discriminator, real, fake, info, states)
    for name, term in losses.items():
        if not isinstance(term, Tensor) or term.dim() or not term.requires_grad:
            raise ValueError(f"{what}: the term {name} of the loss must be a scalar with a gradient")
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.dim():
            raise ValueError(f"{what}: the metric {name} must be a tensor of one number, 0-d")
    for name, regularizer in game.regularizers.items():
        attempt(what, regularizer.after, discriminator, metrics, states[name])


def check_shape(data: Data) -> None:
    """Raise ValueError unless the data say what one sample is and how many classes there are."""
    if ours(data):
        return
    what = f"data={named(data)}"
    shape, classes = (attempt(f"{what}: {name}", getattr, data, name) for name in ("shape", "num_classes"))
    whole = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 1 for size in shape)
    if not whole or len(shape) not in (1, 3):
        raise ValueError(
            f"{what}: shape must be (D,) for points or (C, H, W) for images, integers >= 1, got {shape}"
        )
    if classes is not None and (not isinstance(classes, int) or classes < 1):
        raise ValueError(
            f"{what}: num_classes must be an integer >= 1, or None without labels, got {classes}"
        )


def check_fit(network: Network, data: Data) -> None:
    """Raise ValueError, naming both, unless the pair takes samples of this shape."""
    try:
        network.check(data.shape)
    except ValueError as error:
        points = len(data.shape) == 1
        size = f"{data.shape[0]} coordinates" if points else f"{data.shape[1]}x{data.shape[2]} pixels"
        has = f"{'points' if points else 'images'} of {size}"
        raise ValueError(f"network={network.name} {error}, but data={data.name} has {has}") from error
    except Exception as error:
        raise ValueError(f"network={named(network)}: check raised {described(error)}") from error


def try_data(data: Data, batch_size: int, device: torch.device) -> None:
    """Raise ValueError unless there are batches of samples and labels that the networks can take."""
    what = f"data={named(data)}"
    stream = attempt(f"{what}: stream", data.stream, batch_size, torch.Generator(), device)
    if ours(data):
        return
    batch = attempt(f"{what}: next", stream.next)
    x, labels = batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
    if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.shape[1:] != data.shape:
        got = f"{list(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"{what}: a batch must be [B, {', '.join(map(str, data.shape))}] of float32, got {got}"
        )
    if not x.isfinite().all() or (len(data.shape) == 3 and x.abs().max() > 1):
        raise ValueError(
            f"{what}: samples must be finite, and images in [-1, 1]; got {x.min():.4g} to {x.max():.4g}"
        )
    require_labels(what, labels, len(x), data.num_classes)


def require_labels(what: str, labels: object, count: int, num_classes: int | None) -> None:
    """Raise ValueError unless there is a class for every sample, or none where there are no classes."""
    if labels is None and num_classes is None:
        return
    fits = isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.shape == (count,)
    if isinstance(labels, Tensor) and fits and num_classes is not None:
        low, high = int(labels.min()), int(labels.max())
        if low >= 0 and high < num_classes:
            return
        raise ValueError(f"{what}: labels must be 0 to {num_classes - 1}, got {low} to {high}")
    wanted = f"int64 [{count}], one for each sample" if num_classes else "None where num_classes is None"
    got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
    raise ValueError(f"{what}: labels must be {wanted}, got {got}")
