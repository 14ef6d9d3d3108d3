"""Lightning's trainer is watched as it is, and trains to the same bit."""

import json
import logging
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from core.run.tensorboard import read_scalars
from tests.core.watch.loops import alarms, classes, classifier, named

lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import Callback  # noqa: E402
from lightning.pytorch.plugins.precision import MixedPrecision  # noqa: E402

from core.watch.lightning import WatchCallback, own_loss, players  # noqa: E402
from examples import watch_lightning  # noqa: E402

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

STEPS = 40


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Reader(lightning.LightningModule):
    """A classifier as Lightning's tutorials write it."""

    def __init__(self, *head: nn.Module, loss: nn.Module | None = None, lr: float = 0.01) -> None:
        super().__init__()
        self.net, self.lr = classifier(*head), lr
        if loss is not None:
            self.loss = loss

    def training_step(self, batch, _):
        x, y = batch
        loss = (self.loss if hasattr(self, "loss") else cross_entropy)(self.net(x), y)
        self.log("training loss", loss)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.log("val_accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


class Forgetful(Reader):
    """Manual optimization, where nobody clears the gradient but oneself."""

    def __init__(self, clears: bool) -> None:
        super().__init__()
        self.automatic_optimization, self.clears = False, clears

    def training_step(self, batch, _):
        x, y = batch
        optimizer = self.optimizers()
        if self.clears:
            optimizer.zero_grad()
        loss = cross_entropy(self.net(x), y)
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Game(lightning.LightningModule):
    """Two players by turns; each is frozen while the other one moves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(8, 8), nn.Linear(8, 1)

    def training_step(self, batch, _):
        (real, _), (g, d) = batch, self.optimizers()
        self.toggle_optimizer(d)
        fake = self.generator(torch.randn_like(real)).detach()
        self.manual_backward((self.discriminator(fake) - self.discriminator(real + 1)).mean())
        d.step()
        d.zero_grad()
        self.untoggle_optimizer(d)
        self.toggle_optimizer(g)
        self.manual_backward(-self.discriminator(self.generator(torch.randn_like(real))).mean())
        g.step()
        g.zero_grad()
        self.untoggle_optimizer(g)

    def configure_optimizers(self):
        return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (self.generator, self.discriminator)]


def loader(steps=STEPS):
    x, y = (torch.cat(parts) for parts in zip(*classes(steps), strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=64)


def fit(module, *callbacks, steps=STEPS, ckpt_path=None, validated=False, **options):
    torch.manual_seed(3)
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    trainer = lightning.Trainer(
        accelerator="cpu", callbacks=list(callbacks), enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, loader(steps), loader(2) if validated else None, ckpt_path=ckpt_path)
    return trainer


def weights(module):
    return [*module.parameters(), *(p.grad for p in module.parameters() if p.grad is not None)]


SCALED = {"precision": None, "accumulate_grad_batches": 1}
CASES = {
    "automatic": (Reader, {"gradient_clip_val": 0.1}),
    "listened": (lambda: Reader(loss=nn.CrossEntropyLoss()), {"accumulate_grad_batches": 3}),
    "bf16": (Reader, {"precision": "bf16-mixed", "validated": True}),
    "manual": (lambda: Forgetful(True), {}),
    "game": (Game, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_training_is_the_same_to_the_bit(case):
    make, options = CASES[case]
    alone, watched, callback = make(), make(), WatchCallback()
    fit(alone, **options)
    fit(watched, callback, **options)
    assert all(torch.equal(a, b) for a, b in zip(weights(alone), weights(watched), strict=True))
    assert callback.watch.step == -(-STEPS // options.get("accumulate_grad_batches", 1))
    assert alarms(callback.watch) == set()


def test_with_a_scaler_norms_are_in_true_units_and_the_training_is_the_same(tmp_path):
    def run(directory, *callbacks, scale=1024.0):
        module = Reader()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
        fit(
            module,
            *callbacks,
            plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
            gradient_clip_val=1e9,
        )
        return weights(module)

    alone = run(None)
    watched = run(None, WatchCallback(tmp_path / "a"))
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    run(None, WatchCallback(tmp_path / "b"), scale=1.0)
    small, large = (read_scalars(tmp_path / name)["gradient/norm"] for name in "ba")
    assert large[10] == pytest.approx(small[10], rel=0.01)


def test_the_loss_is_the_mean_over_the_batches_of_a_step(tmp_path):
    class Losses(Callback):
        seen: list[float] = []  # noqa: RUF012

        def on_before_backward(self, trainer, pl_module, loss):
            self.seen.append(4 * loss.item())

    callback = WatchCallback(tmp_path)
    fit(Reader(), callback, Losses(), accumulate_grad_batches=4, gradient_clip_val=0.05)
    curves = read_scalars(tmp_path)
    # The batch that ends a step is told after it, so that the step's point misses it.
    assert curves["loss/train"][2] == pytest.approx(sum(Losses.seen[:7]) / 7, rel=1e-5)
    assert curves["gradient/norm"][2] <= 0.05 + 1e-6  # as the trainer has clipped it


def test_what_the_module_logs_is_a_curve_and_its_loss_is_heard(tmp_path):
    callback = WatchCallback(tmp_path)
    fit(Reader(loss=nn.CrossEntropyLoss()), callback, validated=True, max_epochs=2)
    curves = read_scalars(tmp_path)
    assert {"logged/training_loss", "logged/val_accuracy"} <= set(curves)
    assert 0 < curves["logged/val_accuracy"][2 * STEPS] <= 1
    assert curves["output/classes"][10] == 3
    assert "layer/net.0.weight/gradient_norm" in curves
    assert curves["input/rms"][10] == pytest.approx(1, rel=0.1)  # though the module itself is never called


def test_faults_are_named():
    softmax, forgetful, fast = WatchCallback(), WatchCallback(), WatchCallback()
    fit(Reader(nn.Softmax(1), loss=nn.CrossEntropyLoss()), softmax)
    fit(Forgetful(False), forgetful)
    fit(Reader(lr=1.0), fast)
    assert "output_does_not_fit_loss" in alarms(softmax.watch)
    assert "gradients_not_cleared" in alarms(forgetful.watch)
    assert "update_too_large" in alarms(fast.watch)
    assert "from 1 to" in named(fast.watch)["update_too_large"].remedy[0]


def test_players_are_named_after_the_parts_that_they_move(tmp_path):
    fit(Game(), WatchCallback(tmp_path))
    curves = read_scalars(tmp_path)
    assert {"generator/layer/weight/gradient_norm", "discriminator/gradient/norm"} <= set(curves)
    mixed = Game()
    half = [torch.optim.SGD([mixed.generator.weight, mixed.discriminator.weight], 0.1),
            torch.optim.SGD([mixed.generator.bias], 0.1)]  # fmt: skip
    assert players(mixed, half) == (mixed, {"optimizer_0": half[0], "optimizer_1": half[1]})
    assert own_loss(nn.ModuleList([nn.MSELoss(), nn.L1Loss()])) is None


def test_a_second_fit_goes_on_and_a_resumed_one_too(tmp_path):
    module, callback = Reader(), WatchCallback(tmp_path / "run")
    trainer = fit(module, callback)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(module, callback)
    assert callback.watch.step == 2 * STEPS
    resumed = WatchCallback(tmp_path / "run")
    fit(Reader(), resumed, max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.watch.step == 2 * STEPS
    assert set(read_scalars(tmp_path / "run")["loss/train"]) == {
        *range(2, 21, 2),
        25,
        30,
        35,
        *range(40, 51, 5),
        60,
        70,
        80,
    }
    with pytest.raises(ValueError, match="already holds a run"):
        fit(Reader(), callback)


def test_a_fit_that_fails_is_written_as_failed(tmp_path):
    class Broken(Reader):
        def training_step(self, batch, number):
            if number == 7:
                raise ZeroDivisionError
            return super().training_step(batch, number)

    with pytest.raises(ZeroDivisionError):
        fit(Broken(), WatchCallback(tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("failed", 7)


def test_the_example_names_its_mistake_and_nothing_of_the_mended_module(tmp_path):
    assert {f.name for f in watch_lightning.train(tmp_path / "a", clears=False)} >= {"gradients_not_cleared"}
    assert [f for f in watch_lightning.train(tmp_path / "b", clears=True) if f.severity != "note"] == []
