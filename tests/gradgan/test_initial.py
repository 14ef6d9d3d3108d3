"""`init_from`: both players begin with the weights of others."""

import pytest
import torch

from core.cli.job import check, execute
from core.config import ConfigError
from core.run import checkpoint
from tests.gradgan.conftest import composed

pytestmark = pytest.mark.usefixtures("blank_figures")

SHORT = [
    "data=ring",
    "total_images=512",
    "logging.eval_interval=100000",
    "logging.draw_interval=100000",
    "logging.progress=false",
    "evaluation.samples=50",
    "network.width=8",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "run"
    assert execute(composed(*SHORT), directory) == 0
    return directory


def test_both_players_and_the_average_begin_with_the_weights(trained, tmp_path):
    options = composed(*SHORT, f"init_from={trained}", "seed=5", "optimizer.lr=0")
    assert execute(options, tmp_path / "new") == 0
    before, after = (checkpoint.load(d / "checkpoints" / "last.pt") for d in (trained, tmp_path / "new"))
    for player in ("generator", "discriminator"):
        for name, weight in before[player].items():
            assert torch.equal(after[player][name], weight)
    for name, weight in before["generator"].items():
        torch.testing.assert_close(after["average"]["module"][name], weight)
    assert after["run"]["step"] == 512
    assert after["trainer"]["updates"] == before["trainer"]["updates"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["network.width=9"], r"generator\..* is \[8, .*discriminator\..* is "),
        (["latent_size=3"], "latent_size is .* there and 3 here"),
        (["conditioning=projection"], "num_classes is None there and 8 here"),
        (["data=digits", "experiment=none"], r"shape is \[2\] there and \[1, 8, 8\] here"),
    ],
)
def test_what_does_not_fit_is_listed_before_anything_is_made(trained, overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check(
            composed(
                *[o for o in SHORT if "network" not in o or "digits" not in str(overrides)],
                *overrides,
                f"init_from={trained}",
            )
        )
    assert "\n" not in str(caught.value)
