"""Hugging Face's trainer, watched: a rate a thousand times too high, what the Watch says of it, and mended.

python examples/watch_transformers.py && gradsight-report run=runs/watch_transformers/mistaken
"""

import argparse
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from core.diagnosis import Finding
from core.watch.transformers import WatchCallback


def train(directory: Path, *, lr: float, steps: int = 60) -> tuple[float, list[Finding]]:
    """Learn to repeat the first half of a sentence; returns the last logged loss and what was found."""
    set_seed(0)
    half = torch.randint(1, 10, (512, 6))
    data = [{"input_ids": row, "labels": row} for row in torch.cat((half, half), dim=1)]
    cfg = GPT2Config(vocab_size=10, n_positions=12, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
                     eos_token_id=0)  # fmt: skip
    args = TrainingArguments(str(directory.parent / "checkpoints"), max_steps=steps, learning_rate=lr,
                             per_device_train_batch_size=32, logging_steps=10, save_strategy="no",
                             report_to="none", use_cpu=True, disable_tqdm=True)  # fmt: skip
    callback = WatchCallback(directory)  # the one new line
    trainer = Trainer(GPT2LMHeadModel(cfg), args, train_dataset=data, callbacks=[callback])
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return losses[-1], callback.watch.findings if callback.watch else []


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, lr in (("mistaken", 1.0), ("mended", 1e-3)):
        last, found = train(Path("runs/watch_transformers", name), lr=lr)
        print(f"{name}: loss {last:.3f}, {', '.join(finding.name for finding in found) or 'no findings'}\n")
