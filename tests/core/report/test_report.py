"""The report: its numbers are the summary's, its curves have the points they should, it needs no network."""

import importlib
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from core.config import ConfigError
from core.report.cards import bar_width
from core.report.curves import BUCKETS, Series, draw, log_ticks, nice_ticks, smooth
from core.report.page import ReportConfig, write_page
from core.report.pictures import picture_size
from core.report.read import read_run
from core.report.record import Kind
from core.run.directory import Lock
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run, page_of


@pytest.fixture
def agent_run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, RL_SUMMARY)


UNKNOWN_OPTIONS = """
_target_: somebody.train.Config
optimizer: {_target_: torch.optim.SGD, lr: 0.5}
seed: 3
"""


def test_a_run_of_an_unknown_trainer_has_its_gradients_layers_numbers_and_curves(tmp_path):
    curves = RL_CURVES | {"noise/norm_test": 0.5, "curvature/sharpness": 30.0, "accuracy/test": 0.75}
    summary = {
        "status": "finished", "unit": "big batches", "big_batches": 4100, "seed": 3, "updates": 400,
        "wall_s": 60.0, "accuracy": 0.75, "done": True,
    }  # fmt: skip
    run = make_run(tmp_path / "a run", UNKNOWN_OPTIONS, curves, summary)
    page = write_page(run).read_text(encoding="utf-8")
    assert "<h1>a run</h1>" in page
    assert "<b>0.750</b><span>accuracy</span>" in page
    assert "<b>4,100</b><span>big batches</span><small>400 gradient steps, 60 s in all</small>" in page
    assert "<span>seed</span>" not in page
    assert "<span>done</span>" not in page
    assert page.count("<span>big batches</span>") == 1
    sections = dict(re.findall(r'<section id="([\w-]+)">(.*?)</section>', page, re.DOTALL))
    titles = {name: re.findall(r"<h3>(.*?)</h3>", section) for name, section in sections.items()}
    assert titles["gradients"] == ["Gradient norm", "Clipped"]
    assert titles["noise"] == ["Is the batch large enough?"]
    assert titles["curvature"] == ["Sharpness"]
    assert titles["all-other-curves"] == ["accuracy/test", "episode/return"]
    assert "actor.<wbr>0.<wbr>weight" in sections["layer-by-layer"]
    assert "<code>somebody</code>" in sections["what-ran"]
    assert list(sections)[-1] == "what-ran"


def test_runs_of_an_unknown_trainer_are_shown_side_by_side(tmp_path):
    summary = {"status": "finished", "accuracy": 0.75}
    first, second = (
        make_run(tmp_path / name, UNKNOWN_OPTIONS.replace("0.5", lr), RL_CURVES, summary)
        for name, lr in (("a", "0.5"), ("b", "0.25"))
    )
    page = write_page(first, second).read_text(encoding="utf-8")
    assert "<h1>a against b</h1>" in page
    assert "Different tasks" not in page
    assert page.count("<td>0.750</td>") == 2
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert "<h1>2 runs</h1>" in page
    assert '<th scope="row">optimizer.lr</th><td>0.5</td><td>0.25</td>' in page


def test_a_page_is_written_without_torch():
    lines = (
        "import sys", "from core.report.page import write_page", "from core.scripts.report import kind_of",
        "targets = ('gradrl.x', 'gradgan.x', 'core.descend.x', 'core.watch.x', 'somebody.x')",
        "kinds = [kind_of(target).name for target in targets]",
        "print(*kinds, 'torch' in sys.modules, 'matplotlib' in sys.modules, sep=', ')",
    )  # fmt: skip
    output = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert output.stdout == "Reinforcement learning, GAN, Descent, Watched loop, Run, False, False\n"


def test_players_that_a_kind_does_not_name_have_colours_of_their_own(tmp_path):
    curves = {f"{player}/gradient/norm": 1.0 for player in ("z", "critic", "actor")}
    run = make_run(tmp_path / "run", UNKNOWN_OPTIONS, curves, None)
    assert read_run(run).players == ("actor", "critic", "z")
    assert read_run(run, lambda _: Kind(players=("critic", "no", "actor"))).players == (
        "critic",
        "actor",
        "z",
    )
    chart = (
        write_page(run).read_text(encoding="utf-8").split('id="chart-gradient-norm"')[1].split("</figure>")[0]
    )
    assert [chart.count(f'class="line c{i}"') for i in (1, 2, 3, 4)] == [1, 1, 1, 0]


def test_the_page_fetches_nothing_and_runs_nothing(agent_run):
    page = page_of(agent_run).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert set(re.findall(r'src="([a-z]+:[a-z]+/[a-z]+)', page)) == {"data:image/png"}
    assert "@import" not in page
    assert "url(" not in page


def test_every_element_is_closed(agent_run):
    class Balance(HTMLParser):
        open_: list[str]

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "source", "wbr"):
                self.open_.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open_.pop() == tag

    parser = Balance()
    parser.open_ = []
    parser.feed(page_of(agent_run))
    assert parser.open_ == []


def test_what_a_run_says_is_escaped(tmp_path):
    curves = {"evil/<script>alert(1)</script>": 1.0, "layer/<img>/gradient_norm": 1.0, "gradient/norm": 1.0}
    page = page_of(make_run(tmp_path / "run", RL_OPTIONS, curves, RL_SUMMARY | {"device": "<i>cpu"}))
    assert "Cart&lt;b&gt;Pole&lt;/b&gt;-v1" in page
    assert "evil/&lt;script&gt;" in page
    assert "&lt;i&gt;cpu" in page
    for raw in ("<script>", "<b>Pole", "<img>", "<i>cpu"):
        assert raw not in page


def test_an_interrupted_run_says_so_and_shows_what_it_has(tmp_path):
    run = make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, None, points=12)
    page = page_of(run)
    assert "not finished" in page
    assert "1,200 of 4,000 environment steps" in page
    assert f"resume={run}" in page
    assert "last mean return, training episodes" in page


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_a_run_that_ended_early_says_how(tmp_path, status):
    summary = {
        "status": status,
        "unit": "env steps",
        "env_steps": 1250,
        "wall_s": 3.0,
        "solved_at_env_steps": None,
    }
    page = page_of(make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, summary, points=12))
    assert f'<span class="status {status}">{status}' in page
    assert "1,250 of 4,000 environment steps" in page
    assert "not solved" in page


def test_a_resumed_run_does_not_show_the_summary_of_its_earlier_end(tmp_path):
    run = make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES, RL_SUMMARY | {"status": "stopped"})
    lock = Lock(run)
    try:
        page = page_of(run)
    finally:
        lock.release()
    assert "still running" in page
    assert "487 ±" not in page


def test_a_run_killed_before_its_first_point_still_gets_a_page(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(RL_OPTIONS)
    (tmp_path / ".hydra" / "overrides.yaml").write_text("[]")
    page = page_of(tmp_path)
    assert "not finished" in page
    assert "<svg" not in page


def test_no_run_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="there is no such directory"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "run.py").touch()
    with pytest.raises(ConfigError, match=r"run=.*run\.py: a file, and a run is a directory"):
        read_run(tmp_path / "run.py")
    with pytest.raises(ConfigError, match="there is no run in"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="run must be a run directory: type run=DIR"):
        ReportConfig(run=None)


def test_a_damaged_summary_is_named(agent_run):
    (agent_run / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match=r"summary.json is damaged"):
        read_run(agent_run)
    (agent_run / "summary.json").write_text(json.dumps({"status": "finished", "return": 10**400}))
    with pytest.raises(ConfigError, match=r"summary.json is damaged: an integer of 401 digits"):
        read_run(agent_run)
    (agent_run / "summary.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigError, match="holds no summary"):
        read_run(agent_run)


def test_a_folder_in_place_of_a_dark_picture_is_none(agent_run):
    picture = next((agent_run / "media").glob("*.png"))
    (agent_run / "media" / "dark" / picture.name).mkdir(parents=True)
    assert "What was reached" in write_page(agent_run).read_text(encoding="utf-8")


def test_options_that_are_cut_off_and_damaged_events_are_named_and_the_page_is_made(agent_run, capsys):
    read_run(agent_run)
    assert capsys.readouterr().err == ""
    path = agent_run / "config.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("policy:")])
    (agent_run / "events.out.tfevents.9.host.2.0").write_bytes(bytes(99))
    page_of(agent_run)
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {path} is cut off or of another version: it lacks optimizer, clipper, policy, env, agent",
        f"warning: {agent_run}/events.out.tfevents.9.host.2.0 is damaged: the curves lack what follows",
    ]


def test_layers_stand_in_the_order_of_the_network(tmp_path):
    names = ["net.10.weight", "net.2.bias", "net.2.weight", "net.0.weight"]
    curves = {f"layer/{name}/gradient_norm": 1.0 for name in names}
    record = read_run(make_run(tmp_path / "run", RL_OPTIONS, curves | {"gradient/norm": 1.0}, None))
    assert record.layers("") == [
        (name, 1.0, None) for name in ("net.0.weight", "net.2.weight", "net.2.bias", "net.10.weight")
    ]


def coordinates(svg: str, classes: str) -> np.ndarray:
    """All corners of the polylines of one class, [n, 2]."""
    corners = " ".join(re.findall(rf'<polyline class="{classes}" points="([^"]*)"', svg)).split()
    return np.array([[float(v) for v in corner.split(",")] for corner in corners])


def test_a_short_curve_has_a_corner_and_a_dot_for_every_point():
    svg = draw([Series("loss", {i: i * i for i in range(9)})], title="loss")
    assert coordinates(svg, "line c1").shape == (9, 2)
    assert svg.count("<circle") == 9
    assert "raw" not in svg


def test_a_long_curve_is_drawn_raw_and_averaged():
    svg = draw([Series("loss", {i: float(i % 7) for i in range(100)})], title="loss")
    raw, line = coordinates(svg, "raw c1"), coordinates(svg, "line c1")
    assert len(raw) == len(line) == 100
    assert np.ptp(line[5:-5, 1]) < np.ptp(raw[:, 1]) / 2


def test_a_very_long_curve_keeps_its_one_spike():
    points = dict.fromkeys(range(5000), 1.0) | {2345: 50.0}
    raw = coordinates(draw([Series("loss", points)], title="loss"), "raw c1")
    assert BUCKETS < len(raw) <= 2 * BUCKETS
    assert (raw[:, 1] < 30).sum() == 1


def test_positions_on_a_logarithmic_axis_are_those_of_the_exponents():
    ys = coordinates(draw([Series("n", {0: 1e-3, 1: 1e-1, 2: 1e1})], title="n", log=True), "line c1")[:, 1]
    assert ys[0] > ys[1] > ys[2]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)


def test_nan_infinity_and_a_zero_on_a_logarithmic_axis_leave_gaps():
    points = {0: 1.0, 1: 2.0, 2: math.nan, 3: 3.0, 4: math.inf, 5: 0.0, 6: 2.0, 7: 1.0}
    svg = draw([Series("n", points)], title="n", log=True)
    assert svg.count("<polyline") == 2
    assert svg.count('r="2.6"') == 5
    assert svg.count('r="1.6"') == 1  # 3.0 stands between two gaps
    assert "nan" not in svg
    assert draw([Series("n", {0: math.nan})], title="n") == ""


@pytest.mark.parametrize("kind", [{}, {"dashed": True}, {"second": True}])
@pytest.mark.parametrize("length", [20, 60, 2 * BUCKETS])
def test_a_point_between_two_gaps_is_a_dot(length, kind):
    points = {i: 0.5 + 0.01 * (i % 7) if i % 2 else math.nan for i in range(length)}
    svg = draw([Series("n", points, **kind)], title="n")
    at = {float(x) for x in re.findall(r'<circle class="dot c1[^"]*" cx="([^"]*)"', svg)}
    assert "<polyline" not in svg
    assert len(at) == length // 2


def test_two_heights_never_bear_one_label():
    for low, step in ((1000.1, 0.04), (-1234.9, 0.04), (0.99991, 4e-6), (123450.0, 0.5), (1e7, 0.1)):
        svg = draw([Series("n", {i: low + step * i for i in range(20)})], title="n")
        found = re.findall(r'<text class="y" x="([^"]*)"[^>]*>([^<]*)</text>', svg)
        assert len({label for _, label in found}) == len(found) > 2
        assert all(6.5 * len(label) < float(right) for right, label in found)  # inside of the picture


def test_a_constant_and_a_single_point_can_be_drawn():
    for points in ({5: 0.0}, {0: 3.0, 1: 3.0}, {0: -2.0}):
        for value in coordinates(draw([Series("n", points)], title="n"), "line c1").flat:
            assert 0 <= value <= 400


def test_the_moving_average_is_the_mean_of_what_is_there():
    values = np.array([1.0, 2.0, math.nan, 4.0, 9.0])
    np.testing.assert_allclose(smooth(values, 1), [1.5, 1.5, math.nan, 6.5, 6.5])
    np.testing.assert_allclose(smooth(np.array([2.0, 4.0]), 5), [3.0, 3.0])


def test_ticks_are_few_and_round():
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(-130, 480) == [0, 200, 400]
    assert log_ticks(-3.2, 1.1) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert log_ticks(-0.3, 0.4) == pytest.approx([1, 2])
    assert len(log_ticks(-30, 10)) <= 6


def test_bars_are_logarithmic():
    assert [bar_width(v, (-4.0, 0.0)) for v in (1e-4, 1e-2, 1.0)] == pytest.approx([4, 52, 100])
    assert bar_width(3.0, (0.5, 0.5)) == 100


def test_the_size_of_a_picture_is_read_from_its_head(agent_run):
    assert picture_size((agent_run / "media" / "gradient_heat_map.png").read_bytes()) == (10, 6)
    assert picture_size(b"GIF89a" + bytes([44, 1, 200, 0])) == (300, 200)
    assert picture_size(b"") == (0, 0)


def test_the_command_writes_the_page_and_nothing_else(agent_run, tmp_path, monkeypatch, capsys):
    before = sorted(p.name for p in agent_run.iterdir())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def call(*overrides: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["report.py", *overrides])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module("core.scripts.report").main()
        return ended.value.code, *capsys.readouterr()

    status, out, err = call(f"run={agent_run}")
    assert (status, out.splitlines()[0], err) == (0, f"report: {agent_run / 'report.html'}", "")
    assert sorted(p.name for p in agent_run.iterdir()) == sorted([*before, "report.html"])
    for overrides, line in (
        ([], "run must be a run directory: type run=DIR"),
        (["run=nowhere"], "there is no such directory"),
        (["rum=x"], "did you mean run?"),
    ):
        code, out, error = call(*overrides)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert line in error
    assert list(elsewhere.iterdir()) == []
