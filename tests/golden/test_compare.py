"""The comparison sees every difference, and a rename cannot hide one."""

import pytest

from tests.golden.__main__ import HERE, read_commands
from tests.golden.compare import compare, old_line, rename

OLD = {
    "a": {
        "run": {
            "parameters": {"policy/actor.0.weight": "01"},
            "tags": {"loss/value": "02"},
            "fields": {"summary/x": "03"},
        }
    }
}
NONE: dict = {}


def changed(**sections) -> dict:
    return {"a": {"run": OLD["a"]["run"] | sections}}


def said(new, renames=NONE, wanted=(), old=OLD) -> list[str]:
    return [str(d) for d in compare(old, new, renames, list(wanted))[0]]


def test_the_same_is_equal_and_counted():
    assert compare(OLD, OLD, NONE, []) == ([], 3)


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (changed(tags={"loss/value": "99"}), "a  run, tags: loss/value: 02 -> 99"),
        (changed(tags={}), "a  run, tags: loss/value: 02 -> absent"),
        (changed(tags={"loss/value": "02", "loss/new": "05"}), "a  run, tags: loss/new: absent -> 05"),
    ],
)
def test_a_digest_that_differs_goes_or_comes_is_named(new, line):
    assert said(new) == [line]


def test_a_renamed_digest_is_compared_with_its_old_value():
    renames = {"parameters": {"policy/actor.*": "policy/pi.*"}}
    assert said(changed(parameters={"policy/pi.0.weight": "01"}), renames) == []
    assert said(changed(parameters={"policy/pi.0.weight": "99"}), renames) == [
        "a  run, parameters: policy/pi.0.weight: 01 -> 99"
    ]


def test_a_rename_holds_for_its_own_section_only():
    assert len(said(changed(tags={"summary/x": "02"}), {"fields": {"loss/value": "summary/x"}})) == 2


def test_two_names_cannot_become_one():
    old = {"a": {"run": {"tags": {"loss/value": "02", "loss/critic": "04"}}}}
    with pytest.raises(ValueError, match="would stand for two names"):
        said(old, {"tags": {"loss/critic": "loss/value"}}, old=old)


def test_a_wanted_difference_is_listed_with_its_reason():
    wanted = [{"command": "a", "digest": "run, tags: loss/*", "reason": "a mean"}]
    differences, equal = compare(
        OLD, changed(tags={"loss/value": "99"}, fields={"summary/x": "98"}), NONE, wanted
    )
    assert [(d.digest, d.wanted) for d in differences] == [
        ("run, fields: summary/x", None),
        ("run, tags: loss/value", "a mean"),
    ]
    assert equal == 1


def test_an_error_is_a_difference_even_on_both_sides():
    error = {"a": {"error": "line 1 ended with 2"}}
    assert said(error, old=error) == ["a  error: line 1 ended with 2 -> line 1 ended with 2"]
    assert said(OLD, old=error) == ["a  error: line 1 ended with 2 -> absent"]


def test_an_exact_name_wins_and_one_pattern_counts():
    names = {"x*": "y*", "x1": "z", "y*": "w*"}
    assert [rename(name, names) for name in ("x1", "x2", "y2", "v")] == ["z", "y2", "w2", "v"]


def test_new_overrides_are_led_back():
    overrides = {"agent=ppo_kl": "agent=kl", "agent.num_steps": "agent.rollout", "probe.*": "measure.*"}
    new = "gradrl agent=kl agent.rollout=64 measure.noise.interval=4 seed=1"
    assert old_line(new, overrides) == "gradrl agent=ppo_kl agent.num_steps=64 probe.noise.interval=4 seed=1"
    with pytest.raises(ValueError, match="cannot be led back"):
        old_line(new, {"a": "c", "b": "c"})


def test_a_line_wins_over_the_common_overrides_and_a_resumed_one_takes_none(tmp_path):
    path = tmp_path / "commands.toml"
    path.write_text('[common]\np = "a=1 b=2"\n[commands]\nx = ["stopped p b=3", "p resume=run"]')
    assert read_commands(path) == {"x": ["stopped p a=1 b=3", "p resume=run"]}


def test_the_list_is_read():
    assert len(read_commands(HERE / "commands.toml")) >= 40
