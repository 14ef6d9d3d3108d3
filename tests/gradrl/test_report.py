"""The report of an agent: its numbers are the summary's, and its charts are its own."""

from core.report.read import read_run
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run, page_of


def test_the_numbers_of_an_agent_come_from_its_summary(tmp_path):
    page = page_of(make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, RL_SUMMARY))
    for expected in (
        "487 ± 21.5", "mean return over 100 episodes", "3,072", "499", "1,234 a second", "5 min in all",
        "2.99.1", "abcdef012345, with uncommitted changes", "seed 7", "4·10⁻⁴",
        "median norm of 2; clipped: 25.0 % of the steps; skipped as not finite: never",
    ):  # fmt: skip
        assert expected in page


def test_what_returns_and_steps_count_stands_with_the_return(tmp_path):
    summary = RL_SUMMARY | {"remarks": ["one environment step is 4 frames"]}
    page = page_of(make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, summary))
    assert "standard deviation between episodes; one environment step is 4 frames" in page


def test_the_gradient_of_the_policy_is_drawn_with_all_baselines_and_is_no_player(tmp_path):
    names = ("no_baseline", "mean_baseline", "value_baseline", "gae")
    curves = RL_CURVES | {f"policy_gradient/variance_{name}": 10.0 for name in names}
    run = make_run(tmp_path / "run", RL_OPTIONS, curves | {"policy_gradient/norm": 0.3}, RL_SUMMARY)
    assert read_run(run).players == ("",)
    charts = {part.split("</h3>")[0].split("<h3>")[-1]: part for part in page_of(run).split("<figure")}
    assert charts["Variance of the policy gradient"].count('class="line c') == 4
    assert "policy_gradient/norm" in charts
