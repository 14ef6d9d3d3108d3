import io

import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load

from core.config import ConfigError
from core.export.card import text
from core.export.formats import as_bytes
from gradrl import load_policy
from gradrl.envs.observations import find
from gradrl.export import PolicyModule, card, exportable_policy
from tests.gradrl.saved_runs import BOX3, write_run
from tests.gradrl.test_policy import CASES, batch
from tests.thinned import thinned

pytestmark = pytest.mark.slow

COUNT = 1000


def given(policy, exportable, obs, state):
    """The inputs of an exported policy, by name."""
    leaves = [leaf for leaf, _ in policy.observation.leaves]
    names = [name for name in exportable.inputs if name != "state"]
    found = {
        n: np.asarray(find(obs, leaf.path), leaf.space.dtype) for n, leaf in zip(names, leaves, strict=True)
    }
    return found if state is None else {**found, "state": state}


@pytest.mark.slow
@pytest.mark.parametrize("case", thinned(CASES, 3, pytest.mark.long))
def test_onnx_and_pt2_act_as_the_policy_on_1000_observations(case, tmp_path):
    kind, observed, acted, options = CASES[case]
    write_run(tmp_path, kind, observed, acted, True, **options)
    policy, (exportable, _) = load_policy(tmp_path), exportable_policy(tmp_path, "last")
    obs, _ = batch(observed, COUNT)
    state = np.random.default_rng(0).normal(0, 1, (COUNT, policy.recurrent_state_size)).astype(np.float32)
    state = state if policy.recurrent_state_size else None
    action, after = policy(obs, state)
    inputs = given(policy, exportable, obs, state)

    onnx, said = as_bytes(exportable, "onnx")
    session = onnxruntime.InferenceSession(onnx)
    assert [i.name for i in session.get_inputs()] == list(exportable.inputs)
    assert all(name in said for name in exportable.inputs)
    assert "opset" in said
    pt2, _ = as_bytes(exportable, "pt2")
    program = torch.export.load(io.BytesIO(pt2)).module()
    for outputs in (
        session.run(None, inputs),
        [x.numpy() for x in program(*map(torch.from_numpy, inputs.values()))],
    ):
        assert outputs[0].dtype == action.dtype
        np.testing.assert_allclose(outputs[0], action, atol=1e-5, rtol=1e-5)
        if after is not None:
            np.testing.assert_allclose(outputs[1], after, atol=1e-5)


def test_an_exported_policy_takes_one_observation_too(tmp_path):
    write_run(tmp_path, normalize=True)
    session = onnxruntime.InferenceSession(as_bytes(exportable_policy(tmp_path, "last")[0], "onnx")[0])
    (action,) = session.run(None, {"observation": np.zeros((1, 3), np.float32)})
    assert action.tolist() == [load_policy(tmp_path)(np.zeros(3, np.float32))[0]]


def test_safetensors_hold_the_weights_and_the_normalisation(tmp_path):
    model, normalizer = write_run(tmp_path, normalize=True)
    exportable, _ = exportable_policy(tmp_path, "best")
    tensors = load(as_bytes(exportable, "safetensors")[0])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensors[f"policy.{name}"], tensor)
    np.testing.assert_allclose(tensors["normalize.mean"], normalizer.moments.mean, rtol=1e-6)
    fresh = PolicyModule(load_policy(tmp_path))
    fresh.load_state_dict(tensors)


def test_a_card_says_what_it_is_how_good_and_how_it_is_used(tmp_path):
    write_run(tmp_path)
    (tmp_path / "evaluation.json").write_text(
        '{"checkpoint": "best", "eval_return_mean": 100.0, "eval_return_std": 3.0, "eval_episodes": 10}'
    )
    exportable, saved = exportable_policy(tmp_path, "best")
    content, said = as_bytes(exportable, "onnx")
    shown = text(card(saved, "best", "gradrl agent=ppo", {"torch": "2"}), exportable, "onnx", said)
    # 100 +- t(0.975, 9) * 3 / sqrt(9), t = 2.262 by the tables
    assert "95 % interval 97.74 to 102.3, over 10 episodes" in shown
    assert "gradrl agent=ppo" in shown
    assert "7 environment steps" in shown
    (tmp_path / "policy.onnx").write_bytes(content)
    code = (
        shown.partition("```python\n")[2]
        .partition("```")[0]
        .replace("policy.onnx", str(tmp_path / "policy.onnx"))
    )
    namespace = {}
    exec(code, namespace)
    assert namespace["action"].shape == (1,)


def test_a_checkpoint_that_was_not_measured_has_no_score(tmp_path):
    write_run(tmp_path)
    exportable, saved = exportable_policy(tmp_path, "best")
    assert "has not been measured" in text(card(saved, "best", "", {}), exportable, "pt2", "")


class Foreign(torch.nn.Module):
    """A policy of somebody's own that can act but not be exported."""

    def __init__(self, cfg, observation, action, generator):
        super().__init__()

    def acting(self):
        from gradrl.policies.actor import acting_by

        return acting_by(
            lambda rows: np.zeros(len(rows), np.int64), lambda rows, _: np.zeros(len(rows), np.int64)
        )


def test_a_policy_that_cannot_be_exported_is_refused_by_name():
    from gradrl.policy import Policy

    policy = Policy(Foreign(None, None, None, None), BOX3, spaces.Discrete(2))
    assert policy(np.zeros(3, np.float32))[0] == 0
    with pytest.raises(ConfigError, match="Foreign"):
        PolicyModule(policy)
