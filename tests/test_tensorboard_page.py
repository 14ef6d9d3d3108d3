"""Runs of all trainers and a watched loop, as a real TensorBoard shows them in a real browser."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from core import Watch
from core.cli.job import execute
from core.cli.launch import compose_tree
from core.config import config_dir
from core.run.tensorboard import read_scalars
from tests.core.report.browser import Browser, installed
from tests.tensorboard_page import charts, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        installed() is None,
        reason="no browser: install chromium (Debian and Ubuntu: apt-get install chromium)",
    ),
]
RUNS = {
    "rl": ["env=cartpole", "experiment=none", "total_steps=1024", "num_envs=2", "agent.num_steps=32",
           "agent.num_minibatches=2", "evaluation.episodes=2", "evaluation.interval_episodes=2",
           "evaluation.num_envs=2", "evaluation.max_episode_steps=20", "logging.interval=2",
           "logging.eval_interval=256", "monitor.sample_interval=10"],
    "gan": ["data=ring", "device=cpu", "total_images=1280", "batch_size=32", "network.width=8",
            "network.depth=1", "evaluation.samples=50", "logging.interval=2", "logging.eval_interval=256",
            "monitor.sample_interval=5"],
    "descend": ["function=himmelblau", "steps=200", "pictures=[]"],
}  # fmt: skip
GRADIENT = ["Gradient norm", "Cosine", "Update ratio", "Noise scale", "Clipped"]
LAYERS = ["Gradient norm of every weight", "Update ratio of every weight"]
OF_NETWORKS = [f"{title} ({network})" for title in LAYERS for network in ("actor", "critic")]
OF_PLAYERS = [f"{title} ({player})" for title in LAYERS for player in ("generator", "discriminator")]
GAME = ["Accuracy of the discriminator", "Generator's gradient over discriminator's"]
OPEN = {
    "rl": ["Return", "Entropy", "Change of the policy", *GRADIENT, *OF_NETWORKS, "Return", "Episode length"],
    "gan": ["Modes found", *GAME, *GRADIENT, *OF_PLAYERS, "Modes found", "High quality", "Reverse KL"],
    "descend": [
        "Value of the function",
        *(title for title in GRADIENT if title != "Noise scale"),
        *LAYERS,
        "Value of the function",
        "Coordinates",
    ],
    "watch": ["Loss", *GRADIENT[:-1], *LAYERS, "Loss"],
}


def run(kind: str, directory: Path) -> None:
    """One short run of a kind."""
    if kind != "watch":
        words = [*RUNS[kind], "logging.progress=false", "logging.draw_interval=1000000"]
        assert execute(compose_tree(kind, words, [config_dir()])[0], directory) == 0
        return
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    loss, optimizer = nn.MSELoss(), torch.optim.SGD(model.parameters(), 0.1)
    with Watch(model, optimizer, loss=loss, directory=directory):
        for x in torch.randn(60, 16, 4):
            optimizer.zero_grad()
            loss(model(x), x[:, :1]).backward()
            optimizer.step()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.mark.parametrize("kind", sorted(OPEN))
def test_the_page_has_a_line_for_every_curve_of_its_open_charts(kind, browser, tmp_path):
    run(kind, tmp_path / kind)
    curves = read_scalars(tmp_path / kind)
    with serving(tmp_path) as address:
        for scheme in ("light", "dark"):
            found = charts(browser, address, 1600, 1000, scheme=scheme)
            assert [title for title, _ in found] == OPEN[kind]
            lines = dict(found)
            for quantity, title in (("gradient_norm", "Gradient norm"), ("update_ratio", "Update ratio")):
                for title_of_one in {t for t in lines if t.startswith(f"{title} of every weight")}:
                    of = (re.findall(r"\((\w+)\)$", title_of_one) or [""])[0]
                    start = f"layer/{of}." if kind == "rl" else f"{of}/layer/".lstrip("/")
                    mine = [t for t in curves if t.startswith(start) and t.endswith(f"/{quantity}")]
                    mine = [t for t in mine if "bias" not in t]
                    assert lines[title_of_one] == len(mine) > 0
            assert lines["Gradient norm"] == sum(
                bool(re.search(r"(^|/)gradient/norm$", tag)) for tag in curves
            )
            assert browser.ask("document.body.classList.contains('dark-mode')") is (scheme == "dark")
