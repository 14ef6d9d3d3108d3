"""The page that TensorBoard opens on: which charts it has, and when; the card that explains them."""

from core.gradients.measure.monitor import MonitorConfig
from core.run.dashboard import Dashboard, Page, Panel
from core.run.gradient_charts import with_curves

NORM = Panel("Norm", (r"(.+/)?gradient/norm$",), "Its length.")
LAYERS = Panel("Layers", (r"layer/.+/cosine$",), "Of each layer.")
BOARD = Dashboard("PPO on CartPole", {"Overview": (NORM, LAYERS), "Gradients": (NORM,)})


def test_a_panel_is_shown_from_its_first_curve_on_and_stays():
    page = Page(BOARD)
    assert page.add(["loss", "gradient/norm_clipped", "natural_gradient/norm"]) is None
    one = {"Norm": NORM.tags}
    assert page.add(["actor/gradient/norm"]) == {"Overview": one, "Gradients": one}
    assert page.add(["gradient/norm", "actor/gradient/norm"]) is None
    assert page.add(["layer/0.weight/cosine"]) == {
        "Overview": {**one, "Layers": LAYERS.tags},
        "Gradients": one,
    }
    assert page.add(["layer/2.weight/cosine"]) is None


def test_the_card_says_what_ran_and_explains_each_chart_once():
    lines = BOARD.card("gradrl " + "agent=ppo " * 20, {"seed": 3}).splitlines()
    assert lines[0] == "# PPO on CartPole"
    command = [line for line in lines if line.startswith("    ")]
    assert " ".join(line.strip().removesuffix(" \\") for line in command).split() == [
        "gradrl",
        *["agent=ppo"] * 20,
    ]
    assert all(line.endswith(" \\") for line in command[:-1])
    assert max(map(len, command)) <= 100
    assert "- seed: 3" in lines
    assert [line for line in lines if line.startswith(("## ", "- **"))] == [
        "## Overview", "- **Norm**: Its length.", "- **Layers**: Of each layer.",
    ]  # fmt: skip


class Player:
    def __init__(self, prefix, count, most):
        self.names = [str(i) for i in range(count)]
        self.prefix, self.cfg = prefix, MonitorConfig(max_layer_scalars=most)
        self.monitor = self


def test_layers_have_curves_up_to_the_number_of_their_own_player_whatever_measured_them():
    values = dict.fromkeys(
        ["layer/a/dead_units", "g/layer/a/cosine", "d/layer/a/signal_to_noise", "g/gradient/norm", "loss"],
        1.0,
    )
    few, many = Player("g/", 2, 2), Player("d/", 3, 2)
    assert values.keys() - with_curves(values, [few, many]).keys() == {"d/layer/a/signal_to_noise"}
    assert with_curves(values, [few]) == values
    assert values.keys() - with_curves(values, [Player("", 1, 0)]).keys() == {"layer/a/dead_units"}
