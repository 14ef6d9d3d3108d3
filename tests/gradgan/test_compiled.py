"""`compile=update` of both players: the numbers of eager steps, in float64; what stays eager or is refused.

Recording decides the numbers, and TorchInductor takes minutes for all of these graphs: most tests run what
was recorded as it is; those marked slow compile it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.cli.job import execute
from core.cli.launch import compose_tree
from core.cli.resume import resume_run
from core.config import ConfigError, config_dir
from core.gradients import GlobalNorm, GradientStep, PCGrad
from core.optim.schemes.joint import Consensus, SymplecticAdjustment
from core.optim.schemes.schemes import Alternating, Extragradient, Scheme, Simultaneous
from core.optim.schemes.stateful import Lookahead, NegativeMomentum, Optimistic
from gradgan import compiled
from gradgan.augment.ada import ADA
from gradgan.augment.diffaugment import DiffAugment
from gradgan.batch import Batch
from gradgan.game.game import Game
from gradgan.game.players import make_players
from gradgan.losses import Loss
from gradgan.losses.hinge import Hinge
from gradgan.losses.least_squares import LeastSquares
from gradgan.losses.minimax import Minimax
from gradgan.losses.nonsaturating import NonSaturating
from gradgan.losses.relativistic import Relativistic
from gradgan.losses.relativistic_average import RelativisticAverage
from gradgan.losses.wasserstein import Wasserstein
from gradgan.networks import Network
from gradgan.networks.conditioning import Auxiliary, Conditioning, Projection
from gradgan.networks.dcgan import DCGAN
from gradgan.networks.mlp import MLP
from gradgan.networks.r3gan import R3GAN
from gradgan.networks.resnet import ResNet
from gradgan.networks.stylegan2 import StyleGAN2
from gradgan.penalties import Penalty
from gradgan.penalties.one_centred import DRAGAN, WGANGP
from gradgan.penalties.zero_centred import R1, R1R2, R2
from gradgan.regularizers import Regularizer
from gradgan.regularizers.consistency import Consistency
from gradgan.regularizers.lecam import LeCam
from gradgan.regularizers.weight_clipping import WeightClipping
from gradgan.trainer import Trainer
from tests.gradgan.playing import LATENT, in_float64, make_trainer, random
from tests.gradgan.test_own_parts import POINTS
from tests.test_resume import differences, dying

pytestmark = [pytest.mark.slow, pytest.mark.long]  # it compiles for a minute

SHAPE = (1, 8, 8)
UPDATES, CLASSES = 4, 3
SMALL = MLP(width=8, depth=2, slope=0.2, spectral_norm=False)
PLAIN = Game(loss=NonSaturating())
LAZY = {"gamma": 1.0, "final": 0.1, "interval": 2}
WAITS = "compile=update: the first update waits for its graph, up to a minute where no cache has it"
LOSSES: list[Loss] = [
    Minimax(), NonSaturating(), LeastSquares(), Hinge(), Wasserstein(), RelativisticAverage(), Relativistic(),
]  # fmt: skip
PENALTIES: list[Penalty] = [
    R1(**LAZY),
    R2(**LAZY),
    R1R2(**LAZY),
    WGANGP(weight=10.0, interval=2),
    DRAGAN(weight=10.0, spread=0.5, interval=1),
]
REGULARIZERS: dict[str, Regularizer] = {
    "lecam": LeCam(weight=0.3, decay=0.9, warm_up=2),
    "consistency": Consistency(weight=10.0, balanced=True, shift=2, mirror=True, interval=2),
    "weight_clipping": WeightClipping(bound=0.05),
}
AUGMENTS = [
    DiffAugment(policy=("colour", "translation", "cutout")),
    ADA(initial=0.8, target=0.6, speed=1000.0),
]
NETWORKS: list[Network] = [
    replace(SMALL, spectral_norm=True),
    DCGAN(width=8, max_width=16, batch_norm=True, spectral_norm=False),
    ResNet(width=8, max_width=8, batch_norm=True, spectral_norm=True),
    StyleGAN2(width=8, max_width=8, style_size=8, mapping_depth=2, mapping_lr=0.01, spectral_norm=False),
    R3GAN(width=8, max_width=8, blocks=1, expansion=2, group_size=8, spectral_norm=False),
]
SCHEMES: list[Scheme] = [
    Alternating(),
    Simultaneous(),
    Extragradient(),
    Optimistic(),
    NegativeMomentum(beta=-0.5),
    Lookahead(k=2, alpha=0.5, inner=Simultaneous()),
]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were recorded, without TorchInductor."""
    import torch._inductor

    monkeypatch.setattr(torch._inductor, "standalone_compile", lambda graph, *_, **__: graph)


def named(part: object) -> str:
    return type(part).__name__


def pair_of(
    network: Network, game: Game, scheme: Scheme, labels: Conditioning | None, **options: Any
) -> Trainer:
    players = make_players(network, labels, LATENT, SHAPE, labels and CLASSES, random(1), random(2))
    trainer = make_trainer(in_float64(players), game, scheme, lr=0.01, **options)
    trainer.augmentation = trainer.augmentation.double()
    return trainer


def assert_same(
    network: Network,
    game: Game,
    scheme: Scheme = Alternating(),  # noqa: B008  # frozen
    labels: Conditioning | None = None,
    steps: int = 1,
) -> Trainer:
    """Train eagerly and with graphs; parameters, buffers, metrics and average are the same."""
    ends, said = [], []
    for mode in ("off", "update"):
        trainer = pair_of(network, game, scheme, labels)
        compiled.begin(mode, trainer, said.append)
        metrics = {}
        for i in range(UPDATES):
            x = [torch.rand(4, *SHAPE, generator=random(7 * i + j)).double() * 2 - 1 for j in range(steps)]
            batches = [Batch(part, torch.arange(4) % CLASSES if labels else None) for part in x]
            metrics = trainer.update(batches, progress=i / UPDATES)
        kept = trainer.generator, trainer.discriminator, trainer.average.module
        state = {
            f"{j}.{name}": value for j, part in enumerate(kept) for name, value in part.state_dict().items()
        }
        ends.append(state | metrics | {"p": trainer.augmentation, "latents": trainer.random.get_state()})
    assert said == [WAITS]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-7, atol=1e-9, msg=name)
    return trainer


def calls(trainer: Trainer) -> list[int]:
    found = trainer.discriminator_step.compiled, trainer.generator_step.compiled
    return [graph.calls for each in found if each is not None for graph in each.graphs]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_every_loss(loss: Loss) -> None:
    trainer = assert_same(SMALL, Game(loss=loss))
    assert calls(trainer) == [UPDATES, UPDATES]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_every_penalty_where_it_is_due(penalty: Penalty) -> None:
    trainer = assert_same(SMALL, Game(loss=NonSaturating(), penalty=penalty))
    due = UPDATES // 2 if not penalty.due(1) else UPDATES
    assert calls(trainer) == [due, *([UPDATES - due] if due < UPDATES else []), UPDATES]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    "names",
    [["lecam"], ["consistency"], ["weight_clipping"], pytest.param([*REGULARIZERS], marks=pytest.mark.slow)],
    ids="+".join,
)
def test_every_regularizer(names: Sequence[str]) -> None:
    assert_same(SMALL, Game(loss=Hinge(), regularizers={name: REGULARIZERS[name] for name in names}))


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("augment", AUGMENTS, ids=named)
@pytest.mark.parametrize(
    "labels", [Projection(), pytest.param(Auxiliary(weight=1.0), marks=pytest.mark.slow)], ids=named
)
def test_augmentation_noise_and_labels(augment: Any, labels: Conditioning) -> None:
    auxiliary = labels if isinstance(labels, Auxiliary) else None
    game = Game(loss=NonSaturating(), auxiliary=auxiliary, augment=augment, instance_noise=0.1)
    trainer = assert_same(SMALL, game, labels=labels)
    assert calls(trainer) == [UPDATES, UPDATES]


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    "network",
    [pytest.param(n, marks=[pytest.mark.slow] * isinstance(n, ResNet | StyleGAN2)) for n in NETWORKS],
    ids=named,
)
def test_every_network_with_its_running_statistics(network: Network) -> None:
    assert_same(network, Game(loss=Relativistic(), penalty=R1(gamma=1.0, final=1.0, interval=1)), steps=2)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_every_scheme_that_hands_over_the_losses(scheme: Scheme) -> None:
    trainer = assert_same(SMALL, PLAIN, scheme)
    times = 2 if isinstance(scheme, Extragradient) else 1
    assert calls(trainer) == [times * UPDATES, times * UPDATES]


@pytest.mark.usefixtures("recorded")
def test_half_precision() -> None:
    ends, said = [], []
    for mode in ("off", "update"):
        players = make_players(NETWORKS[1], None, LATENT, SHAPE, None, random(1), random(2))
        trainer = make_trainer(
            players, Game(loss=NonSaturating(), penalty=R1(**LAZY)), Alternating(), lr=0.01
        )
        steps = trainer.generator_step, trainer.discriminator_step
        for step in steps:
            step.precision = "bfloat16"
        compiled.begin(mode, trainer, said.append)
        for i in range(UPDATES):
            real = torch.rand(4, *SHAPE, generator=random(i)) * 2 - 1
            trainer.update([Batch(real, None)], progress=i / UPDATES)
        assert mode == "off" or calls(trainer) == [2, 2, UPDATES]
        ends.append([p.detach() for player in players for p in player.parameters()])
    assert said == [WAITS]
    for p, q in zip(*ends, strict=True):
        # A gradient of 1 that is rounded the other way in one update.
        torch.testing.assert_close(p, q, rtol=0, atol=0.01 * 2**-8)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, NETWORKS[2]], ids=named)
def test_the_compiled_graphs_too(network: Network) -> None:
    penalty = WGANGP(weight=10.0, interval=2)
    trainer = assert_same(network, Game(loss=NonSaturating(), penalty=penalty, instance_noise=0.1))
    assert calls(trainer) == [UPDATES // 2, UPDATES // 2, UPDATES]


@pytest.mark.parametrize(
    ("scheme", "options", "game", "lines"),
    [
        (Consensus(gamma=0.1), {}, PLAIN, ["both steps run eagerly: update Consensus differentiates"]),
        (
            SymplecticAdjustment(gamma=0.1, align=False), {}, PLAIN,
            ["both steps run eagerly: update SymplecticAdjustment differentiates"],
        ),
        (
            Alternating(), {"micro_batches": 2}, PLAIN,
            ["both steps run eagerly: the gradient of micro_batches=2"],
        ),
        (
            Alternating(), {}, Game(loss=NonSaturating(), top_k=0.5),
            ["the step of generator runs eagerly: generator.top_k", WAITS.removeprefix("compile=update: ")],
        ),
    ],
    ids=["consensus", "symplectic", "micro_batches", "top_k"],
)  # fmt: skip
@pytest.mark.usefixtures("recorded")
def test_what_runs_eagerly_is_said_once_and_trains(
    scheme: Scheme, options: dict[str, Any], game: Game, lines: list[str]
) -> None:
    trainer, said = pair_of(SMALL, game, scheme, None, **options), []
    eager = pair_of(SMALL, game, scheme, None, **options)
    compiled.begin("update", trainer, said.append)
    for each in (trainer, eager):
        for i in range(2):
            real = torch.rand(4, *SHAPE, generator=random(i)).double()
            each.update([Batch(real, None)], progress=i / 2)
    assert len(said) == len(lines)
    assert all(f"compile=update: {line}" in heard for line, heard in zip(lines, said, strict=True))
    for p, q in zip(trainer.generator.parameters(), eager.generator.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_lbfgs_and_pcgrad_are_eager_and_clipping_is_in_the_graph(recorded: None) -> None:
    trainer, said = pair_of(SMALL, Game(loss=NonSaturating(), penalty=R1(**LAZY)), Alternating(), None), []
    g, d = trainer.generator, trainer.discriminator
    trainer.generator_step = GradientStep(g, torch.optim.LBFGS(g.parameters()), name="generator")
    optimizer = torch.optim.SGD(d.parameters(), lr=0.1)
    trainer.discriminator_step = GradientStep(d, optimizer, [PCGrad()], name="discriminator")
    compiled.begin("update", trainer, said.append)
    assert said == [
        "compile=update: the step of generator runs eagerly: LBFGS evaluates the loss again",
        "compile=update: the step of discriminator runs eagerly: PCGrad takes the gradient of every loss",
    ]
    assert trainer.recordable is None
    clipped = GradientStep(d, torch.optim.SGD(d.parameters(), lr=0.1), [GlobalNorm(max_norm=1e-3)])
    trainer.discriminator_step = clipped
    compiled.begin("update", trainer, said.append)
    assert clipped.compiled is not None
    assert clipped.compiled.transforms
    trainer.update([Batch(torch.rand(4, *SHAPE).double(), None)], progress=0.0)
    norm = torch.stack([p.grad.square().sum() for p in d.parameters() if p.grad is not None]).sum().sqrt()
    torch.testing.assert_close(norm.item(), 1e-3, rtol=1e-6, atol=0)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_a_compiled_run_that_dies_and_is_resumed_ends_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*POINTS, "penalty=wgan_gp", "penalty.interval=2", "compile=update"]
    words += ["logging.checkpoint_interval=96"]
    options = compose_tree("gan", words, [config_dir()])[0]
    assert execute(options, tmp_path / "whole") == 0
    assert "compile=update: 3 graphs compiled in" in capsys.readouterr().out
    with dying(5):
        execute(options, tmp_path / "run")
    with pytest.raises(ConfigError, match="compile=off cannot change while resuming"):
        resume_run(tmp_path / "run", ["compile=off"], "gan")
    assert resume_run(tmp_path / "run", [], "gan") == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss={_target_: tests.own_parts.PlainMargin}"], "off with loss of one's own"),
        (["compile=all"], "compile must be one of off, update"),
    ],
)
def test_what_is_refused(words: list[str], message: str, command: Any) -> None:
    outcome = command("gan", *POINTS, "compile=update", *words)
    assert outcome.status == 2
    assert message in outcome.err


def test_without_a_compiler_there_is_one_line(command: Any) -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        outcome = command("gan", *POINTS, "compile=update")
    assert outcome.status == 2
    assert "compile=update needs a C++ compiler" in outcome.err
    assert outcome.made == []
