"""Two libraries take seconds to import, and all tests of them are slow."""

from pathlib import Path

import pytest

HEAVY = ("test_lightning.py", "test_transformers.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whether a file need not even be imported: `make test` asks for none of its tests."""
    return True if collection_path.name in HEAVY and config.option.markexpr == "not slow" else None
