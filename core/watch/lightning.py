"""Lightning's trainer, watched: `Trainer(callbacks=[WatchCallback("runs/mine")])`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from core.diagnosis import Rule
from core.watch.continued import Continued, named_numbers
from core.watch.watch import Watch

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("Lightning is not installed: pip install 'gradsight[lightning]'") from error


class WatchCallback(Callback):
    """Watches every `fit`; a second one of the same module, or a resumed one, goes on in the same run.

    The loss is that of the module's training step; where the module has exactly one of torch's losses as a
    part, this is listened to. What the module logs becomes a curve below `logged/` at the end of an epoch.
    With several optimizers, players are named after the parts of the module that they move.

    Args:
        directory: as of `Watch`, like all other arguments.
        loss: to be listened to in place of the module's own.
        rules: further ones.
        interval: steps between two logged points.

    Raises:
        ValueError: when `fit` begins, as of `Watch`.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        loss: nn.Module | None = None,
        rules: Sequence[Rule] = (),
        interval: int = 500,
    ) -> None:
        self._runs = Continued(directory, rules, interval)
        self._loss = loss

    @property
    def watch(self) -> Watch | None:
        """Of the `fit` that runs, or of the last one."""
        return self._runs.watch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only now are the optimizers there, and a checkpoint is loaded."""
        models, optimizers = players(pl_module, trainer.optimizers)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._runs.open(models, optimizers, self._loss or own_loss(pl_module), scaler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the loss, unless it was heard: Lightning has divided it by the batches of a step."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and self.watch is not None and self.watch.loss is None:
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self._runs.log(loss=loss * parts)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in what was logged."""
        self._runs.log(**named_numbers(trainer.callback_metrics))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in what was logged."""
        self._runs.log(**named_numbers(trainer.callback_metrics))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is left."""
        self._runs.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what is left, and that it failed or was stopped."""
        self._runs.end(error=exception)

    def state_dict(self) -> dict[str, Any]:
        """Becomes a part of Lightning's checkpoint."""
        return self._runs.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The next `fit` goes on."""
        self._runs.load_state_dict(state_dict)


def own_loss(module: nn.Module) -> Callable[..., Any] | None:
    """The one loss of torch that is a part of a module; None where there are none or several."""
    losses = [part for part in module.modules() if isinstance(part, _Loss)]
    return losses[0] if len(losses) == 1 else None


def players(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[nn.Module | dict[str, nn.Module], torch.optim.Optimizer | dict[str, torch.optim.Optimizer]]:
    """The models and the optimizers for `Watch`.

    One optimizer moves the module. Of several, each moves the part that has all of its parameters; where
    this is not so, all move the module, and are numbered.
    """
    if len(optimizers) == 1:
        return module, optimizers[0]
    parts = {name: {id(p) for p in part.parameters()} for name, part in module.named_children()}
    held = [{id(p) for group in each.param_groups for p in group["params"]} for each in optimizers]
    owners = [next((name for name, own in parts.items() if ids <= own), "") for ids in held]
    if "" in owners or len(set(owners)) < len(owners):
        return module, {f"optimizer_{number}": each for number, each in enumerate(optimizers)}
    return (
        {name: module.get_submodule(name) for name in owners},
        dict(zip(owners, optimizers, strict=True)),
    )
