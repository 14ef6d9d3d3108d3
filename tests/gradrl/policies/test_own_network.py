"""`policy.network._target_=`: a network of the user's own, for every agent; what is said of a wrong one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from core.cli.job import check, execute
from core.cli.resume import resume_run
from core.config import Component, ConfigError
from core.run import checkpoint
from core.run.run import Run
from core.run.tensorboard import read_scalars
from gradrl import load_policy
from gradrl.envs.observations import Observation
from gradrl.envs.spaces import action_decoder
from gradrl.export import PolicyModule
from gradrl.policies.networks import ActorCritic, MLPConfig
from gradrl.policies.q_networks import QNetworksConfig, StochasticActorCritics, StochasticConfig
from gradrl.policies.recurrent import RecurrentActorCritic, RecurrentConfig
from tests import own_networks
from tests.conftest import assert_refused
from tests.gradrl.test_train import SHORT, tree
from tests.test_resume import Killed, differences

pytestmark = pytest.mark.usefixtures("blank_figures")

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (2, 40, 50), np.uint8)
MASKED = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(4)})
OWN = ["policy.network._target_=tests.own_networks.Plain", "policy.network.width=5"]


def component(cls, **options) -> Component:
    return Component(cls, options, "policy.network")


def built(kind, config, space, action, own, seed=0, **options):
    cfg = config(network=own, **options)
    random = torch.Generator().manual_seed(seed)
    return kind(cfg, Observation(space), action_decoder(action), random)


def actor_critic(space=VECTOR, own=None, **options) -> ActorCritic:
    own = own or component(own_networks.Plain)
    return built(ActorCritic, MLPConfig, space, spaces.Discrete(4), own, **options)


def test_the_last_layer_alone_is_put_behind_it_and_layers_keep_their_names():
    model = actor_critic()
    named = dict(model.named_parameters())
    assert [*named] == [
        f"{who}.{layer}.{kind}"
        for who in ("actor", "critic")
        for layer in ("0.network.layer", "1")
        for kind in ("weight", "bias")
    ]
    assert named["actor.0.network.layer.weight"].shape == (6, 3)
    assert (named["actor.1.weight"].shape, named["critic.1.weight"].shape) == ((4, 6), (1, 6))
    rows = torch.randn(7, 3)
    features = (rows @ named["critic.0.network.layer.weight"].T + named["critic.0.network.layer.bias"]).tanh()
    by_hand = features @ named["critic.1.weight"].T + named["critic.1.bias"]
    torch.testing.assert_close(model.value(rows), by_hand[:, 0])
    torch.testing.assert_close(model.value(rows.view(7, 1, 3)), by_hand)


def test_its_weights_follow_from_the_seed_alone_and_differ_between_actor_and_critic():
    before = torch.random.get_rng_state()
    first, again, other = actor_critic(), actor_critic(), actor_critic(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [dict(m.named_parameters())["actor.0.network.layer.weight"] for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], dict(first.named_parameters())["critic.0.network.layer.weight"])


def test_it_sees_pixels_between_0_and_1_and_no_mask():
    pixels = actor_critic(IMAGE, component(own_networks.Pixels))
    images = torch.randint(0, 256, (2, 2 * 40 * 50)).to(torch.uint8)
    own, last = pixels.critic
    by_hand = last(own.network((images.double() / 255).float().view(2, 2, 40, 50)))[:, 0]
    torch.testing.assert_close(pixels.value(images), by_hand)
    masked = actor_critic(MASKED)
    rows = torch.tensor([[0.1, 0.2, 0.3, 1, 0, 0, 1], [0.1, 0.2, 0.3, 0, 1, 1, 0]])
    value = masked.value(rows)
    assert value[0] == value[1]
    assert set(np.concatenate([masked.numpy_policy().mode(rows[:1].numpy()) for _ in range(3)])) <= {0, 3}


def test_acting_in_numpy_is_the_module_itself():
    model = actor_critic()
    rows = np.random.default_rng(0).standard_normal((5, 3), np.float32)
    assert (model.numpy_policy().mode(rows) == model.mode(torch.from_numpy(rows)).numpy()).all()


def test_every_critic_of_action_values_has_one_that_sees_the_action_too():
    box = spaces.Box(-1, 1, (2,))
    own = component(own_networks.Plain)
    model = built(StochasticActorCritics, StochasticConfig, VECTOR, box, own, num_critics=2)
    first, second = model.critic.q
    assert first[0].network.layer.in_features == 3 + 2
    assert not torch.equal(first[0].network.layer.weight, second[0].network.layer.weight)
    obs, action = torch.randn(6, 3), torch.rand(6, 2)
    torch.testing.assert_close(model.critic(obs, action)[1], second(torch.cat([obs, action], -1))[:, 0])


def test_critics_of_images_share_one_and_have_hidden_layers_behind_it():
    box, own = spaces.Box(-1, 1, (2,)), component(own_networks.Pixels)
    options = {"num_critics": 2, "hidden_sizes": (7,)}
    model = built(StochasticActorCritics, StochasticConfig, IMAGE, box, own, **options)
    assert [layer.in_features for layer in model.critic.q[0] if hasattr(layer, "in_features")] == [5 + 2, 7]
    assert QNetworksConfig(num_critics=1, network=own).mlp.network is own


def test_a_recurrent_policy_has_it_before_its_lstm():
    own = component(own_networks.Plain, width=9)
    model = built(RecurrentActorCritic, RecurrentConfig, VECTOR, spaces.Discrete(4), own, recurrent_size=5)
    assert [encoder.lstm.input_size for encoder in model.recurrent] == [9, 9]
    assert model.head.actor[0].in_features == 5


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["policy.hidden_sizes=[8]", "policy.shared=true"], ("policy.hidden_sizes",)),
        (["policy.hidden_sizes=[]", "policy.shared=true"], ("policy.hidden_sizes",)),
        (["agent=ppo_recurrent", "policy.hidden_sizes=[8]", "agent.num_minibatches=2"], ()),
    ],
    ids=str,
)
def test_options_of_the_layers_that_it_replaces_are_said_to_change_nothing(words, idle):
    said = check(tree(*OWN, *words), [word.partition("=")[0] for word in words])
    reason = "has no effect here: policy.network takes the place of these layers"
    assert said == tuple(f"{option} {reason}" for option in idle)


FAULTS = {  # … is what differs between versions of torch
    "NoModule": "must be a torch.nn.Module, got NoModule",
    "NoShape": "NoShape((4,)) raised TypeError: NoShape.__init__() takes 1 positional argument but 2 were",
    "NeedsMore": "NeedsMore((4,)) raised TypeError: NeedsMore.__init__() missing 1 required positional",
    "NoForward": "forward of [3, 4] raised NotImplementedError",
    "OneNumber": "forward of [3, 4] must return [3, F] of float32, got [3] of float32",
    "Fails": "forward of [3, 4] raised RuntimeError: … mat1 and mat2 shapes cannot be multiplied",
    "Returns": "forward of [3, 4] must return a tensor [3, F], got tuple",
    "Double": "must return [3, F] of float32, got [3, 6] of float64",
    "Detached": "what forward returns has no gradient",
    "PlainList": "has no parameters to learn (layers in a plain list are not found: use nn.ModuleList)",
    "BatchNorm": "must follow from that sample alone, always alike: leave out batch norm and dropout",
    "Dropout": "must follow from that sample alone, always alike: leave out batch norm and dropout",
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_that_does_not_fit_is_refused_in_one_line(command, name):
    outcome = command("rl", f"policy.network._target_=tests.own_networks.{name}")
    assert_refused(outcome, f"policy.network=tests.own_networks.{name}", *FAULTS[name].split(" … "))


def test_the_line_says_where_in_the_users_file_it_failed(command):
    outcome = command("rl", "policy.network._target_=tests.own_networks.Fails")
    lines = Path(own_networks.__file__).read_text().splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if "torch.ones(3, 3)" in line]
    assert_refused(outcome, f"({own_networks.__file__}, line {number})")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["_target_=tests.own_networks.function"], "policy.network._target_ must name a class"),
        (["_target_=tests.own_networks.Plane"], "has no Plane; did you mean Plain?"),
        (["_target_=nowhere.Net"], "no module named nowhere (got nowhere.Net); a file of your own is found"),
        (["_target_=torch.nn.Linear"], "missing 1 required positional argument: 'out_features'"),
        (["_target_=core.gradients.GlobalNorm", "max_norm=1"], "must name a class that is no dataclass"),
        (["_target_=tests.own_networks.Plain", "depth=2"], "unknown option policy.network.depth"),
        (["width=3"], "unknown option policy.network.width"),
        (["=3"], "policy.network must be"),
    ],
)
def test_a_class_that_is_none_is_refused(command, words, fragment):
    typed = [f"policy.network{'' if word.startswith('=') else '.'}{word}" for word in words]
    assert_refused(command("rl", *typed), fragment)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("import torch\nimport torhc\n", "needs torhc, not installed ({file}, line 2)"),
        ("\n\nfirst = 1 / 0\n", "ZeroDivisionError: division by zero ({file}, line 3)"),
        ("def f(:\n", "SyntaxError: invalid syntax ({file}, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(
    command, tmp_path, monkeypatch, content, fragment
):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "broken_on_import.py"
    file.write_text(content)
    outcome = command("rl", "policy.network._target_=broken_on_import.Net")
    assert_refused(outcome, "policy.network._target_=broken_on_import.Net", fragment.format(file=file))


def test_images_beside_vectors_are_refused():
    both = spaces.Dict({"camera": IMAGE, "speed": VECTOR})
    with pytest.raises(ValueError, match=r"takes one image or one vector, and .* has 1 images and 1 vectors"):
        actor_critic(both)


EPOCHS = ["agent.num_epochs=2", "agent.num_minibatches=2"]
FEW = [word for word in SHORT if not word.startswith("agent.")]


@pytest.mark.parametrize(
    "words",
    [
        ["agent=ppo", *EPOCHS],
        ["agent=ppo", "policy.shared=true", *EPOCHS],
        ["agent=ppo", "env=pendulum", "policy.sde=true", *EPOCHS],
        ["agent=ppo_recurrent", "env=cartpole_no_velocity", *EPOCHS],
        ["agent=ppo_rnd", *EPOCHS],
        ["agent=trpo", "agent.num_minibatches=2"],
        ["agent=vtrace"],
        ["agent=sac", "env=pendulum", "agent.learning_starts=40", "agent.batch_size=8"],
        ["agent=td3", "env=pendulum", "agent.learning_starts=40", "agent.batch_size=8"],
    ],
    ids=" ".join,
)
@pytest.mark.slow
def test_every_kind_of_agent_learns_with_it_and_is_measured_layer_by_layer(tmp_path, capsys, words):
    probes = ["probe=[noise,curvature]", "probe.noise.interval=2", "probe.noise.max_samples=8",
              "probe.curvature.interval=2", "probe.curvature.lanczos_steps=3", "agent.num_steps=16",
              "logging.interval=1", "monitor.sample_interval=2", "total_steps=128"]  # fmt: skip
    assert execute(tree("experiment=none", *FEW, *words, *OWN, *probes), tmp_path / "run") == 0
    assert "left out" not in capsys.readouterr().out
    curves = read_scalars(tmp_path / "run")
    moved = {tag for tag in curves if tag.endswith("/update_ratio") and ".network.layer.weight" in tag}
    assert moved
    assert all(max(curves[tag].values()) > 0 for tag in moved)
    assert any(tag.endswith("noise/noise_scale") for tag in curves)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("own") / "run"
    assert execute(tree(*SHORT, *OWN), directory) == 0
    return directory


@pytest.mark.slow
def test_a_killed_run_of_it_continues_to_the_bit(trained, tmp_path, monkeypatch):
    options = tree(*SHORT, *OWN)
    finish_step, calls = Run.finish_step, []

    def kill(self, *arguments):
        finish_step(self, *arguments)
        calls.append(1)
        if len(calls) == 9:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish_step", kill)
        with pytest.raises(Killed):
            execute(options, tmp_path / "killed")
    assert resume_run(tmp_path / "killed", [], "rl") == 0
    assert differences(trained, tmp_path / "killed") == []


@pytest.mark.slow
def test_the_trained_policy_is_loaded_exported_and_begun_from(trained, tmp_path):
    policy = load_policy(trained)
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    assert (PolicyModule(policy)(torch.from_numpy(rows))[0].numpy() == policy(rows)[0]).all()
    begun = tree(*SHORT, *OWN, f"init_from={trained}", "optimizer.lr=0", "clipper=none")
    assert execute(begun, tmp_path / "begun") == 0
    for name, weight in checkpoint.load(trained / "checkpoints" / "last.pt")["policy"].items():
        after = checkpoint.load(tmp_path / "begun" / "checkpoints" / "last.pt")["policy"]
        assert torch.equal(after[name], weight)
    with pytest.raises(ConfigError, match=r"actor\.0\.network\.layer\.weight is \[5, 4\] there and missing"):
        execute(tree(*SHORT, f"init_from={trained}"), tmp_path / "other")


@pytest.mark.slow
def test_where_the_module_is_not_to_be_found_loading_says_so(trained, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(trained, moved)
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("tests.own_networks", "my_networks"))
    line = r"policy\.network\._target_: no module named my_networks .* found from its folder, or with that on"
    with pytest.raises(ConfigError, match=line):
        load_policy(moved)
    shutil.copy(own_networks.__file__, tmp_path / "my_networks.py")
    code = f"from gradrl import load_policy; print(load_policy({str(moved)!r})([0.0] * 4)[0])"
    environment = os.environ | {"PYTHONPATH": str(Path(own_networks.__file__).parents[1])}
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert there.stdout.strip() in ("0", "1"), there.stderr
