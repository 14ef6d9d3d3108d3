"""Hugging Face's trainer is watched as it is, and trains to the same bit."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core.run.tensorboard import read_scalars
from tests.core.watch.loops import alarms, named

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from core.watch.transformers import WatchCallback, said  # noqa: E402
from examples import watch_transformers  # noqa: E402

pytestmark = [pytest.mark.usefixtures("blank_figures"), pytest.mark.slow]

STEPS = 24


def words(samples):
    """Sentences that repeat their first half."""
    random = torch.Generator().manual_seed(1)
    half = torch.randint(0, 30, (samples, 8), generator=random)
    text = torch.cat((half, half), 1)
    return [{"input_ids": row, "labels": row} for row in text]


def speaker(softmax=False):
    torch.manual_seed(0)
    cfg = transformers.GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2,
                                  bos_token_id=0, eos_token_id=0)  # fmt: skip
    model = transformers.GPT2LMHeadModel(cfg)
    if softmax:
        model.lm_head = nn.Sequential(model.lm_head, nn.Softmax(-1))
    return model


def fit(model, folder, *callbacks, resume=None, **options):
    options = {"max_steps": STEPS, "learning_rate": 1e-3, "max_grad_norm": 0.3, "logging_steps": 5,
               "save_strategy": "no", **options}  # fmt: skip
    args = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=8,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    trainer = transformers.Trainer(
        model, args, train_dataset=words(256), eval_dataset=words(16), callbacks=list(callbacks)
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def weights(model):
    return [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("parts", [1, 2])
def test_the_training_is_the_same_to_the_bit_and_the_loss_is_the_trainers(parts, tmp_path):
    options = {"gradient_accumulation_steps": parts, "eval_strategy": "steps", "eval_steps": 12}
    callback = WatchCallback(tmp_path / "watched")
    alone, watched = speaker(), speaker()
    trainer = fit(alone, tmp_path, **options)
    fit(watched, tmp_path, callback, **options)
    assert all(torch.equal(a, b) for a, b in zip(weights(alone), weights(watched), strict=True))
    assert callback.watch.step == STEPS
    assert alarms(callback.watch) <= {"noise_dominated"}  # eight random sentences say little
    curves = read_scalars(tmp_path / "watched")
    told = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    heard = curves["loss/train"]
    assert sum(heard[step] for step in (2, 4)) / 2 == pytest.approx(told[0], rel=0.02)  # of the first 5 steps
    assert curves["gradient/norm"][10] <= 0.3 + 1e-6  # as the trainer has clipped it
    assert curves["logged/grad_norm"][12] > 0.3
    assert {"logged/eval_loss", "loss/no_grad", "layer/transformer.wte.weight/gradient_norm"} <= set(curves)
    assert curves["output/classes"][10] == 30


def test_faults_are_named(tmp_path):
    callback, fast = WatchCallback(), WatchCallback()
    fit(speaker(softmax=True), tmp_path, callback)
    fit(speaker(), tmp_path, fast, learning_rate=1.0, max_grad_norm=0.0)
    assert "output_does_not_fit_loss" in alarms(callback.watch)
    assert alarms(fast.watch) & {"update_too_large", "diverging_loss"}
    remedies = " ".join(" ".join(f.remedy) for f in fast.watch.findings)
    assert "lower the learning rate from" in remedies, named(fast.watch)


def test_a_resumed_training_goes_on_and_a_second_one_too(tmp_path):
    whole, callback = WatchCallback(tmp_path / "whole"), WatchCallback(tmp_path / "run")
    fit(speaker(), tmp_path / "a", whole)
    fit(speaker(), tmp_path / "b", callback, save_strategy="steps", save_steps=14)
    model, resumed = speaker(), WatchCallback(tmp_path / "run")
    checkpoint = tmp_path / "b" / "checkpoint-14"
    fit(model, tmp_path / "b", resumed, save_strategy="steps", save_steps=14, resume=str(checkpoint))
    assert resumed.watch.step == STEPS
    curves, same = read_scalars(tmp_path / "run"), read_scalars(tmp_path / "whole")
    assert curves["gradient/norm"] == pytest.approx(same["gradient/norm"], rel=1e-5)
    with pytest.raises(ValueError, match="already holds a run"):
        fit(speaker(), tmp_path / "c", resumed)


def test_what_the_loss_is_is_known_by_the_model_that_computes_it():
    names = {}
    for labels in (1, 3):
        cfg = transformers.GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=1, num_labels=labels,
                                      bos_token_id=0, eos_token_id=0)  # fmt: skip
        names[labels] = said(transformers.GPT2ForSequenceClassification(cfg)).__name__
    assert names == {1: "loss", 3: "cross_entropy"}
    assert said(speaker()).__name__ == "cross_entropy"
    assert said(nn.Linear(2, 2)).__name__ == "loss"


def test_a_model_of_ones_own_is_heard_by_what_it_returns(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.out = nn.Embedding(30, 16), nn.Linear(16, 30)

        def forward(self, input_ids, labels=None):
            logits = self.out(self.table(input_ids))
            return {"loss": cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}

    callback = WatchCallback(tmp_path / "own")
    fit(Own(), tmp_path, callback)
    curves = read_scalars(tmp_path / "own")
    assert curves["loss/train"][2] == pytest.approx(3.4, abs=0.4)
    assert curves["loss/train"][STEPS] < curves["loss/train"][2]


def test_the_example_names_its_mistake_and_nothing_of_the_mended_training(tmp_path):
    wrong, found = watch_transformers.train(tmp_path / "mistaken", lr=1.0)
    right, nothing = watch_transformers.train(tmp_path / "mended", lr=1e-3)
    assert "update_too_large" in {f.name for f in found}
    assert [f for f in nothing if f.severity != "note"] == []
    assert right < wrong
