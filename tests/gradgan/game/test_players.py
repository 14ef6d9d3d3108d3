"""`gradgan.game.players`: what labels do to both players, against the definitions."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from core.config import build, config_dir
from core.gradients import Objective
from core.noise.per_sample import per_sample_gradients
from gradgan.game.players import Discriminator, Generator, make_players
from gradgan.networks import Network
from gradgan.networks.conditioning import Auxiliary, Conditioning, Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.networks.r3gan import R3GAN
from gradgan.networks.resnet import ResNet
from gradgan.networks.stylegan2 import StyleGAN2

SHAPE, LATENT, CLASSES = (1, 8, 8), 5, 3
PROJECTION, AUXILIARY = Projection(), Auxiliary(weight=1.0)
LABELS = torch.tensor([2, 0, 1, 2])


def networks(*, spectral_norm: bool = False) -> list[Network]:
    wide = {"width": 4, "max_width": 8, "spectral_norm": spectral_norm}
    return [
        MLP(width=8, depth=2, slope=0.2, spectral_norm=spectral_norm),
        DCGAN(**wide, batch_norm=False),
        ResNet(**wide, batch_norm=False),
        StyleGAN2(**wide, style_size=6, mapping_depth=1, mapping_lr=0.01),
        R3GAN(**wide, blocks=1, expansion=2, group_size=4),
    ]


SMALL = networks()[1]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(shape, generator=random(seed), dtype=torch.float64)


def players(
    network: Network, conditioning: Conditioning | None, num_classes: int | None = CLASSES
) -> tuple[Generator, Discriminator]:
    made = make_players(network, conditioning, LATENT, SHAPE, num_classes, random(), random(1))
    return made[0].double(), made[1].double()


@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
def test_an_unconditional_pair_does_not_look_at_labels(network: Network) -> None:
    for num_classes in (None, CLASSES):
        generator, discriminator = players(network, None, num_classes)
        z, x = normal(4, LATENT), normal(4, *SHAPE)
        assert torch.equal(generator(z), generator(z, LABELS))
        assert torch.equal(discriminator(x), discriminator(x, LABELS))
        assert torch.equal(discriminator(x), discriminator.head(discriminator.body(x))[:, 0])
        assert torch.equal(generator(z), generator.network(z))


@pytest.mark.parametrize("conditioning", [PROJECTION, AUXILIARY], ids=lambda c: c.name)
@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
def test_a_conditional_generator_gets_the_one_hot_label_after_its_latent(
    network: Network, conditioning: Conditioning
) -> None:
    generator, _ = players(network, conditioning)
    z = normal(4, LATENT)
    one_hot = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    out = generator(z, LABELS)
    assert out.shape == (4, *SHAPE)
    assert torch.equal(out, generator.network(torch.cat([z, one_hot], dim=1)))
    same = generator(z[:1].expand(3, -1), torch.arange(3))
    assert all((same[i] - same[j]).abs().max() > 1e-4 for i, j in [(0, 1), (0, 2), (1, 2)])


@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
def test_projection_adds_the_inner_product_of_the_labels_vector_and_the_features(network: Network) -> None:
    _, discriminator = players(network, PROJECTION)
    x = normal(4, *SHAPE)
    features = discriminator.body(x)
    vectors, head = discriminator.embedding.weight, discriminator.head
    expected = []
    for i, label in enumerate(LABELS.tolist()):
        inner = sum(vectors[label, f] * features[i, f] for f in range(features.shape[1]))
        expected.append(inner + (head.weight[0] * features[i]).sum() + head.bias[0])
    torch.testing.assert_close(discriminator(x, LABELS), torch.stack(expected), rtol=1e-10, atol=1e-12)
    assert vectors.shape == (CLASSES, features.shape[1])
    assert (discriminator(x, LABELS) - discriminator(x, (LABELS + 1) % CLASSES)).abs().min() > 1e-6


@pytest.mark.parametrize("network", networks(), ids=lambda n: n.name)
def test_auxiliary_judges_and_classifies_from_the_same_features(network: Network) -> None:
    _, discriminator = players(network, AUXILIARY)
    x = normal(4, *SHAPE)
    logits, class_logits = discriminator.classify(x, LABELS)
    features = discriminator.body(x)
    weight, bias = discriminator.class_head.weight, discriminator.class_head.bias
    torch.testing.assert_close(class_logits, features @ weight.T + bias)
    assert class_logits.shape == (4, CLASSES)
    assert torch.equal(logits, discriminator(x))
    # Neither answer may depend on the label that is to be guessed.
    for other in (None, (LABELS + 1) % CLASSES):
        again = discriminator.classify(x, other)
        assert torch.equal(again[0], logits)
        assert torch.equal(again[1], class_logits)
    cross_entropy(class_logits, LABELS).backward()
    assert discriminator.head.weight.grad is None
    assert next(discriminator.body.parameters()).grad.any()


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("conditioning", [None, PROJECTION, AUXILIARY])
def test_weights_come_from_the_two_generators_and_conditioning_only_adds(
    conditioning: Conditioning | None, spectral_norm: bool
) -> None:
    before = torch.get_rng_state()
    for network in networks(spectral_norm=spectral_norm):
        one = players(network, conditioning)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(77)  # what the global generator would give next does not matter
            two = players(network, conditioning)
        for a, b in zip(one, two, strict=True):
            assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
        _, plain = players(network, None)
        added = one[1].state_dict()
        body = plain.body.state_dict(prefix="body.")
        assert all(torch.equal(value, added[name]) for name, value in body.items())
        assert all(
            torch.equal(p, q) for p, q in zip(plain.head.parameters(), one[1].head.parameters(), strict=True)
        )
    assert torch.equal(torch.get_rng_state(), before)


def test_features_weigh_alike_in_every_head_at_first() -> None:
    network = MLP(width=2000, depth=1, slope=0.2, spectral_norm=False)
    for conditioning in (PROJECTION, AUXILIARY):
        _, discriminator = players(network, conditioning)
        heads = [discriminator.head, discriminator.embedding or discriminator.class_head]
        for head in heads:
            assert head.weight.std().item() == pytest.approx(2000**-0.5, rel=0.05)


@pytest.mark.parametrize("conditioning", [PROJECTION, AUXILIARY], ids=lambda c: c.name)
def test_spectral_norm_reaches_the_heads(conditioning: Conditioning) -> None:
    _, discriminator = players(networks(spectral_norm=True)[1], conditioning)
    x = normal(2, *SHAPE)
    with torch.no_grad():
        for _ in range(200):
            discriminator(x, LABELS[:2])
            if conditioning is AUXILIARY:
                discriminator.classify(x)
        discriminator.eval()
        for head in (discriminator.head, discriminator.embedding or discriminator.class_head):
            largest = torch.linalg.svdvals(head.weight)[0].item()
            assert largest == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("conditioning", [PROJECTION, AUXILIARY], ids=lambda c: c.name)
def test_labels_that_are_missing_are_asked_for(conditioning: Conditioning) -> None:
    generator, discriminator = players(SMALL, conditioning)
    with pytest.raises(ValueError, match="a conditional generator wants a label for each latent, got none"):
        generator(normal(4, LATENT))
    if conditioning is PROJECTION:
        with pytest.raises(ValueError, match="conditioning=projection wants labels, got none"):
            discriminator(normal(4, *SHAPE))
        with pytest.raises(ValueError, match="class logits need the second head of conditioning=auxiliary"):
            discriminator.classify(normal(4, *SHAPE), LABELS)
    with pytest.raises(ValueError, match=f"conditioning={conditioning.name} wants data with labels"):
        players(SMALL, conditioning, num_classes=None)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_every_sample_has_a_gradient_of_its_own(spectral_norm: bool) -> None:
    """Labels, embedding, modulation and spectral norm's vectors can all be mapped over samples."""
    for network in networks(spectral_norm=spectral_norm):
        generator, discriminator = players(network, PROJECTION)
        z, x = normal(4, LATENT), normal(4, *SHAPE)
        judged = Objective(discriminator, lambda f, x, y: softplus(-f(x, y)).mean(), (x, LABELS))
        gradients = per_sample_gradients(judged)
        mean = torch.autograd.grad(judged(), judged.parameters)
        for name, whole in zip(judged.names, mean, strict=True):
            torch.testing.assert_close(gradients[name].mean(dim=0), whole, rtol=1e-7, atol=1e-10)
        made = Objective(generator, lambda f, z, y: f(z, y).square().flatten(1).sum(1).mean(), (z, LABELS))
        assert per_sample_gradients(made).keys() == set(made.names)


def test_the_files_of_both_groups_build_what_they_say() -> None:
    from omegaconf import OmegaConf

    def built(group: str, name: str) -> object:
        return build(OmegaConf.to_container(OmegaConf.load(config_dir() / group / f"{name}.yaml")))

    assert built("conditioning", "projection") == PROJECTION
    assert built("conditioning", "auxiliary") == AUXILIARY
    for cls in (MLP, DCGAN, ResNet, StyleGAN2, R3GAN):
        network = built("network", cls.name)
        assert isinstance(network, cls)
        if cls is not MLP:
            network.check((3, 32, 32))
    with pytest.raises(ValueError, match="weight must be a finite number >= 0, got -1"):
        Auxiliary(weight=-1.0)
