"""What `compile=update` refuses before anything is made, and what it says at the end."""

import pytest
import torch
from torch import nn

from core.config import ConfigError
from core.gradients import GradientStep, PCGrad
from core.run.compiled import begin_compiling, check_compile, say_saved


def test_without_a_compiler_compiling_is_refused_and_training_without_is_not():
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        with pytest.raises(ConfigError, match=r"^compile=update needs a C\+\+ compiler, .* CXX; compile=off"):
            check_compile("update", torch.device("cpu"))
        check_compile("off", torch.device("cpu"))
    check_compile("update", torch.device("cpu"))  # a compiler is there again


def test_a_variable_that_names_no_compiler_is_what_is_said_to_be_wrong(monkeypatch):
    from torch._inductor import config

    monkeypatch.setenv("CXX", "/nope/g++")
    message = r"variable CXX='/nope/g\+\+' names none that works: name another"
    with config.patch({"cpp.cxx": ("/nope/g++",)}), pytest.raises(ConfigError, match=message):
        check_compile("update", torch.device("cpu"))


def test_a_cache_that_cannot_be_written_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"TORCHINDUCTOR_CACHE_DIR=.*/file cannot be written: File exists"):
        check_compile("update", torch.device("cpu"))
    check_compile("off", torch.device("cpu"))


def test_a_device_without_a_compiler_is_refused():
    with pytest.raises(ConfigError, match="compile=update works on cpu and cuda, not on mps"):
        check_compile("update", torch.device("mps"))


def test_a_step_that_cannot_be_compiled_is_named_and_nothing_is_said_of_graphs():
    net, said = nn.Linear(2, 1), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    step = GradientStep(net, optimizer, [PCGrad()], name="critic")
    begin_compiling("update", [step], said.append)
    say_saved("update", [step], said.append)
    assert said == [
        "compile=update: the step of critic runs eagerly: PCGrad takes the gradient of every loss"
    ]
    assert step.compiled is None
    begin_compiling("off", [GradientStep(net, optimizer)], pytest.fail)
    begin_compiling("update", [GradientStep(net, optimizer)], said.append)
    assert said[1:] == [
        "compile=update: the first update waits for its graph, up to a minute where no cache has it"
    ]
