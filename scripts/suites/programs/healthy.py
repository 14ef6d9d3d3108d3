"""Loops with nothing wrong: of a warning in any of them, nothing good can be said."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from core import Watch
from core.diagnosis import Finding

from .data import blobs, digits, flat, friedman, moons, standardised, table, text, textures, waves, words
from .loops import Loop, adam, batches, cnn, mlp, sgd
from .networks import Letters, Recurrent, Variational

Healthy = Callable[[str | None], list[Finding]]


def _loop(make: Callable[[], Loop]) -> Healthy:
    return lambda directory: make().run(directory)[0]


def digits_momentum() -> Loop:
    """A CNN by SGD with momentum."""
    model = cnn(1, 8, 10)
    return Loop(
        model=model,
        data=digits(),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, 0.03, 0.9),
        epochs=15,
    )


def digits_dropout() -> Loop:
    """Batch normalisation, dropout and a schedule."""
    model = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, 10)
    )
    chosen = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(chosen, 12)
    return Loop(
        model=model,
        data=flat(digits()),
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=chosen,
        epochs=12,
        each=schedule.step,
    )


def colours() -> Loop:
    """A CNN on noisy textures."""
    model = cnn(3, 16, 4)
    return Loop(model=model, data=textures(), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=12)


def logistic() -> Loop:
    """A logistic regression."""
    model = mlp(4, 3)
    return Loop(
        model=model,
        data=table("iris"),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, 0.1),
        epochs=60,
        batch=15,
    )


def binary() -> Loop:
    """One logit."""
    x, y = table("breast_cancer")
    model = mlp(30, 16, 1, activation=nn.Tanh)
    return Loop(
        model=model,
        data=(x, y[:, None].float()),
        loss=nn.BCEWithLogitsLoss(),
        optimizer=adam(model),
        epochs=20,
    )


def many_labels() -> Loop:
    """Several labels a sample, probabilities and BCELoss."""
    x = torch.randn(1000, 12)
    y = (x @ torch.randn(12, 6) + 0.3 * torch.randn(1000, 6) > 0.5).float()
    model = mlp(12, 48, 6, head=nn.Sigmoid())
    return Loop(model=model, data=(x, y), loss=nn.BCELoss(), optimizer=adam(model, 3e-3), epochs=20)


def rare_class() -> Loop:
    """Five percent of the samples are of the second class, and hard to tell."""
    y = (torch.rand(2000) < 0.05).long()
    x = torch.randn(2000, 8) + 1.5 * y[:, None]
    model = mlp(8, 24, 2)
    return Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=12)


def noisy_labels() -> Loop:
    """Every third label is drawn."""
    x, y = blobs(2000, 8, 4)
    y = torch.where(torch.rand(2000) < 0.33, torch.randint(4, (2000,)), y)
    model = mlp(8, 24, 4)
    return Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=12)


def noisy_regression() -> Loop:
    """A third of the targets' variance can be explained."""
    x = torch.randn(2000, 10)
    y = standardised(x @ torch.randn(10, 1) * 0.25 + torch.randn(2000, 1))
    model = mlp(10, 16, 1)
    return Loop(model=model, data=(x, y), loss=nn.MSELoss(), optimizer=adam(model), epochs=12)


def diabetes() -> Loop:
    """A small table."""
    x, y = table("diabetes")
    model = mlp(10, 24, 1)
    return Loop(
        model=model,
        data=(x, standardised(y)),
        loss=nn.SmoothL1Loss(),
        optimizer=adam(model),
        epochs=40,
        batch=16,
    )


def sine() -> Loop:
    """A full batch and a tanh network."""
    x = torch.linspace(-3, 3, 200)[:, None]
    model = mlp(1, 32, 32, 1, activation=nn.Tanh)
    return Loop(
        model=model,
        data=(x, torch.sin(2 * x)),
        loss=nn.MSELoss(),
        optimizer=adam(model, 3e-3),
        epochs=600,
        batch=200,
    )


def letters() -> Loop:
    """A language model: a transformer."""
    model = Letters(12)
    chosen = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return Loop(model=model, data=text(), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=10)


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(12, 16), nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x))[0]).movedim(-1, 1)


def lstm() -> Loop:
    """A language model: an LSTM."""
    model = _Lstm()
    return Loop(model=model, data=text(), loss=nn.CrossEntropyLoss(), optimizer=adam(model, 5e-3), epochs=10)


def recurrent() -> Loop:
    """A recurrent classifier."""
    model = Recurrent(nn.GRU(1, 24, batch_first=True), 3)
    return Loop(model=model, data=waves(), loss=nn.CrossEntropyLoss(), optimizer=adam(model, 5e-3), epochs=12)


def addition() -> Loop:
    """Recurrent regression: the sum of two marked numbers."""
    values, marks = torch.rand(1000, 12), torch.zeros(1000, 12)
    marks.scatter_(1, torch.rand(1000, 12).topk(2, dim=1).indices, 1.0)
    model = Recurrent(nn.LSTM(2, 32, batch_first=True), 1)
    y = (values * marks).sum(1, keepdim=True)
    return Loop(
        model=model,
        data=(torch.stack([values, marks], 2), y),
        loss=nn.MSELoss(),
        optimizer=adam(model, 5e-3),
        epochs=15,
    )


def autoencoder() -> Loop:
    """Digits through 8 numbers, sigmoids at the end, squared error."""
    x, _ = flat(digits())
    model = mlp(64, 48, 8, 48, 64, head=nn.Sigmoid())
    return Loop(model=model, data=(x, x), loss=nn.MSELoss(), optimizer=adam(model, 2e-3), epochs=15)


def denoising() -> Loop:
    """Binary pixels from noisy ones."""
    x, _ = flat(digits())
    y = (x > 0.5).float()
    model = mlp(64, 64, 64)
    return Loop(
        model=model,
        data=(y + 0.3 * torch.randn_like(y), y),
        loss=nn.BCEWithLogitsLoss(),
        optimizer=adam(model, 2e-3),
        epochs=12,
    )


def words_sgd() -> Loop:
    """Bags of words, SGD with momentum at a rate that fits."""
    model = mlp(400, 64, 20)
    return Loop(
        model=model, data=words(), loss=nn.CrossEntropyLoss(), optimizer=sgd(model, 0.1, 0.9), epochs=15
    )


def factors() -> Loop:
    """Ratings by two embeddings."""
    pairs = torch.randint(60, (3000, 2))
    left, right = torch.randn(60, 4), torch.randn(60, 4)
    y = (left[pairs[:, 0]] * right[pairs[:, 1]]).sum(1) + 0.1 * torch.randn(3000)
    return Loop(
        model=(model := _Factors()),
        data=(pairs, y),
        loss=nn.MSELoss(),
        optimizer=adam(model, 0.02),
        epochs=25,
    )


class _Factors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 6), nn.Embedding(60, 6)

    def forward(self, pairs: Tensor) -> Tensor:
        return (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(1)


def frozen_body() -> Loop:
    """A random body that is not trained, and a head that is."""
    model = mlp(64, 256, 10)
    model[0].requires_grad_(False)
    return Loop(
        model=model, data=flat(digits()), loss=nn.CrossEntropyLoss(), optimizer=adam(model, 3e-3), epochs=10
    )


def two_moons() -> Loop:
    """A deep ReLU network."""
    model = mlp(2, 24, 24, 24, 24, 2)
    return Loop(model=model, data=moons(), loss=nn.CrossEntropyLoss(), optimizer=adam(model, 3e-3), epochs=30)


def quadratic(directory: str | None) -> list[Finding]:
    """LBFGS with a closure."""
    x, y = friedman(300)
    model, loss = mlp(10, 16, 1, activation=nn.Tanh), nn.MSELoss()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(40):

            def closure() -> Tensor:
                optimizer.zero_grad()
                found = loss(model(x), y)
                found.backward()
                return found

            optimizer.step(closure)
    return watch.findings


def accumulated(directory: str | None) -> list[Finding]:
    """Four backward passes before each step, and clipping."""
    data, model = flat(digits()), mlp(64, 48, 10)
    loss, optimizer = nn.CrossEntropyLoss(), adam(model, 2e-3)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(25):
            for turn, (x, y) in enumerate(batches(*data, 16)):
                (loss(model(x), y) / 4).backward()
                if turn % 4 == 3:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
    return watch.findings


def evaluated(directory: str | None) -> list[Finding]:
    """An evaluation after every epoch, in evaluation mode."""
    data = flat(digits())
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10))
    loss, optimizer = nn.CrossEntropyLoss(), adam(model)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(12):
            model.train()
            for x, y in batches(data[0][:1200], data[1][:1200], 32):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                loss(model(data[0][1200:]), data[1][1200:])
    return watch.findings


def contrastive(directory: str | None) -> list[Finding]:
    """Two views of each sample find each other among the batch."""
    x, _ = flat(digits())
    model, loss = mlp(64, 64, 16), nn.CrossEntropyLoss()
    optimizer = adam(model)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(12):
            for rows, _ in batches(x, x, 64):
                views = [
                    functional.normalize(model(rows + 0.1 * torch.randn_like(rows)), dim=1) for _ in "ab"
                ]
                loss(views[0] @ views[1].T / 0.2, torch.arange(len(rows))).backward()
                optimizer.step()
                optimizer.zero_grad()
    return watch.findings


def variational(directory: str | None) -> list[Finding]:
    """A variational autoencoder of digits."""
    x, _ = flat(digits())
    model, loss = Variational(64), nn.BCEWithLogitsLoss(reduction="sum")
    optimizer = adam(model, 2e-3)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(15):
            for rows, _ in batches(x, x, 32):
                logits, divergence = model(rows)
                (loss(logits, rows) / len(rows) + divergence).backward()
                optimizer.step()
                optimizer.zero_grad()
    return watch.findings


def distilled(directory: str | None) -> list[Finding]:
    """A small network learns what a larger one says, by a divergence."""
    x, y = flat(digits())
    teacher = mlp(64, 64, 10)
    for _ in range(10):
        _epoch(teacher, adam(teacher, 3e-3), x, y)
    student, loss = mlp(64, 16, 10), nn.KLDivLoss(reduction="batchmean")
    optimizer = adam(student, 3e-3)
    with Watch(student, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(12):
            for rows, _ in batches(x, y, 32):
                target = teacher(rows).detach().softmax(1)
                loss(student(rows).log_softmax(1), target).backward()
                optimizer.step()
                optimizer.zero_grad()
    return watch.findings


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    for rows, labels in batches(x, y, 32):
        optimizer.zero_grad()
        functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()


def diffusion(directory: str | None) -> list[Finding]:
    """Predict the noise that was added to points of two moons."""
    x, _ = moons(1000)
    model, loss = mlp(3, 64, 64, 2, activation=nn.SiLU), nn.MSELoss()
    optimizer = adam(model, 2e-3)
    with Watch(model, optimizer, loss=loss, directory=directory) as watch:
        for _ in range(25):
            for rows, _ in batches(x, x, 64):
                time, noise = torch.rand(len(rows), 1), torch.randn_like(rows)
                mixed = time.sqrt() * noise + (1 - time).sqrt() * rows
                loss(model(torch.cat([mixed, time], 1)), noise).backward()
                optimizer.step()
                optimizer.zero_grad()
    return watch.findings


LOOPS: dict[str, Healthy] = {
    **{
        make.__name__: _loop(make)
        for make in (
            digits_momentum, digits_dropout, colours, logistic, binary, many_labels, rare_class, noisy_labels,
            noisy_regression, diabetes, sine, letters, lstm, recurrent, addition, autoencoder, denoising,
            words_sgd, factors, frozen_body, two_moons,
        )
    },
    **{
        run.__name__: run
        for run in (quadratic, accumulated, evaluated, contrastive, variational, distilled, diffusion)
    },
}  # fmt: skip
