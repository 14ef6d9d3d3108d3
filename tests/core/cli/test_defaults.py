"""What the options would be had no value been typed."""

from omegaconf import OmegaConf

from core.cli.defaults import defaults
from core.config import config_dir


def note(directory, config_name: str, overrides: list[str]) -> None:
    (directory / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(overrides), directory / ".hydra" / "overrides.yaml")
    sources = [{"path": str(config_dir()), "schema": "file", "provider": "main"}]
    hydra = {"hydra": {"job": {"config_name": config_name}, "runtime": {"config_sources": sources}}}
    OmegaConf.save(OmegaConf.create(hydra), directory / ".hydra" / "hydra.yaml")


def test_choices_stay_and_values_go_back_to_the_experiments(tmp_path):
    overrides = ["agent=ppo", "env=cartpole", "optimizer=rmsprop", "optimizer.lr=0.1", "agent.num_epochs=99"]
    note(tmp_path, "rl", overrides)
    found = defaults(tmp_path)
    assert found["agent.num_epochs"] == 20  # of conf/experiment/rl/ppo_cartpole.yaml
    assert found["optimizer._target_"] == "torch.optim.RMSprop"
    assert found["optimizer.lr"] == 1e-3


def test_what_was_tuned_for_a_class_is_no_default_of_another_that_was_typed(tmp_path):
    note(tmp_path, "rl", ["optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "agent.num_epochs=99"])
    found = defaults(tmp_path)
    assert [option for option in found if option.startswith("optimizer")] == ["optimizer._target_"]
    assert (found["optimizer._target_"], found["agent.num_epochs"]) == ("torch.optim.Adam", 20)


def test_an_environment_by_its_id_has_defaults_too(tmp_path):
    note(tmp_path, "rl", ["agent=ppo", "env=by_id", "env.id=Reacher-v5", "agent.gamma=0.5"])
    assert defaults(tmp_path)["agent.gamma"] == 0.99


def test_where_nothing_was_noted_there_is_nothing(tmp_path):
    assert defaults(tmp_path) == {}
    note(tmp_path, "gone", [])
    assert defaults(tmp_path) == {}
