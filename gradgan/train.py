"""The training loop: take real samples, move both players, tell the run."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn

from core.checks import require
from core.gradients import Clipper, GradientStep, MonitorConfig, Objective, as_transforms
from core.gradients.probe import Probe
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.game import Scheme, check_scheme
from core.optim.schedules import Schedule, check_schedule
from core.run.config import Component, ConfigError
from core.run.device import resolve_device, set_num_threads
from core.run.probes import Probes, check_probes
from core.run.rate import guided_lr
from core.run.run import Evaluation, Run, RunConfig
from core.run.seeding import Generators, seed_for
from gradgan.data import ImageData, Images, ImageStream, Mixture, MixtureStream
from gradgan.judge import ImageJudge, Judge, MixtureJudge
from gradgan.losses import Loss
from gradgan.networks import Network
from gradgan.penalties import Penalty
from gradgan.sampling import latents
from gradgan.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """What the discriminator has of its own.

    Attributes:
        lr: its learning rate, >= 0; null = the generator's (two time scales: arXiv:1706.08500).
    """

    lr: float | None

    def __post_init__(self) -> None:
        require(self.lr is None or self.lr >= 0, "lr", self.lr, "null or a number >= 0")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a generator is measured.

    Attributes:
        samples: generated samples that metrics are computed on, >= 2.
    """

    samples: int

    def __post_init__(self) -> None:
        require(self.samples >= 2, "samples", self.samples, "an integer >= 2")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of a training run; conf/gan.yaml explains each."""

    data: Mixture | ImageData
    network: Network
    loss: Loss
    penalty: Penalty | None
    regularizer: None
    optimizer: Component
    schedule: Schedule
    clipper: Clipper | None
    monitor: MonitorConfig
    probe: dict[str, Probe] | None
    update: Scheme
    discriminator: DiscriminatorConfig
    average: AverageConfig
    evaluation: EvaluationConfig
    logging: RunConfig
    seed: int
    total_images: int
    batch_size: int
    latent_size: int
    device: str
    num_threads: int | None

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "an integer >= 0")
        for name in ("total_images", "batch_size", "latent_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        threads = self.num_threads
        require(threads is None or threads >= 1, "num_threads", threads, "an integer >= 1 or null")
        try:
            self.network.check(self.data.shape)
        except ValueError as error:
            kind = _words(self.data.shape)
            raise ValueError(
                f"network={self.network.name} {error}, but data={self.data.name} has {kind}"
            ) from error


def check(cfg: TrainConfig) -> None:
    """What can be known before a directory is made: the device, the data, optimizer, scheme and schedule.

    Raises:
        ValueError: one of them is not to be had.
    """
    device = resolve_device(cfg.device)
    check_schedule(cfg.schedule, measured=())
    check_optimizer(cfg.optimizer, lambda: make_players(cfg, Generators(cfg.seed)), cfg.discriminator.lr)
    check_scheme(cfg.update, cfg.optimizer.target)
    check_probes(cfg.probe, lambda: make_players(cfg, Generators(cfg.seed)))
    _stream_and_judge(cfg, torch.Generator(), device)


def train(cfg: TrainConfig, run: Run) -> None:
    """Train a generator and a discriminator.

    Raises:
        ConfigError: the data or the device are not to be had; before anything is made.
    """
    device = resolve_device(cfg.device)
    set_num_threads(cfg.num_threads)
    generators = Generators(cfg.seed)
    cfg = with_guided_lr(cfg, run)
    stream, judge = _stream_and_judge(cfg, generators.torch("data"), device)
    trainer = build_trainer(cfg, generators, device)
    average = trainer.average.module

    # What probes look at, the same samples through the whole run and after a resumption.
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "probe"))
    frozen = make_stream(cfg, own, device).next(), latents(cfg.batch_size, cfg.latent_size, own, device)

    def evaluate() -> Evaluation:
        measured = judge.measure(average)
        numbers = {f"eval/{name}": float(v) for name, v in measured.items() if isinstance(v, int | float)}
        return Evaluation(numbers, judge.score(measured))

    def summarise() -> dict[str, object]:
        speed = run.step / run.train_s if run.train_s > 0 else None
        return {"data": cfg.data.name, "images": run.step, "updates": trainer.updates, "images_per_s": speed}

    if not judge.headline:
        run.say(f"data={cfg.data.name} has no labels to train features on: FID and KID are not measured")
    run.start(
        total=cfg.total_images,
        unit="images",
        state={
            "generator": trainer.generator,
            "discriminator": trainer.discriminator,
            "average": trainer.average,
            "trainer": trainer,
            "stream": stream,
            "generators": generators,
        },
        gradient_steps=[trainer.generator_step, trainer.discriminator_step],
        evaluate=evaluate if judge.headline else None,
        draw=lambda: judge.draw(average),
        probes=Probes(cfg.probe, cfg.seed, lambda: trainer.objectives(*frozen)),
        summarise=summarise,
        headline=("loss/generator", "loss/discriminator", *judge.headline),
    )
    while run.step < cfg.total_images:
        metrics = trainer.update(stream.next(), progress=run.step / cfg.total_images)
        run.finish_step(run.step + cfg.batch_size, metrics)
    run.finish(lambda: judge.measure(average))


def with_guided_lr(cfg: TrainConfig, run: Run) -> TrainConfig:
    """The rates that `optimizer.lr=auto` stands for, one for each player whose own is not given.

    A resumed run finds its rates in the checkpoint.
    """
    if not cfg.optimizer.auto_lr or run.resuming:
        return cfg
    device = resolve_device(cfg.device)
    trainer = build_trainer(cfg, Generators(cfg.seed), device)
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "learning rate"))
    stream = make_stream(cfg, own, device)
    real = torch.cat([stream.next() for _ in range(8)])
    objectives = trainer.objectives(real, latents(len(real), cfg.latent_size, own, device))
    (generator, _), (discriminator, _) = objectives

    def guided(objective: Objective, name: str) -> float:
        return guided_lr(cfg.optimizer, cfg.clipper, objective, cfg.batch_size, cfg.seed, run.say, name)

    lr = cfg.discriminator.lr
    if lr is None:
        lr = guided(discriminator, "discriminator")
    optimizer = cfg.optimizer.with_lr(guided(generator, "generator"))
    return replace(cfg, optimizer=optimizer, discriminator=DiscriminatorConfig(lr=lr))


def make_players(cfg: TrainConfig, generators: Generators) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator with the initial weights of the run's seed, on the CPU."""
    generator = cfg.network.generator(cfg.latent_size, cfg.data.shape, generators.torch("generator"))
    return generator, cfg.network.discriminator(cfg.data.shape, generators.torch("discriminator"))


def build_trainer(cfg: TrainConfig, generators: Generators, device: torch.device) -> Trainer:
    """Both players from the run's own generators, their gradient steps, and the average."""
    # Made on the CPU and then moved, so that every device begins with the same numbers.
    generator, discriminator = (player.to(device) for player in make_players(cfg, generators))
    steps = {
        name: GradientStep(
            module,
            build_optimizer(cfg.optimizer, module.named_parameters(), lr),
            as_transforms(cfg.clipper),
            name=name,
            batch_size=cfg.batch_size,
            monitor=cfg.monitor,
        )
        for name, module, lr in (
            ("generator", generator, None),
            ("discriminator", discriminator, cfg.discriminator.lr),
        )
    }
    return Trainer(
        generator=generator,
        discriminator=discriminator,
        generator_step=steps["generator"],
        discriminator_step=steps["discriminator"],
        average=ExponentialMovingAverage(cfg.average, generator),
        loss=cfg.loss,
        penalty=cfg.penalty,
        scheme=cfg.update,
        schedule=cfg.schedule,
        latent_size=cfg.latent_size,
        random=generators.torch("latents"),
    )


def make_judge(cfg: TrainConfig, seed: int, samples: int) -> Judge:
    """The judge of these data; `seed` decides the latents.

    Raises:
        ConfigError: the data are not to be had.
    """
    if isinstance(cfg.data, Mixture):
        return MixtureJudge(cfg.data, cfg.latent_size, samples, seed)
    return ImageJudge(cfg.data.name, load(cfg.data), cfg.latent_size, samples, seed)


@lru_cache(maxsize=1)
def load(data: ImageData) -> Images:
    """Load images once for the check before the run and the run itself."""
    return data.load()


def _stream_and_judge(
    cfg: TrainConfig, random: torch.Generator, device: torch.device
) -> tuple[MixtureStream | ImageStream, Judge]:
    """Where real samples come from, and who measures the generated ones."""
    judge = make_judge(cfg, cfg.seed, cfg.evaluation.samples)
    return make_stream(cfg, random, device), judge


def make_stream(
    cfg: TrainConfig, random: torch.Generator, device: torch.device
) -> MixtureStream | ImageStream:
    """Endless real samples, in the order that `random` decides."""
    if isinstance(cfg.data, Mixture):
        return MixtureStream(cfg.data, cfg.batch_size, random, device)
    images = load(cfg.data).train
    if cfg.batch_size > len(images):
        raise ConfigError(
            f"batch_size must be at most {len(images)}, the images of data={cfg.data.name}, "
            f"got {cfg.batch_size}"
        )
    return ImageStream(images, cfg.batch_size, random, device)


def _words(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"points of {shape[0]} coordinates"
    return f"images of {shape[1]}x{shape[2]} pixels"
