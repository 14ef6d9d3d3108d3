"""Hugging Face's trainer, watched: `Trainer(..., callbacks=[WatchCallback("runs/mine")])`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.diagnosis import Rule
from core.watch.arguments import first_rank, num_ranks
from core.watch.calls import Passing
from core.watch.continued import Continued, named_numbers
from core.watch.watch import Watch

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as SPEAKERS
except ImportError as error:
    raise ImportError("transformers is not installed: pip install 'gradsight[transformers]'") from error

FILE = "watch.pt"  # beside the trainer's own files in its checkpoints
ROWS = 256  # predictions looked at: those of a vocabulary are large
CHOICES = ("ForCausalLM", "ForMaskedLM", "ForTokenClassification", "ForSequenceClassification")


class WatchCallback(TrainerCallback):
    """Watches every `train`; a second one of the same model, or a resumed one, goes on in the same run.

    The loss, the predictions and the labels are those that the model returns and is called with; what is
    logged becomes a curve below `logged/`, `logged/grad_norm` being the norm before clipping. Its state is
    in each checkpoint.

    Args:
        directory: as of `Watch`, like all other arguments.
        rules: further ones.
        interval: steps between two logged points.

    Raises:
        ValueError: when `train` begins, as of `Watch`.
    """

    def __init__(
        self, directory: str | Path | None = None, *, rules: Sequence[Rule] = (), interval: int = 500
    ) -> None:
        self._runs = Continued(directory, rules, interval)
        self._handle: Any = None

    @property
    def watch(self) -> Watch | None:
        """Of the `train` that runs, or of the last one."""
        return self._runs.watch

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Only now is the optimizer there, inside of accelerate's."""
        self._stop_hearing()
        model, optimizer = kwargs["model"], kwargs["optimizer"]
        saved = checkpoint(args, state) / FILE
        if state.global_step and saved.is_file():
            self._runs.load_state_dict(torch.load(saved, weights_only=True))
        watch = self._runs.open(model, optimizer, said(model), getattr(optimizer, "scaler", None))
        if not args.torch_compile:  # inside of a compiled model nothing can be heard
            hear = hearing(watch, args)
            self._handle = model.register_forward_hook(Passing(hear), with_kwargs=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take in what is logged."""
        self._runs.log(**named_numbers(logs or {}))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save its state into the checkpoint that was just written."""
        if first_rank() and checkpoint(args, state).is_dir():
            torch.save(self._runs.state_dict(), checkpoint(args, state) / FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write what is left."""
        self._stop_hearing()
        self._runs.end()

    def _stop_hearing(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    """The trainer's folder for this step."""
    return Path(args.output_dir or ".", f"checkpoint-{state.global_step}")


def hearing(watch: Watch, args: TrainingArguments) -> Callable[..., None]:
    """A forward hook that hands on what a model was called with and returned.

    Where the trainer tells the model how many labels all parts of a step have, each part returns its share of
    their mean loss: the mean of the shares, times the number of parts, is the loss.
    """
    ranks = num_ranks() if args.average_tokens_across_devices else 1

    def hear(_: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any], output: Any) -> None:
        loss = output.get("loss") if isinstance(output, Mapping) else None
        if not isinstance(loss, Tensor) or watch.loss is None:
            return
        logits = output.get("logits")
        if isinstance(logits, Tensor) and logits.dim() == 3:  # torch has the classes on axis 1
            logits = logits[:, : max(1, ROWS // max(1, len(logits)))].movedim(-1, 1)
        shares = args.gradient_accumulation_steps * ranks
        shared = named.get("num_items_in_batch") is not None and shares > 1
        watch.loss(logits, named.get("labels"), loss * shares if shared else loss)

    return hear


def said(model: nn.Module) -> Callable[..., Any]:
    """What stands for the model's loss, whose name tells `Watch` its kind: it returns the last argument."""

    def loss(predictions: Tensor | None, targets: Tensor | None, value: Tensor) -> Tensor:
        return value

    cfg = getattr(model, "config", None)
    several = getattr(cfg, "num_labels", 2) > 1
    problem = getattr(cfg, "problem_type", None) or "single_label_classification"
    speaks = type(model).__name__ in SPEAKERS.values()
    classes = speaks or getattr(model, "loss_type", None) in CHOICES
    if classes and (several and problem == "single_label_classification"):
        loss.__name__ = "cross_entropy"
    return loss
