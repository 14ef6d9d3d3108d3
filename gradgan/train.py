"""The training loop: take real samples, move both players, report to the run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, ClassVar, Literal, cast

import torch
from annotated_types import Ge

from core.checks import checked, require
from core.config import Component, ConfigError
from core.gradients import Clipper, GradientStep, MonitorConfig, Objective, as_transforms
from core.gradients.arguments import check_clipper
from core.gradients.probe import Probe
from core.gradients.ranks import alone, num_ranks, this_rank
from core.optim.averaging import AverageConfig, ExponentialMovingAverage
from core.optim.factory import build_optimizer, check_optimizer
from core.optim.schedules import Schedule, check_schedule
from core.optim.schemes.schemes import Scheme, check_scheme
from core.report.dashboard import dashboard_of
from core.run.auto_lr import auto_lr
from core.run.callbacks import Callback
from core.run.compiled import Compile, say_saved
from core.run.config import RunConfig
from core.run.device import require_memory, resolve_device, set_num_threads
from core.run.diagnosis import DiagnosisConfig, OnFinding, unit_health_of
from core.run.evaluation import Evaluation
from core.run.loggers.loggers import Chosen
from core.run.probes import Probes, check_probes
from core.run.ranks import by_first
from core.run.run import Run
from core.run.saved import write_interface
from core.seeding import Generators, seed_for
from gradgan import compiled, effects
from gradgan.augment import Augment
from gradgan.augment.ada import ADA
from gradgan.data import Data
from gradgan.diagnosis import REMEDIES, RULES
from gradgan.evaluation.cost import player_costs
from gradgan.evaluation.evaluator import Evaluator, FixedLatents, outcome
from gradgan.features import Features
from gradgan.game.game import Game
from gradgan.game.players import Discriminator, Generator, latents, make_players
from gradgan.initial import take_players
from gradgan.losses import Loss, common_slope, compares_samples
from gradgan.measurements.measurements import Measurements, MeasurementsConfig
from gradgan.networks import Network
from gradgan.networks.conditioning import Auxiliary, Projection
from gradgan.numbers import numbers as numbers  # as a search asks for it
from gradgan.objectives import check_noise, player_objectives
from gradgan.options import DiscriminatorConfig, EvaluationConfig, GeneratorConfig
from gradgan.penalties import Penalty
from gradgan.ranks import check_ranks as check_ranks  # as the launcher asks for it
from gradgan.regularizers import Regularizer
from gradgan.report import GAN
from gradgan.sampler import interface_of
from gradgan.trainer import Trainer
from gradgan.trial import check_fit, check_shape, try_data, try_game, try_loss, try_network


@dataclass(frozen=True, kw_only=True)
@checked
class TrainConfig:
    """All options of a training run; conf/gan.yaml explains each."""

    LENGTH: ClassVar[str] = "total_images"
    BEGINNING: ClassVar[tuple[str, ...]] = ("init_from",)

    data: Data
    network: Network
    conditioning: Projection | Auxiliary | None
    loss: Loss
    penalty: Penalty | None
    regularizer: dict[str, Regularizer] | None
    augment: Augment | None
    optimizer: Component
    schedule: Schedule
    clipper: Clipper | None
    monitor: MonitorConfig
    probe: dict[str, Probe] | None
    update: Scheme
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    average: AverageConfig
    evaluation: EvaluationConfig
    features: Features
    measurements: MeasurementsConfig
    logging: RunConfig
    logger: Chosen = field(default_factory=dict)  # besides the event file
    callbacks: tuple[Component | Callback, ...] = ()
    name: str | None = None
    tags: tuple[str, ...] = ()
    diagnosis: DiagnosisConfig | None = None  # a run from before there was one has none
    on_finding: OnFinding = "report"
    max_rollbacks: Annotated[int, Ge(1)] = 3
    seed: Annotated[int, Ge(0)]
    total_images: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)]
    micro_batches: Annotated[int, Ge(1)]
    latent_size: Annotated[int, Ge(1)]
    init_from: str | None = None
    init_statistics: bool = True
    precision: Literal["float32", "bfloat16"]
    channels_last: bool
    device: str
    num_threads: Annotated[int | None, Ge(1)]
    compile: Compile = "off"

    def __post_init__(self) -> None:
        try_loss(self.loss)
        check_shape(self.data)
        parts, size = self.micro_batches, self.batch_size
        require(size % parts == 0, "micro_batches", parts, f"a divisor of batch_size ({size})")
        whole = parts == 1 or not self.update.needs_joint_graph
        kind = type(self.update).__name__
        require(whole, "micro_batches", parts, f"1 with update {kind}, which differentiates whole batches")
        for compares, name in (
            (compares_samples(self.loss), f"loss {type(self.loss).__name__}"),
            (self.generator.top_k < 1, "generator.top_k below 1"),
        ):
            told = f"1 with {name}, which compares the samples of a whole batch"
            require(parts == 1 or not compares, "micro_batches", parts, told)
        shape = self.data.shape
        for part in (self.augment, *(self.regularizer or {}).values()):
            if part is not None:
                part.check(shape)
        bounded = self.loss.has_threshold or not isinstance(self.augment, ADA)
        why = f"{type(self.loss).__name__}, whose logits' sign says nothing"
        require(bounded, "augment", "ada", f"diffaugment or none with {why}")
        check_fit(self.network, self.data)

    @property
    def game(self) -> Game:
        """What both players want."""
        return Game(
            loss=self.loss,
            penalty=self.penalty,
            regularizers=self.regularizer or {},
            auxiliary=self.conditioning if isinstance(self.conditioning, Auxiliary) else None,
            augment=self.augment,
            instance_noise=self.discriminator.instance_noise,
            top_k=self.generator.top_k,
            joint_graph=self.update.needs_joint_graph,
        )


def check(cfg: TrainConfig) -> None:
    """Check all that can be checked before a directory is made: device, data, optimizer, scheme, probes.

    Raises:
        ValueError: one of them is not available or does not fit.
    """
    device = resolve_device(cfg.device)
    compiled.check(cfg.compile, device, cfg.network, cfg.game)
    classes = cfg.data.num_classes if cfg.conditioning is not None else None
    try_network(cfg.network, cfg.latent_size + (classes or 0), cfg.data.shape)

    @cache
    def players() -> tuple[Generator, Discriminator]:
        return _players(cfg, Generators(cfg.seed))

    if cfg.init_from is not None:
        take_players(
            cfg.init_from, players(), cfg.latent_size, cfg.data.shape, statistics=cfg.init_statistics
        )
    if cfg.conditioning is not None and cfg.data.num_classes is None:
        wants = f"conditioning={cfg.conditioning.name} wants labels, and data={cfg.data.name} has none"
        raise ConfigError(": ".join([wants, *cfg.data.notes()[:1]]))
    check_schedule(cfg.schedule, measured=())
    check_optimizer(cfg.optimizer, players, cfg.discriminator.lr)
    check_scheme(cfg.update, cfg.optimizer.target)
    if isinstance(cfg.optimizer.options, dict) and cfg.optimizer.options.get("line_search_fn"):
        build_trainer(cfg, Generators(cfg.seed), torch.device("cpu"))  # its steps refuse a clipper with it
    check_noise(cfg.probe or {}, cfg.loss, cfg.network)
    check_clipper(cfg.clipper, [name for player in players() for name, _ in player.named_parameters()])
    check_probes(cfg.probe, players)
    try_game(cfg.game, players, cfg.latent_size, cfg.data, classes)
    require_memory("batch_size", cfg.batch_size, 4 * cfg.batch_size * math.prod(cfg.data.shape))
    try_data(cfg.data, cfg.batch_size, device)
    make_evaluator(cfg, cfg.seed, cfg.evaluation.samples)


def without_effect(cfg: TrainConfig) -> dict[str, str]:
    """Options that change nothing in this configuration, by dotted name, and why."""
    alone = {} if cfg.init_from else {"init_statistics": "there is no init_from whose statistics to take"}
    return alone | effects.without_effect(
        cfg.data, cfg.network, cfg.game, cfg.clipper, cfg.optimizer, cfg.probe
    )


def train(cfg: TrainConfig, run: Run) -> None:
    """Train a generator and a discriminator.

    Raises:
        ConfigError: the data or the device are not available; raised before anything is made.
    """
    device = resolve_device(cfg.device)
    set_num_threads(cfg.num_threads)
    generators = Generators(cfg.seed)
    with alone():  # of several ranks each finds the same rates
        cfg = with_auto_lr(cfg, run)
    stream = cfg.data.stream(cfg.batch_size, generators.torch("data"), device)
    evaluator = make_evaluator(cfg, cfg.seed, cfg.evaluation.samples, run.say)
    trainer = build_trainer(cfg, generators, device)
    begin(cfg, trainer, run)
    average = trainer.average.module
    measurements = make_measurements(cfg, trainer, device)

    def points(measured: Mapping[str, object]) -> dict[str, float]:
        """Every number but the counts, by tag, and the measurements of both players."""
        numbers = {name: float(v) for name, v in measured.items() if isinstance(v, int | float)}
        curves = {f"eval/{name}": v for name, v in numbers.items() if not name.endswith("samples")}
        return curves | measurements.measure()

    def evaluate() -> Evaluation:
        measured = evaluator.measure(average)
        return Evaluation(points(measured), evaluator.score(measured))

    def final() -> dict[str, object]:
        measured = evaluator.measure(average)
        if evaluator.headline:
            run.say(f"final evaluation: {outcome(measured, evaluator.headline)}")
        return measured

    def summarise() -> dict[str, object]:
        speed = run.step / run.train_s if run.train_s > 0 else None
        return {"data": cfg.data.name, "images": run.step, "updates": trainer.updates, "images_per_s": speed}

    if not run.resuming:
        players = trainer.generator, trainer.discriminator
        z, x = (torch.zeros(1, *shape, device=device) for shape in ((cfg.latent_size,), cfg.data.shape))
        label = torch.zeros(1, dtype=torch.int64, device=device)
        twice = effects.twice_counted(cfg.optimizer.target, trainer.generator)
        for line in (*cfg.data.notes(), *player_costs(*players, z, x, label), *twice):
            run.say(line)
    if evaluator.unmeasured:
        run.say(f"FID and similar metrics are not measured: data={cfg.data.name} {evaluator.unmeasured}")
    run.start(
        total=cfg.total_images,
        unit="images",
        state={
            "generator": trainer.generator,
            "discriminator": trainer.discriminator,
            "average": trainer.average,
            "trainer": trainer,
            "stream": stream,
            "measurements": measurements,
            "generators": generators,
        },
        gradient_steps=[trainer.generator_step, trainer.discriminator_step],
        modules={"generator": trainer.generator, "discriminator": trainer.discriminator, "average": average},
        evaluate=by_first(evaluate) if evaluator.headline else None,
        draw=lambda: evaluator.draw(average) | measurements.draw(run.step >= cfg.total_images),
        probes=make_probes(cfg, trainer, measurements, device),
        summarise=summarise,
        headline=("loss/generator", "loss/discriminator", *evaluator.headline),
        rules=RULES,
        remedies=REMEDIES,
        limits=cfg.data.limits() | {"common_slope": common_slope(cfg.loss)},
        dashboard=dashboard_of(GAN),
    )
    classes = None if cfg.conditioning is None else cfg.data.num_classes
    if this_rank() == 0:
        write_interface(run.directory, interface_of(cfg.latent_size, cfg.data.shape, classes))
    compiled.begin(cfg.compile, trainer, run.say)
    steps = cfg.discriminator.steps
    while run.goes_on:
        batches = [stream.next() for _ in range(steps)]
        metrics = trainer.update(batches, progress=run.step / cfg.total_images)
        run.finish_step(run.step + steps * cfg.batch_size, metrics)
    say_saved(cfg.compile, [trainer.generator_step, trainer.discriminator_step], run.say)
    run.finish(by_first(final), points)


def with_auto_lr(cfg: TrainConfig, run: Run) -> TrainConfig:
    """The rates that `optimizer.lr=auto` stands for, one for each player whose own is not given.

    A resumed run finds its rates in the checkpoint.
    """
    if not cfg.optimizer.auto_lr or run.resuming:
        return cfg
    device = resolve_device(cfg.device)
    trainer = build_trainer(cfg, Generators(cfg.seed), device)
    begin(cfg, trainer, run)
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "learning rate"))
    real = cfg.data.draw(8 * cfg.batch_size, own, device)
    z = latents(len(real.x), cfg.latent_size, own, device)
    (generator, _), (discriminator, _) = player_objectives(trainer, real, z)

    def guided(objective: Objective, name: str) -> float:
        return auto_lr(cfg.optimizer, cfg.clipper, objective, cfg.batch_size, cfg.seed, run.say, name)

    lr = cfg.discriminator.lr
    if lr is None:
        lr = guided(discriminator, "discriminator")
    optimizer = cfg.optimizer.with_lr(guided(generator, "generator"))
    return replace(cfg, optimizer=optimizer, discriminator=replace(cfg.discriminator, lr=lr))


def build_trainer(cfg: TrainConfig, generators: Generators, device: torch.device) -> Trainer:
    """Both players from the run's own generators, their gradient steps, and the average."""
    # Made on the CPU and then moved, so that every device begins with the same numbers.
    generator, discriminator = (player.to(device) for player in _players(cfg, generators))
    if cfg.channels_last:
        for player in (generator, discriminator):
            player.to(memory_format=torch.channels_last)
    steps = {
        name: GradientStep(
            module,
            build_optimizer(cfg.optimizer, module.named_parameters(), lr),
            as_transforms(cfg.clipper),
            name=name,
            batch_size=cfg.batch_size // num_ranks(),
            precision=cfg.precision,
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
        game=cfg.game,
        scheme=cfg.update,
        schedule=cfg.schedule,
        latent_size=cfg.latent_size,
        random=generators.torch("latents"),
        micro_batches=cfg.micro_batches,
    )


def begin(cfg: TrainConfig, trainer: Trainer, run: Run) -> None:
    """Both players and the average of a new run begin with the weights of `init_from`, if there is one."""
    if cfg.init_from is not None and not run.resuming:
        players = cast(Generator, trainer.generator), cast(Discriminator, trainer.discriminator)
        take_players(cfg.init_from, players, cfg.latent_size, cfg.data.shape, statistics=cfg.init_statistics)
        trainer.average.module.load_state_dict(trainer.generator.state_dict())


def make_measurements(cfg: TrainConfig, trainer: Trainer, device: torch.device) -> Measurements:
    """The measurements of both players, on the same training and held-out samples through the whole run."""
    seed = seed_for(cfg.seed, "view")  # the word is part of the seed: another one draws other samples
    random = torch.Generator().manual_seed(seed)
    real, held_out = cfg.data.references(cfg.measurements.samples, random, device)
    in_plane = cfg.data.shape == (2,) and cfg.conditioning is None
    return Measurements(cfg.measurements, trainer, real, held_out, seed, in_plane=in_plane)


def make_probes(
    cfg: TrainConfig, trainer: Trainer, measurements: Measurements, device: torch.device
) -> Probes:
    """Probes of both players, on the same samples through the whole run and after a resumption."""
    own = torch.Generator().manual_seed(seed_for(cfg.seed, "probe"))
    real = cfg.data.draw(cfg.batch_size, own, device)
    z = latents(cfg.batch_size, cfg.latent_size, own, device)

    def objectives() -> list[tuple[Objective, GradientStep]]:
        return player_objectives(trainer, real, z)

    def others() -> dict[str, float]:
        lag, share = trainer.average.lag(), trainer.average.initial_share
        return measurements.measure() | {"average/distance": lag, "average/initial_share": share}

    return Probes(cfg.probe, cfg.seed, objectives, unit_health_of(cfg.diagnosis), others)


def make_evaluator(
    cfg: TrainConfig, seed: int, samples: int, say: Callable[[str], None] = print
) -> Evaluator:
    """The evaluator of these data; `seed` decides the latents, `say` is told why measuring takes long.

    Raises:
        ConfigError: the data or the feature network are not available.
    """
    fixed = FixedLatents(
        size=cfg.latent_size,
        seed=seed,
        num_classes=cfg.data.num_classes if cfg.conditioning is not None else None,
        truncation=cfg.evaluation.truncation,
    )
    return cfg.data.evaluator(fixed, samples, cfg.features, say)


def _players(cfg: TrainConfig, generators: Generators) -> tuple[Generator, Discriminator]:
    """Both players with the initial weights of the run's seed, on the CPU.

    Raises:
        ValueError: they should be conditional, and the data have no labels.
    """
    classes = None if cfg.conditioning is None else cfg.data.num_classes
    own = [generators.torch(name) for name in ("generator", "discriminator")]
    return make_players(cfg.network, cfg.conditioning, cfg.latent_size, cfg.data.shape, classes, *own)
