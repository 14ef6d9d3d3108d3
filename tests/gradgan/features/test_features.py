"""`gradgan.features`: classifiers that know digits, a cache that may fail, networks with given weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.config import ConfigError
from gradgan.data.digits import Digits
from gradgan.data.stacked import stack
from gradgan.features import BATCH, FeatureNetwork, classifier, extract
from gradgan.features.classifier import (
    UPDATES,
    ChannelClassifier,
    ChannelClassifierFeatures,
    Classifier,
    ClassifierFeatures,
    cached_classifier,
    train_classifier,
)
from gradgan.features.inception import Inception, InceptionFeatures
from gradgan.features.mobilenet import MobileNet, MobileNetFeatures
from gradgan.images import Images

IMAGES = Digits(held_out=450).load()


def part(start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert IMAGES.labels is not None
    return torch.cat([IMAGES.train, IMAGES.held_out])[start:stop], IMAGES.labels[start:stop]


def test_it_recognises_digits_it_has_not_seen_and_its_features_have_unit_mean_square() -> None:
    pixels, labels = part(0, 1347)
    network = train_classifier(pixels, labels, num_classes=10, updates=UPDATES)
    unseen, truth = part(1347, 1797)
    found = network.logits(network(unseen)).argmax(dim=1)
    assert (found == truth).double().mean().item() > 0.96
    assert network(pixels).square().mean().item() == pytest.approx(1.0, abs=0.05)
    assert network(unseen).shape == (450, network.num_features)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def quick(pixels: Tensor, labels: Tensor, folder: Path) -> Classifier:
    return cached_classifier("digits_classifier", pixels, labels, num_classes=10, updates=3, folder=folder)


def test_it_is_trained_once_and_then_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quick(*part(0, 300), tmp_path)
    monkeypatch.setattr(classifier, "train_classifier", lambda *_, **__: pytest.fail("trained again"))
    again = quick(*part(0, 300), tmp_path)
    assert torch.equal(first(IMAGES.held_out), again(IMAGES.held_out))
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]


def test_other_data_have_a_file_of_their_own(tmp_path: Path) -> None:
    quick(*part(0, 300), tmp_path)
    quick(*part(0, 299), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    first = quick(*part(0, 300), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:500])
    again = quick(*part(0, 300), tmp_path)
    assert torch.equal(first(IMAGES.held_out), again(IMAGES.held_out))
    assert path.stat().st_size > 500


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    network = quick(*part(0, 300), tmp_path / "file")
    assert network(IMAGES.held_out).isfinite().all()


def test_training_leaves_the_global_generator_alone_and_works_without_gradients() -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        train_classifier(*part(0, 300), num_classes=10, updates=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_are_the_same_however_many_images_are_taken_at_once() -> None:
    network = Classifier((1, 8, 8), 10, torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    pixels, _ = part(0, BATCH + 3)
    torch.testing.assert_close(extract(network, pixels, torch.device("cpu")), network(pixels))


def test_the_classifier_knows_how_often_each_class_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "UPDATES", 3)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path)
    labels = torch.tensor([0, 0, 2, 1])
    images = Images(train=IMAGES.train[:3], held_out=IMAGES.train[3:4], labels=labels)
    assert ClassifierFeatures().make(images).shares.tolist() == [0.5, 0.25, 0.25]
    assert ClassifierFeatures().name_on("digits") == "digits_classifier"


def test_a_classifier_without_labels_is_refused_by_name() -> None:
    images = Images(train=IMAGES.train[:3], held_out=IMAGES.train[3:4], labels=None)
    for choice, name in (
        (ClassifierFeatures(), "classifier"),
        (ChannelClassifierFeatures(digits=10), "channel_"),
    ):
        with pytest.raises(
            ConfigError, match=f"features={name}.* learns from labels, and these data have none"
        ):
            choice.check(images)
        with pytest.raises(ConfigError, match="learns from labels"):
            choice.make(images)


def stacked(count: int, start: int, stop: int, seed: int) -> tuple[Tensor, Tensor]:
    return stack(*part(start, stop), count, torch.Generator().manual_seed(seed))


def test_digits_that_were_never_seen_are_told_apart_in_every_channel() -> None:
    train, labels = stacked(700, 0, 1347, 0)
    pixels, truth = stacked(500, 1347, 1797, 1)
    digits = labels[:, None] // torch.tensor([100, 10, 1]) % 10
    digit = train_classifier(train.flatten(0, 1).unsqueeze(1), digits.flatten(), num_classes=10, updates=300)
    network = ChannelClassifier(digit, 3)
    features = network(pixels)
    found = network.logits(features).argmax(dim=1)
    assert features.shape == (500, network.num_features)
    for power in (100, 10, 1):
        assert (found // power % 10 == truth // power % 10).double().mean().item() > 0.95


def test_a_stacked_class_is_as_likely_as_its_digits_together() -> None:
    digit = Classifier((1, 8, 8), 4, torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    network = ChannelClassifier(digit, 3)
    pixels, _ = stacked(5, 0, 100, 0)
    joint = network.logits(network(pixels)).softmax(dim=1)
    assert joint.shape == (5, 64)
    single = torch.stack([digit.logits(digit(pixels[:, c : c + 1])).softmax(dim=1) for c in range(3)], dim=1)
    for a, b, c in ((0, 0, 0), (1, 2, 3), (3, 0, 2)):
        expected = single[:, 0, a] * single[:, 1, b] * single[:, 2, c]
        torch.testing.assert_close(joint[:, 16 * a + 4 * b + c], expected)


def test_shares_of_stacked_classes_are_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "UPDATES", 3)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_: tmp_path)
    pixels, labels = stacked(4, 0, 100, 0)
    labels = torch.tensor([0, 123, 100, 23])
    images = Images(train=pixels[:3], held_out=pixels[3:], labels=labels)
    network = ChannelClassifierFeatures(digits=10).make(images)
    assert network.shares.shape == (1000,)
    assert network.shares.sum().item() == pytest.approx(1.0)
    assert network.shares[123].item() == pytest.approx(
        0.5 * 0.5 * 0.5
    )  # 1 of {0, 1}, 2 of {0, 2}, 3 of {0, 3}
    assert network.shares[23].item() == pytest.approx(0.125)
    assert network.shares[200].item() == 0.0


def test_labels_of_more_classes_than_the_channels_can_have_are_refused() -> None:
    pixels, _ = stacked(4, 0, 100, 0)
    images = Images(train=pixels[:3], held_out=pixels[3:], labels=torch.tensor([0, 1, 2, 27]))
    with pytest.raises(ConfigError, match="here 3, and 27 classes in all; these have 28"):
        ChannelClassifierFeatures(digits=3).check(images)
    ChannelClassifierFeatures(digits=10).check(images)


@pytest.fixture(scope="module")
def mobilenet() -> MobileNet:
    """Weights drawn at random: what is made of an image does not depend on what they have learnt."""
    return MobileNet(random_state())


def random_state() -> dict[str, torch.Tensor]:
    """Of `mobilenet_v2`, with batch norms that have seen something."""
    from torchvision.models import mobilenet_v2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = mobilenet_v2().state_dict()
        for name, value in state.items():
            if "running" in name:
                value.copy_(torch.rand(value.shape) + 0.5)
        return state


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 200, 200), (3, 96, 96)])
def test_mobilenet_sees_what_torchvision_would_show_it(shape: tuple[int, ...], mobilenet: MobileNet) -> None:
    from torchvision.transforms import InterpolationMode, v2

    pixels = torch.randint(256, (2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    transform = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((96, 96), InterpolationMode.BILINEAR, antialias=True),
            v2.Lambda(lambda x: x.repeat(1, 3 // x.shape[1], 1, 1)),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    torch.testing.assert_close(mobilenet.preprocess(pixels), transform(pixels), atol=1e-5, rtol=1e-5)


def test_mobilenet_gives_torchvisions_logits_through_its_1280_features(mobilenet: MobileNet) -> None:
    from torchvision.models import mobilenet_v2

    reference = mobilenet_v2()
    reference.load_state_dict(random_state())
    pixels = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = mobilenet(pixels)
    assert features.shape == (3, mobilenet.num_features) == (3, 1280)
    expected = reference.eval()(mobilenet.preprocess(pixels)).detach()
    torch.testing.assert_close(mobilenet.logits(features), expected, atol=1e-5, rtol=1e-4)


def test_mobilenet_is_read_from_a_file_and_leaves_the_global_generator_alone(
    tmp_path: Path, mobilenet: MobileNet
) -> None:
    state = random_state()
    torch.save(state, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    read = MobileNetFeatures(weights=str(tmp_path / "weights.pth")).make(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert not read.training
    assert torch.equal(read(IMAGES.train[:2]), mobilenet(IMAGES.train[:2]))


@pytest.mark.parametrize("choice", [MobileNetFeatures, InceptionFeatures])
def test_weights_that_cannot_be_are_refused_in_one_line(
    choice: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if choice is InceptionFeatures:
        pretend_fidelity(monkeypatch)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:100])
    torch.save(tmp_path, tmp_path / "code.pth")  # a path is no tensor: reading it would run code
    for name, message in (
        ("none.pth", "is no file"),
        ("cut.pth", "is cut off, damaged or no file of weights"),
        ("code.pth", "is cut off, damaged or no file of weights"),
        ("other.pth", "is of another network"),
    ):
        with pytest.raises(ConfigError, match=rf"^features.weights=.*{name} {message}[^\n]*$"):
            choice(weights=str(tmp_path / name)).check(IMAGES)


def test_without_a_network_mobilenet_says_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        ConfigError, match=r"could not fetch .* \(no route to host\); set features.weights= to"
    ):
        MobileNetFeatures(weights=None).check(IMAGES)


class Fake(nn.Module):
    """Stands for torch-fidelity's network, which is optional and 91 MB."""

    def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str | None) -> None:
        super().__init__()
        assert features == ["2048"]
        if feature_extractor_weights_path is None:
            raise OSError("no route to host")
        self.fc = nn.Linear(2048, 1008)
        self.fc.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1] == 3
        return (pixels.flatten(1).float().repeat(1, 2048)[:, :2048],)


def pretend_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    package, module = ModuleType("torch_fidelity"), ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    package.__spec__ = ModuleSpec("torch_fidelity", None)
    module.__dict__["FeatureExtractorInceptionV3"] = Fake
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_inception_shows_grey_images_in_three_channels_and_forgets_the_bias(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_fidelity(monkeypatch)
    random = torch.Generator().manual_seed(0)
    state = {"weight": torch.randn(1008, 2048, generator=random), "bias": torch.ones(1008)}
    torch.save(state, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    network = InceptionFeatures(weights=str(tmp_path / "weights.pth")).make(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(network, Inception)
    features = network(IMAGES.train[:2])
    assert features.shape == (2, network.num_features)
    torch.testing.assert_close(network.logits(features), features @ state["weight"].T)


def test_inception_without_the_library_or_a_network_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradgan.features.inception.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs torch-fidelity: pip install 'gradsight\[inception\]'"):
        InceptionFeatures(weights=None).check(IMAGES)
    monkeypatch.undo()
    pretend_fidelity(monkeypatch)
    with pytest.raises(ConfigError, match=r"could not fetch .* \(no route to host\)"):
        InceptionFeatures(weights=None).check(IMAGES)


def test_a_network_without_classes_says_so() -> None:
    assert FeatureNetwork().logits(torch.zeros(2, 3)) is None
    assert FeatureNetwork().shares is None
