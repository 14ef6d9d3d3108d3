"""What a command says is typed next."""

from pathlib import Path

import pytest

from core.cli.follow_up import continued_by


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("", "gradrl 'resume=a b'"),
        (".venv/bin/gradgan", ".venv/bin/gradrl 'resume=a b'"),
        ("python scripts/train_gan.py", "python scripts/train_rl.py 'resume=a b'"),
        ("python -m core.scripts.descend", "python -m core.scripts.train_rl 'resume=a b'"),
    ],
)
def test_a_trainer_that_another_one_names_has_the_form_of_what_was_typed(typed, line):
    assert continued_by(Path("a b"), "rl", typed) == f"; continue it with: {line}"
