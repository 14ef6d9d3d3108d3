"""suite=elsewhere: what counts as harmful, named, late and restored; and every row can run."""

import pytest

from core.cli.job import check
from core.cli.launch import compose_tree
from core.config import ConfigError, config_dir
from scripts.suites.elsewhere import Verdict, summary
from scripts.suites.elsewhere_faults import FAULTS, OTHERS, SETTINGS, half
from tests.thinned import thinned

FIRST = {"name": "a", "kinds": ["reward"], "remedy": ["x=1"]}
REFUSED = {"hinge_bytes": r"images in \[-1, 1\]; got 0 to 255"}  # by a check that is younger than the table
OTHER = {"name": "b", "kinds": ["batch"], "remedy": []}


def verdict(fault, *, lost=1.0, at=0.1, right=FIRST, top=FIRST, restored=None):
    return Verdict(fault=fault, seed=1, lost=lost, at=at, right=right, top=top, restored=restored)


@pytest.mark.parametrize("name", thinned(sorted(FAULTS)))
def test_every_fault_is_a_configuration_that_can_run_or_is_refused(name):
    setting = SETTINGS[FAULTS[name].setting]
    tree, _, _ = compose_tree(setting.kind, [*setting.overrides, *FAULTS[name].overrides], [config_dir()])
    if name in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[name]):
            check(tree)
    else:
        check(tree)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_other_healthy_run_is_a_configuration_that_can_run(name):
    tree, _, _ = compose_tree(OTHERS[name].kind, list(OTHERS[name].overrides), [config_dir()])
    check(tree)


def test_the_halves_take_turns():
    assert [half(name) for name in list(FAULTS)[:3]] == ["calibration", "held_out", "calibration"]
    assert sum(half(name) == "held_out" for name in FAULTS) == len(FAULTS) / 2


def test_only_what_does_harm_counts_and_is_named_in_time_late_or_below():
    verdicts = [
        verdict("cells_reward_sign", restored=0.5),
        verdict("mass_reward_constant", at=0.21, restored=0.49),
        verdict("acrobot_zeros", top=OTHER, restored=1.0),
        verdict("cells_entropy", lost=0.2),
        verdict("hinge_bytes", at=None, right=None, top=OTHER),
        verdict("mass_entropy"),
    ]
    lines = summary(verdicts, [("a",), (), (), ()])
    assert lines[0] == (
        "calibration, all: 4 harmful; named in time 2 of 4 (50%), late 1, on top 2 of 4 (50%); "
        "remedies that restore half 2 of 3 (67%)"
    )
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "calibration, agents",
        "calibration, games",
        "held_out, all",
        "held_out, agents",
        "healthy runs with a warning",
    ]
    assert lines[-1] == "healthy runs with a warning: 1 of 4 (25%)"
