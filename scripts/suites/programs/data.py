"""Data of the programs: scikit-learn's small sets, and synthetic ones; each call draws what the seed says."""

import torch
from torch import Tensor
from torch.nn import functional

Data = tuple[Tensor, Tensor]


def digits(side: int = 8, count: int = 1500) -> Data:
    """Handwritten digits: images [N, 1, side, side] in [0, 1], and classes."""
    from sklearn import datasets

    pixels, classes = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 16
    if side != 8:
        images = functional.interpolate(images, size=side, mode="bilinear", align_corners=False)
    return images[:count], torch.from_numpy(classes)[:count].long()


def flat(data: Data) -> Data:
    """Rows in place of images."""
    return data[0].flatten(1), data[1]


def table(name: str, *, scaled: bool = True) -> Data:
    """One of scikit-learn's tables: wine, breast_cancer, iris or diabetes; columns standardised or not."""
    from sklearn import datasets

    raw = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **raw)
    rows = torch.from_numpy(x).float()
    target = torch.from_numpy(y)
    rows = (rows - rows.mean(0)) / rows.std(0) if scaled else rows
    return rows, target.float()[:, None] if name == "diabetes" else target.long()


def standardised(x: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1, by column."""
    return (x - x.mean(0)) / x.std(0)


def blobs(count: int, features: int, classes: int, apart: float = 2.0) -> Data:
    """Normal clouds whose centres are drawn."""
    centres = apart * torch.randn(classes, features)
    y = torch.randint(classes, (count,))
    return centres[y] + torch.randn(count, features), y


def moons(count: int = 500) -> Data:
    """Two half circles that interlock."""
    from sklearn.datasets import make_moons

    x, y = make_moons(count, noise=0.1, random_state=int(torch.randint(2**31 - 1, ())))
    return torch.from_numpy(x).float(), torch.from_numpy(y).long()


def friedman(count: int = 1000) -> Data:
    """Friedman's first regression, inputs in [0, 1] and targets standardised."""
    x = torch.rand(count, 10)
    y = 10 * (torch.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = y + torch.randn(count)
    return x, standardised(y[:, None])


def textures(count: int = 1000, classes: int = 4) -> Data:
    """Colour images [N, 3, 16, 16] of waves whose direction and colour is their class's, with noise."""
    y = torch.randint(classes, (count,))
    grid = torch.arange(16.0)
    angle = y.double() * torch.pi / classes
    along = torch.cos(angle)[:, None, None] * grid[None, :, None] + torch.sin(angle)[:, None, None] * grid
    waves = torch.sin(1.2 * along + 6.3 * torch.rand(count, 1, 1))
    colours = 0.5 + 0.1 * torch.randn(classes, 3)
    images = 0.5 + 0.25 * waves[:, None] * colours[y][:, :, None, None] + 0.1 * torch.randn(count, 3, 16, 16)
    return images.float().clamp(0, 1), y


def words(count: int = 1500, size: int = 400, topics: int = 20) -> Data:
    """Bags of words [N, size] of zeros and ones, each of a topic."""
    habits = torch.distributions.Dirichlet(torch.full((size,), 0.05)).sample((topics,))
    y = torch.randint(topics, (count,))
    drawn = torch.multinomial(habits[y] + 0.3 / size, 30, replacement=True)
    return torch.zeros(count, size).scatter_(1, drawn, 1.0), y


def text(count: int = 600, length: int = 24, letters: int = 12) -> Data:
    """Letters of a Markov chain: [N, length], and the letters that follow."""
    chain = torch.distributions.Dirichlet(torch.full((letters,), 0.15)).sample((letters,))
    rows = torch.randint(letters, (count, length + 1))
    for place in range(length):
        rows[:, place + 1] = torch.multinomial(chain[rows[:, place]], 1)[:, 0]
    return rows[:, :-1], rows[:, 1:]


def waves(count: int = 800, length: int = 32, classes: int = 3) -> Data:
    """Signals [N, length, 1] of one of several frequencies, with noise."""
    y = torch.randint(classes, (count,))
    t = torch.arange(float(length)) / length
    phase = 6.3 * torch.rand(count, 1)
    x = torch.sin(6.28 * (y[:, None] + 1) * t + phase) + 0.3 * torch.randn(count, length)
    return x[..., None], y
