"""The training loop: take real samples, move both players, tell the run."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from core.checks import require
from core.gradients import GradientStep, MonitorConfig, Transform
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.game import Scheme
from core.optim.schedules import Schedule
from core.run.config import Component, ConfigError
from core.run.device import resolve_device, set_num_threads
from core.run.run import Evaluation, Run, RunConfig
from core.run.seeding import Generators
from gradgan.data import ImageData, Images, ImageStream, Mixture, MixtureStream
from gradgan.judge import ImageJudge, Judge, MixtureJudge
from gradgan.losses import Loss
from gradgan.networks import Network
from gradgan.penalties import Penalty
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
    clipper: Transform | None
    monitor: MonitorConfig
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
    """What can be known before a directory is made: the device, the optimizer's options, the data.

    Raises:
        ConfigError: one of them is not to be had.
    """
    device = resolve_device(cfg.device)
    check_optimizer(cfg.optimizer)
    _stream_and_judge(cfg, torch.Generator(), device)


def train(cfg: TrainConfig, run: Run) -> None:
    """Train a generator and a discriminator.

    Raises:
        ConfigError: the data or the device are not to be had; before anything is made.
    """
    device = resolve_device(cfg.device)
    set_num_threads(cfg.num_threads)
    generators = Generators(cfg.seed)
    stream, judge = _stream_and_judge(cfg, generators.torch("data"), device)
    trainer = build_trainer(cfg, generators, device)
    average = trainer.average.module

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
        summarise=summarise,
        headline=("loss/generator", "loss/discriminator", *judge.headline),
    )
    while run.step < cfg.total_images:
        metrics = trainer.update(stream.next(), progress=run.step / cfg.total_images)
        run.finish_step(run.step + cfg.batch_size, metrics)
    run.finish(judge.measure(average))


def build_trainer(cfg: TrainConfig, generators: Generators, device: torch.device) -> Trainer:
    """Both players from the run's own generators, their gradient steps, and the average."""
    shape = cfg.data.shape
    # Made on the CPU and then moved, so that every device begins with the same numbers.
    generator = cfg.network.generator(cfg.latent_size, shape, generators.torch("generator")).to(device)
    discriminator = cfg.network.discriminator(shape, generators.torch("discriminator")).to(device)
    transforms = [] if cfg.clipper is None else [cfg.clipper]
    steps = {
        name: GradientStep(
            module,
            build_optimizer(cfg.optimizer, module.named_parameters(), lr),
            transforms,
            name=name,
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
    if isinstance(cfg.data, Mixture):
        return MixtureStream(cfg.data, cfg.batch_size, random, device), judge
    images = load(cfg.data).train
    if cfg.batch_size > len(images):
        raise ConfigError(
            f"batch_size must be at most {len(images)}, the images of data={cfg.data.name}, "
            f"got {cfg.batch_size}"
        )
    return ImageStream(images, cfg.batch_size, random, device), judge


def _words(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"points of {shape[0]} coordinates"
    return f"images of {shape[1]}x{shape[2]} pixels"
