"""`gradgan.features`: a classifier that knows the digits, kept in a cache that may fail."""

from pathlib import Path

import pytest
import torch

from gradgan import features
from gradgan.data import Digits
from gradgan.features import cached_classifier, train_classifier

IMAGES = Digits(held_out=450).load()


def part(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert IMAGES.labels is not None
    return torch.cat([IMAGES.train, IMAGES.held_out])[start:stop], IMAGES.labels[start:stop]


def test_it_recognises_digits_it_has_not_seen_and_its_features_have_unit_mean_square() -> None:
    pixels, labels = part(0, 1347)
    network = train_classifier(pixels, labels)
    unseen, truth = part(1347, 1797)
    assert (network.classify(unseen) == truth).double().mean().item() > 0.96
    assert network(pixels).square().mean().item() == pytest.approx(1.0, abs=0.05)
    assert network(unseen).shape == (450, network.num_features)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "UPDATES", 3)


@pytest.mark.usefixtures("quick")
def test_it_is_trained_once_and_then_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path)
    monkeypatch.setattr(features, "train_classifier", lambda *_: pytest.fail("trained again"))
    again = cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path)
    assert torch.equal(first(IMAGES.held_out), again(IMAGES.held_out))
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]


@pytest.mark.usefixtures("quick")
def test_other_data_have_a_file_of_their_own(tmp_path: Path) -> None:
    cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path)
    cached_classifier("digits_classifier", *part(0, 299), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("quick")
def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    first = cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    again = cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path)
    assert torch.equal(first(IMAGES.held_out), again(IMAGES.held_out))
    assert path.stat().st_size > 500


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    network = cached_classifier("digits_classifier", *part(0, 300), folder=tmp_path / "file")
    assert network(IMAGES.held_out).isfinite().all()


@pytest.mark.usefixtures("quick")
def test_training_leaves_the_global_generator_alone_and_works_without_gradients() -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        train_classifier(*part(0, 300))
    assert torch.equal(torch.get_rng_state(), before)
