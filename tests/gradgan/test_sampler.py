import json
import threading

import pytest
import torch

from core.config import ConfigError
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.run import checkpoint
from core.run.files import to_yaml, write_text
from core.run.saved import write_interface
from gradgan import load_generator
from gradgan.game.players import latents, make_players
from gradgan.networks.conditioning import Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.sampler import interface_of

DCGAN_OPTIONS = {"width": 4, "max_width": 8, "spectral_norm": False, "batch_norm": True}
MLP_OPTIONS = {"width": 8, "depth": 2, "slope": 0.2, "spectral_norm": False}


def write_run(directory, images=True, conditional=True, truncation=None):
    """A run directory of an untrained pair; the averaged generator, away from the other one."""
    cls, options, shape = (DCGAN, DCGAN_OPTIONS, (1, 8, 8)) if images else (MLP, MLP_OPTIONS, (2,))
    random = torch.Generator().manual_seed(0)
    generator, _ = make_players(
        cls(**options), Projection() if conditional else None, 5, shape, 3, random, random
    )
    average = ExponentialMovingAverage(AverageConfig(half_life=1.0, ramp_up=None), generator)
    with torch.no_grad():
        for p in generator.parameters():
            p += torch.randn(p.shape, generator=random)
    average.update(1.0)
    tree = {
        "_target_": "gradgan.train.TrainConfig",
        "network": {"_target_": f"{cls.__module__}.{cls.__qualname__}", **options},
        "evaluation": {"truncation": truncation},
    }
    write_text(directory / "config.yaml", to_yaml(tree))
    write_interface(directory, interface_of(5, shape, 3 if conditional else None))
    state = {"average": average.state_dict(), "generator": generator.state_dict(), "run": {"step": 7}}
    for name in ("last", "best"):
        checkpoint.save(directory / "checkpoints" / f"{name}.pt", state)
    return average.module


def test_images_are_those_of_the_averaged_generator_in_bytes(tmp_path):
    module, generate = write_run(tmp_path), load_generator(tmp_path)
    labels = torch.tensor([2, 0, 1, 1])
    images = generate(4, labels=labels, seed=3)
    z = latents(4, 5, torch.Generator().manual_seed(3), torch.device("cpu"))
    with torch.no_grad():
        expected = ((module(z, labels).double() + 1) * 127.5).round()
    assert (images.dtype, images.shape) == (torch.uint8, (4, 1, 8, 8))
    assert (images.double() - expected).abs().max() <= 1
    assert images.float().std() > 0


def test_points_are_numbers_and_a_truncation_of_the_run_holds(tmp_path):
    module, generate = (
        write_run(tmp_path, images=False, conditional=False, truncation=0.5),
        load_generator(tmp_path),
    )
    z = latents(6, 5, torch.Generator().manual_seed(1), torch.device("cpu"), truncation=0.5)
    assert z.abs().max() <= 0.5
    torch.testing.assert_close(generate(6, seed=1), module(z))


def test_a_seed_repeats_samples_and_without_one_they_differ(tmp_path):
    write_run(tmp_path, images=False)
    generate = load_generator(tmp_path, checkpoint="best")
    assert torch.equal(generate(5, seed=1), generate(5, seed=1))
    assert not torch.equal(generate(5, seed=1), generate(5, seed=2))
    assert not torch.equal(generate(5), generate(5))


def test_one_label_is_for_all_and_none_are_all_classes_as_often(tmp_path):
    module, generate = write_run(tmp_path), load_generator(tmp_path)
    assert torch.equal(generate(4, labels=2, seed=1), generate(4, labels=[2, 2, 2, 2], seed=1))
    seen = []
    module = generate.generator
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    generate(9)
    assert seen[0].bincount().tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("conditional", "n", "labels", "words"),
    [
        (True, 0, None, "n must be >= 1"),
        (True, 2, 3, "0 to 2"),
        (True, 2, -1, "0 to 2"),
        (True, 2, [1, 1, 1], "2 of them"),
        (True, 2, 0.5, "an integer"),
        (False, 2, 1, "takes no labels"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(conditional, n, labels, words, tmp_path):
    write_run(tmp_path, images=False, conditional=conditional)
    with pytest.raises(ValueError, match=words):
        load_generator(tmp_path)(n, labels=labels)


def test_threads_may_share_a_generator(tmp_path):
    write_run(tmp_path)
    generate = load_generator(tmp_path)
    expected, found = [generate(8, seed=i) for i in range(6)], {}

    def work(i):
        found[i] = generate(8, seed=i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(6))


def interface(**changes):
    return json.dumps({**interface_of(5, (1, 8, 8), 3), **changes})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("interface.json", "[]"),
        ("interface.json", interface(shape=[])),
        ("interface.json", interface(shape=[1, 9, 9])),
        ("interface.json", interface(shape="abc")),
        ("interface.json", interface(shape=[10**6, 10**6])),
        ("interface.json", interface(latent_size=-1)),
        ("interface.json", interface(latent_size=6)),
        ("interface.json", interface(num_classes="many")),
        ("interface.json", interface(num_classes=None)),
        ("config.yaml", "_target_: gradrl.train.TrainConfig\n"),
        ("config.yaml", "_target_: gradgan.train.TrainConfig\n"),
        ("config.yaml", "_target_: gradgan.train.TrainConfig\nnetwork: {_target_: subprocess.Popen}\n"),
        ("checkpoints/last.pt", "not a checkpoint"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(name, content, tmp_path):
    write_run(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_generator(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [None, {}, {"module": 3}, {"module": {"network.0.weight": 1}}, [1]])
def test_a_checkpoint_without_an_average_is_refused_in_one_line(state, tmp_path):
    write_run(tmp_path)
    checkpoint.save(tmp_path / "checkpoints" / "last.pt", {"average": state})
    with pytest.raises(ConfigError, match=r"last\.pt"):
        load_generator(tmp_path)
