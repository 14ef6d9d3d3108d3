"""The programs that the rules were tuned on: the calibration cases of published benchmarks, in our own words.

SO: StackOverflow, as in the benchmarks of DeepFD, DeepLocalize and AutoTrainer. M, C, R: DeepCrime's mutants.
"""

import torch
from torch import nn
from torch.nn import functional

from .data import digits, flat, friedman, table, textures, words
from .loops import Case, Loop, adam, cnn, filled, mlp, normal, sgd


def one_softmax(fault: bool) -> Loop:
    """D1, SO 31880720: a softmax over a single output is always 1."""
    y = torch.randint(2, (4000,)).float()
    model = mlp(128, 50, 50, 1, head=nn.Softmax(dim=1) if fault else nn.Sigmoid())
    data = y[:, None].expand(-1, 128).contiguous(), y[:, None]
    return Loop(model=model, data=data, loss=nn.BCELoss(), optimizer=adam(model), epochs=4)


def no_activations(fault: bool) -> Loop:
    """D4, SO 48385830: linear layers of N(0, 1), mean squared error, a rate of 3."""
    x, y = flat(digits(28))
    if fault:
        model = normal(mlp(784, 30, 10, activation=nn.Identity), 1.0)
        return Loop(
            model=model, data=(x, functional.one_hot(y).float()), loss=nn.MSELoss(), optimizer=sgd(model, 3.0)
        )
    model = mlp(784, 30, 10, activation=nn.Sigmoid)
    return Loop(
        model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=sgd(model, 0.1), epochs=40, batch=10
    )


def two_clouds(fault: bool) -> Loop:
    """D6, SO 50306988: five epochs of short steps."""
    y = torch.arange(200) % 2
    model = mlp(2, 2, 2, activation=nn.Sigmoid)
    data = torch.rand(200, 2) - 0.75 + 0.5 * y[:, None], y
    rate, epochs = (1e-3, 5) if fault else (0.1, 100)
    return Loop(
        model=model,
        data=data,
        loss=nn.CrossEntropyLoss(),
        optimizer=adam(model, rate),
        epochs=epochs,
        batch=10,
    )


def remainder(fault: bool) -> Loop:
    """D8, SO 56380303: 20 bits to the remainder of a division by 7."""
    bits = torch.randint(2, (2000, 20))
    y = (bits * 2 ** torch.arange(20)).sum(1) % 7
    model = mlp(20, 64, 64, 7) if not fault else mlp(20, 20, 20, 7)
    chosen = sgd(model, 0.01) if fault else adam(model, 3e-3)
    epochs = 10 if fault else 60
    return Loop(
        model=model, data=(bits.float(), y), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=epochs
    )


def _xor() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return x, (x.sum(1, keepdim=True) == 1).float()


def xor_absolute(fault: bool) -> Loop:
    """SO 31556268: absolute error, short steps."""
    model = mlp(2, 4, 1, activation=nn.Sigmoid if fault else nn.Tanh, head=nn.Sigmoid() if fault else None)
    loss = nn.L1Loss() if fault else nn.BCEWithLogitsLoss()
    chosen = sgd(model, 0.05) if fault else adam(model, 0.05)
    return Loop(model=model, data=_xor(), loss=loss, optimizer=chosen, epochs=400, batch=4)


def xor_softmax(fault: bool) -> Loop:
    """SO 34311586: sigmoids, and a softmax over one unit; 20 epochs at .001."""
    if fault:
        model = mlp(2, 3, 1, activation=nn.Sigmoid, head=nn.Softmax(dim=1))
        return Loop(
            model=model, data=_xor(), loss=nn.MSELoss(), optimizer=sgd(model, 1e-3), epochs=20, batch=1
        )
    model = mlp(2, 8, 1, activation=nn.Tanh)
    return Loop(
        model=model,
        data=_xor(),
        loss=nn.BCEWithLogitsLoss(),
        optimizer=adam(model, 0.05),
        epochs=200,
        batch=4,
    )


def permutation(fault: bool) -> Loop:
    """SO 39217567: all vectors of 6 bits to those of a permutation, through a stack of sigmoids."""
    bits = (torch.arange(64)[:, None] >> torch.arange(6)) & 1
    data = bits.float(), bits[torch.randperm(64)].float()
    if fault:
        model = mlp(6, 6, 6, 6, 6, activation=nn.Sigmoid, head=nn.Sigmoid())
        return Loop(
            model=model, data=data, loss=nn.MSELoss(), optimizer=sgd(model, 0.01), epochs=300, batch=64
        )
    model = mlp(6, 64, 64, 6)
    return Loop(
        model=model, data=data, loss=nn.BCEWithLogitsLoss(), optimizer=adam(model, 3e-3), epochs=150, batch=8
    )


def few_epochs(fault: bool) -> Loop:
    """SO 44164749: a wide network, large batches, five epochs at .01."""
    model = mlp(784, 1000, 100, 10, activation=nn.Sigmoid if fault else nn.ReLU)
    rate, epochs, batch = (0.01, 5, 500) if fault else (0.1, 15, 32)
    return Loop(
        model=model,
        data=flat(digits(28)),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, rate),
        epochs=epochs,
        batch=batch,
    )


def parabola(fault: bool) -> Loop:
    """SO 48934338: y = 5 x^2 + noise, which a rate of .1 lets explode."""
    x = torch.linspace(-10, 10, 500)[:, None]
    y = 5 * x**2 + 5 * torch.randn(500, 1)
    model = mlp(1, 50, 30, 1)
    rate, epochs = (0.1, 20) if fault else (1e-4, 150)
    return Loop(model=model, data=(x, y), loss=nn.MSELoss(), optimizer=sgd(model, rate), epochs=epochs)


def iris_sigmoid(fault: bool) -> Loop:
    """SO 51930566: sigmoids in place of scores in front of a cross-entropy."""
    model = mlp(4, 4, 3, head=nn.Sigmoid() if fault else None)
    return Loop(
        model=model,
        data=table("iris"),
        loss=nn.CrossEntropyLoss(),
        optimizer=adam(model, 0.01),
        epochs=60,
        batch=5,
    )


def double(fault: bool) -> Loop:
    """SO 58609115: y = 2 x from four points; the published fix is another loss."""
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    model = mlp(1, 8, 1)
    loss = nn.MSELoss() if fault else nn.SmoothL1Loss()
    return Loop(model=model, data=(x, 2 * x), loss=loss, optimizer=sgd(model, 0.01), epochs=300, batch=4)


def zero_weights(fault: bool) -> Loop:
    """DeepCrime M1: a convolutional network that begins with zeros."""
    model = cnn(1, 28, 10)
    if fault:
        filled(model, 0.0)
    chosen = torch.optim.Adadelta(model.parameters(), lr=1.0)
    return Loop(model=model, data=digits(28), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=6)


def hard_sigmoid(fault: bool) -> Loop:
    """DeepCrime C1: a hard sigmoid behind one of the convolutions."""
    model = cnn(3, 16, 4)
    if fault:
        model[1] = nn.Hardsigmoid()
    return Loop(model=model, data=textures(), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=10)


def softsign(fault: bool) -> Loop:
    """DeepCrime R2: a softsign behind the last layer of a classifier of bags of words."""
    model = mlp(400, 64, 20, head=nn.Softsign() if fault else None)
    return Loop(model=model, data=words(), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=15)


def plain_sgd(fault: bool) -> Loop:
    """DeepCrime R3: plain SGD in place of Adam."""
    model = mlp(400, 64, 20)
    chosen = sgd(model, 0.01) if fault else adam(model)
    return Loop(model=model, data=words(), loss=nn.CrossEntropyLoss(), optimizer=chosen, epochs=10)


def images(name: str, fault: bool) -> Loop:
    """A small CNN on digits with one of TheDeepChecker's faults."""
    x, y = digits(28)
    model = cnn(1, 28, 10)
    loop = Loop(model=model, data=(x, y), loss=nn.CrossEntropyLoss(), optimizer=adam(model), epochs=6)
    if not fault:
        return loop
    if name == "constant":
        filled(model, 0.05)
    elif name == "sign":
        loop.sign = -1.0
    elif name == "rate":
        loop.optimizer = adam(model, 0.5)
    elif name == "loss":
        loop.data, loop.loss = (x, functional.one_hot(y).float()), nn.L1Loss()
    elif name == "eps":
        loop.optimizer = adam(model, eps=1.0)
    elif name == "bytes":
        loop.data = (255 * x, y)
    elif name == "softmax":
        model.append(nn.Softmax(dim=1))
    elif name == "labels":
        loop.data = (x, y[torch.randperm(len(y))])
    elif name == "scaled":
        model.append(_Times(100.0))
    return loop


def curve(name: str, fault: bool) -> Loop:
    """A small regression with one of TheDeepChecker's faults."""
    x, y = friedman()
    model = mlp(10, 32, 32, 1)
    loop = Loop(model=model, data=(x, y), loss=nn.MSELoss(), optimizer=adam(model, 3e-3), epochs=25)
    if not fault:
        return loop
    if name == "constant":
        filled(model, 0.1)
    elif name == "sign":
        loop.sign = -1.0
    elif name == "rate":
        loop.optimizer = sgd(model, 2.0)
    elif name == "loss":
        loop.loss = nn.BCEWithLogitsLoss()
    elif name == "eps":
        loop.optimizer = adam(model, eps=1.0)
    elif name == "bytes":
        loop.data = (1e4 * x, y)
    elif name == "labels":
        loop.data = (x, y[torch.randperm(len(y))])
    elif name == "scaled":
        model.append(_Times(1000.0))
    return loop


def not_cleared(fault: bool) -> Loop:
    """TrainCheck, SO 60335387: the gradient is never cleared."""
    model = mlp(784, 64, 10)
    return Loop(
        model=model,
        data=flat(digits(28)),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd(model, 0.05),
        epochs=10,
        clear=not fault,
    )


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


CHECKED = {  # TheDeepChecker's kinds
    "constant": ("init",),
    "sign": ("loss",),
    "rate": ("learning_rate",),
    "loss": ("loss",),
    "eps": ("optimizer",),
    "bytes": ("preprocessing", "normalisation"),
    "softmax": ("activation",),
    "labels": ("labels",),
    "scaled": ("layers", "init"),
}

CASES = (
    Case("D1 softmax over one", one_softmax, ("activation",)),
    Case("D4 no activations", no_activations, ("activation", "loss", "learning_rate", "init")),
    Case("D6 two clouds", two_clouds, ("learning_rate", "epochs")),
    Case("D8 remainder", remainder, ("optimizer",)),
    Case("SO 31556268 xor", xor_absolute, ("loss", "epochs", "learning_rate", "optimizer")),
    Case("SO 34311586 xor", xor_softmax, ("learning_rate", "activation", "init", "epochs", "batch")),
    Case("SO 39217567 bits", permutation, ("activation", "batch")),
    Case("SO 44164749 wide", few_epochs, ("epochs", "learning_rate", "activation", "loss")),
    Case("SO 48934338 parabola", parabola, ("learning_rate",)),
    Case("SO 51930566 iris", iris_sigmoid, ("activation",)),
    Case("SO 58609115 y = 2x", double, ("loss",)),
    Case("M1 zero weights", zero_weights, ("init",), layer="0"),
    Case("C1 hard sigmoid", hard_sigmoid, ("activation",), layer="0"),
    Case("R2 softsign", softsign, ("activation",)),
    Case("R3 plain SGD", plain_sgd, ("optimizer",)),
    *(
        Case(f"images: {name}", lambda fault, name=name: images(name, fault), kinds)
        for name, kinds in CHECKED.items()
    ),
    *(
        Case(f"curve: {name}", lambda fault, name=name: curve(name, fault), kinds)
        for name, kinds in CHECKED.items()
        if name != "softmax"
    ),
    Case("SO 60335387 zero_grad", not_cleared, ("zero_grad",)),
)
