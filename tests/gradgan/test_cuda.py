"""A GAN's update on a GPU: the host never waits, and the first updates are the CPU's. Skipped without one."""

from collections.abc import Callable

import pytest
import torch

from core.seeding import Generators
from gradgan.train import TrainConfig, build_trainer
from tests.core.gradients.test_cuda import no_waiting

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a CUDA device")

Configured = Callable[..., TrainConfig]
TINY = ["data=digits", "network=dcgan", "network.width=8", "batch_size=16", "monitor.sample_interval=2"]
GAMES = {
    "r1": ["penalty.interval=2"],
    "r1_r2": ["loss=relativistic", "penalty=r1_r2"],
    "wgan_gp": ["loss=wasserstein", "penalty=wgan_gp", "discriminator.steps=2"],
    "dragan": ["penalty=dragan"],
    "hinge_and_spectral_norm": ["loss=hinge", "penalty=none", "network.spectral_norm=true"],
    "points": ["data=ring", "network=mlp"],
    "residual": ["network=resnet"],
    "style": ["network=stylegan2"],
    "r3gan": ["network=r3gan", "network.width=16"],
    "projection": ["conditioning=projection"],
    "auxiliary": ["conditioning=auxiliary"],
    "diffaugment": ["augment=diffaugment"],
    "ada": ["augment=ada"],
    "regularized": ["regularizer=[lecam,consistency,weight_clipping]"],
    "noise_and_top_k": ["discriminator.instance_noise=0.1", "generator.top_k=0.5"],
    "parts": ["micro_batches=4"],
    "bfloat16": ["precision=bfloat16"],
    "simultaneous": ["update=simultaneous"],
    "extragradient": ["update=extragradient"],
    "optimistic": ["update=optimistic"],
    "lookahead": ["update=lookahead"],
}


@pytest.mark.parametrize("name", GAMES)
def test_an_update_never_waits(name: str, configured: Configured) -> None:
    cfg = configured(*TINY, *GAMES[name])
    device = torch.device("cuda")
    trainer = build_trainer(cfg, Generators(cfg.seed), device)
    stream = cfg.data.stream(cfg.batch_size, torch.Generator().manual_seed(0), device)

    def update() -> dict[str, torch.Tensor]:
        return trainer.update([stream.next() for _ in range(cfg.discriminator.steps)], progress=0.5)

    for _ in range(4):
        update()
    with no_waiting():
        for _ in range(4):
            metrics = update()
    assert all(torch.as_tensor(value).isfinite().all() for value in metrics.values())


def test_the_first_updates_are_the_cpus(configured: Configured) -> None:
    cfg = configured("data=ring", "batch_size=64")
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        trainer = build_trainer(cfg, Generators(cfg.seed), device)
        stream = cfg.data.stream(cfg.batch_size, torch.Generator().manual_seed(0), device)
        for _ in range(5):
            trainer.update([stream.next()], progress=0.0)
        players = trainer.generator, trainer.discriminator
        found.append([p.detach().cpu() for player in players for p in player.parameters()])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
