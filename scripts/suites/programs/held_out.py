"""Programs of the same kinds that no rule was tuned on: other data, other networks; scored as they are."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import blobs, digits, flat, friedman, moons, standardised, table, text, waves, words
from .loops import Case, Loop, adam, filled, mlp, sgd
from .networks import Letters, Recurrent, signals


def letters_not_cleared(fault: bool) -> Loop:
    """A transformer of letters whose gradient is never cleared."""
    model = Letters(12)
    x, y = text()
    return Loop(
        model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=8, clear=not fault
    )


def recurrent_slow(fault: bool) -> Loop:
    """A recurrent classifier with Adam at 1e-6."""
    model = Recurrent(nn.GRU(1, 24, batch_first=True), 3)
    rate = 1e-6 if fault else 3e-3
    return Loop(model=model, data=waves(), loss=nn.CrossEntropyLoss(), optimizer=adam(model, rate), epochs=8)


def rectified_code(fault: bool) -> Loop:
    """An autoencoder of standardised columns whose last layer is a ReLU."""
    x, _ = table("wine")
    model = mlp(13, 32, 8, 32, 13, head=nn.ReLU() if fault else None)
    return Loop(model=model, data=(x, x), loss=nn.MSELoss(), optimizer=adam(model, 3e-3), epochs=80, batch=16)


def raw_target(fault: bool) -> Loop:
    """Diabetes with targets of hundreds, plain SGD."""
    x, y = table("diabetes")
    model = mlp(10, 32, 1)
    data = (x, y if fault else standardised(y))
    return Loop(model=model, data=data, loss=nn.MSELoss(), optimizer=sgd(model, 0.01), epochs=30, batch=16)


def raw_columns(fault: bool) -> Loop:
    """Wine with its columns as they are, up to a thousand, plain SGD."""
    model = mlp(13, 32, 3)
    data = table("wine", scaled=not fault)
    return Loop(
        model=model, data=data, loss=nn.CrossEntropyLoss(), optimizer=sgd(model, 0.05), epochs=40, batch=16
    )


def broadcast(fault: bool) -> Loop:
    """Predictions [B, 1] against targets [B]."""
    x, y = friedman()
    model = mlp(10, 48, 1, activation=nn.Tanh)
    loop = Loop(model=model, data=(x, y), loss=nn.MSELoss(), optimizer=adam(model, 3e-3), epochs=25)
    if fault:
        loop.data = (x, y[:, 0])
    return loop


def shuffled_words(fault: bool) -> Loop:
    """Bags of words with labels of other documents."""
    x, y = words(3000, 100, 6)
    model = mlp(100, 16, 6, activation=nn.Tanh)
    y = y[torch.randperm(len(y))] if fault else y
    return Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=8)


def ascent(fault: bool) -> Loop:
    """Signals, and a loss that is maximised."""
    model = signals(3)
    x, y = waves()
    return Loop(
        model=model,
        data=(x, y),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, 0.05, 0.9),
        epochs=10,
        sign=-1.0 if fault else 1.0,
    )


def deep_sigmoids(fault: bool) -> Loop:
    """Eight sigmoid layers on clouds."""
    model = mlp(8, *[32] * 8, 4, activation=nn.Sigmoid if fault else nn.Tanh)
    chosen = sgd(model, 0.05, 0.9)
    return Loop(model=model, data=blobs(1000, 8, 4), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=30)


def equal_moons(fault: bool) -> Loop:
    """All weights of two half moons' network begin at .5."""
    model = mlp(2, 16, 16, 2, activation=nn.Tanh)
    if fault:
        filled(model, 0.5)
    return Loop(model=model, data=moons(), loss=nn.CrossEntropyLoss(), optimizer=adam(model, 0.01), epochs=30)


def recurrent_fast(fault: bool) -> Loop:
    """A recurrent classifier with SGD at 20."""
    model = Recurrent(nn.RNN(1, 24, batch_first=True), 3)
    chosen = sgd(model, 20.0) if fault else adam(model, 3e-3)
    return Loop(model=model, data=waves(), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=15)


def heavy_decay(fault: bool) -> Loop:
    """AdamW whose weight decay is 100."""
    model = mlp(64, 48, 10)
    decay = 100.0 if fault else 0.01
    chosen = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=decay)
    return Loop(model=model, data=flat(digits()), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=10)


def no_dropout(fault: bool) -> Loop:
    """Batch normalisation and dropout, trained in evaluation mode."""
    model = nn.Sequential(nn.Linear(30, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))
    return Loop(
        model=model,
        data=table("breast_cancer"),
        loss=nn.CrossEntropyLoss(),
        optimizer=adam(model),
        epochs=15,
        training=not fault,
    )


def replaced_head(fault: bool) -> Loop:
    """The last layer was replaced after the optimizer was made."""
    model = mlp(13, 32, 5)
    chosen = adam(model, 3e-3)
    model[2] = nn.Linear(32, 3)
    return Loop(
        model=model,
        data=table("wine"),
        loss=nn.CrossEntropyLoss(),
        optimizer=chosen if fault else adam(model, 3e-3),
        epochs=20,
        batch=16,
    )


def no_logarithm(fault: bool) -> Loop:
    """NLLLoss of probabilities."""
    model = mlp(8, 32, 5, activation=nn.GELU, head=nn.Softmax(dim=1) if fault else nn.LogSoftmax(dim=1))
    return Loop(model=model, data=blobs(1000, 8, 5), loss=nn.NLLLoss(), optimizer=adam(model), epochs=15)


def large_eps(fault: bool) -> Loop:
    """Adam with an eps of .3 on moons."""
    model = mlp(2, 32, 32, 2)
    chosen = adam(model, 3e-3, eps=0.3) if fault else adam(model, 3e-3)
    return Loop(model=model, data=moons(), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=30)


def two_epochs(fault: bool) -> Loop:
    """Twenty classes of words: momentum, too few epochs."""
    model = mlp(400, 128, 20, activation=nn.Tanh)
    return Loop(
        model=model,
        data=words(),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, 0.003, 0.9),
        epochs=2 if fault else 60,
        batch=64,
    )


class _Cut(nn.Module):
    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.body, self.head, self.cut = mlp(64, 32, 32), nn.Linear(32, 10), cut

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.head((features.detach() if self.cut else features).relu())


def cut(fault: bool) -> Loop:
    """A detach() behind the body."""
    model = _Cut(fault)
    return Loop(
        model=model, data=flat(digits()), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=10
    )


def one_sample(fault: bool) -> Loop:
    """What loads the data returns one image again and again, with the labels of all."""
    x, y = digits()
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    x = x[:1].expand_as(x).contiguous() if fault else x
    return Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=6)


def bounded_output(fault: bool) -> Loop:
    """A tanh at the end, and targets of tens."""
    x, y = friedman()
    model = mlp(10, 48, 1, head=nn.Tanh() if fault else None)
    return Loop(
        model=model,
        data=(x, 10 * y + 14 if fault else y),
        loss=nn.MSELoss(),
        optimizer=adam(model, 3e-3),
        epochs=25,
    )


def letters_softmax(fault: bool) -> Loop:
    """A softmax before the cross-entropy of a transformer."""
    model = Letters(12, softmax=fault)
    return Loop(model=model, data=text(), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=8)


def squared_classes(fault: bool) -> Loop:
    """Squared error on the numbers of five classes, as if they were quantities."""
    x, y = blobs(1000, 8, 5)
    if fault:
        model = mlp(8, 32, 5, head=nn.Sigmoid())
        return Loop(
            model=model,
            data=(x, functional.one_hot(y, 5).float()),
            loss=nn.MSELoss(),
            optimizer=sgd(model, 0.01),
            epochs=15,
        )
    model = mlp(8, 32, 5)
    return Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=15)


CASES = (
    Case("letters not cleared", letters_not_cleared, ("zero_grad",)),
    Case("recurrent, rate 1e-6", recurrent_slow, ("learning_rate",)),
    Case("ReLU on standardised", rectified_code, ("activation",)),
    Case("targets of hundreds", raw_target, ("preprocessing", "normalisation", "learning_rate")),
    Case("columns of a thousand", raw_columns, ("preprocessing", "normalisation")),
    Case("[B, 1] against [B]", broadcast, ("loss", "layers")),
    Case("labels of others", shuffled_words, ("labels",)),
    Case("loss maximised", ascent, ("loss",)),
    Case("eight sigmoids", deep_sigmoids, ("activation", "layers")),
    Case("all weights .5", equal_moons, ("init",), layer="0"),
    Case("recurrent, rate 20", recurrent_fast, ("learning_rate",)),
    Case("weight decay 100", heavy_decay, ("regularisation",)),
    Case("evaluation mode", no_dropout, ("eval_mode",)),
    Case("replaced head", replaced_head, ("stale_optimizer",), layer="2"),
    Case("NLL of softmax", no_logarithm, ("activation", "loss")),
    Case("eps of .3", large_eps, ("optimizer",)),
    Case("two epochs", two_epochs, ("epochs", "learning_rate")),
    Case("detached body", cut, ("frozen", "layers"), layer="body"),
    Case("one sample", one_sample, ("data", "preprocessing")),
    Case("tanh for tens", bounded_output, ("activation", "preprocessing")),
    Case("letters, softmax twice", letters_softmax, ("activation",)),
    Case("squared classes", squared_classes, ("loss", "learning_rate", "optimizer")),
)
