"""The report of a GAN: its numbers stand next to their floor, its two players in the same charts."""

import re
import shutil
from pathlib import Path

from core.report.figures import other_figures
from core.report.read import read_run
from gradgan.report import GAN
from tests.core.report.runs import GAN_OPTIONS, make_run, page_of

ROOT = Path(__file__).parents[2]


def test_the_numbers_of_a_generator_stand_beside_their_floor(tmp_path):
    summary = {
        "status": "finished", "data": "digits", "images": 4000, "fid": 1.025, "fid_floor": 0.1584,
        "kid": 0.05, "kid_floor": -0.0048, "features": "digits_classifier", "class_counts": [60, 0, 40],
    }  # fmt: skip
    page = page_of(make_run(tmp_path / "run", GAN_OPTIONS, {"loss/generator": 1.0}, summary))
    for expected in (
        "GAN on digits", "1.02", "other real images: 0.158; features of digits_classifier", "2 of 3",
        "100 images, 0 in the rarest class and 60 in the commonest", "−0.00480",
    ):  # fmt: skip
        assert expected in page


def test_a_mixture_is_told_in_modes_of_all_modes(tmp_path):
    summary = {"status": "finished", "images": 4000, "modes": 24, "high_quality": 0.815, "reverse_kl": 0.0125}
    page = page_of(make_run(tmp_path / "run", GAN_OPTIONS, {"loss/generator": 1.0}, summary))
    for expected in ("24 of 25", "81.5 %", "0.0125 nats"):
        assert expected in page


def test_two_players_are_drawn_in_one_picture(tmp_path):
    curves = {"generator/gradient/norm": 3.0, "discriminator/gradient/norm": 5.0, "loss/generator": 1.0,
              "loss/discriminator": 2.0, "generator/layer/0.weight/gradient_norm": 1.0}  # fmt: skip
    page = page_of(make_run(tmp_path / "run", GAN_OPTIONS, curves, None))
    chart = next(part for part in page.split("<figure") if "<h3>Gradient norm</h3>" in part)
    assert chart.count('class="line c1"') == chart.count('class="line c2"') == 1
    assert "The generator&#39;s gradient had a median norm of 3" in page
    assert "The discriminator&#39;s gradient had a median norm of 5" in page


def test_what_two_players_do_to_each_other_has_a_section_with_its_pictures(tmp_path):
    documented = set(re.findall(r"`(game/\w+)`", (ROOT / "docs" / "gans.md").read_text(encoding="utf-8")))
    assert len(documented) >= 7
    curves = dict.fromkeys(documented | {"logits/real", "logits/fake", "average/distance"}, 0.5)
    run = make_run(tmp_path / "run", GAN_OPTIONS, curves | {"game/made_up": 0.5}, None)
    for name in ("logits", "samples"):
        shutil.copy(run / "media" / "gradient_heat_map.png", run / "media" / f"{name}.png")
    parts = dict(re.findall(r'<section id="([\w-]+)">(.*?)</section>', page_of(run), re.DOTALL))
    assert parts["the-game"].count("<svg") == len(documented) + 1  # two share one; logits and average add two
    assert parts["the-game"].count("<img") == 1
    assert parts["the-outcome"].count("<img") == 1
    others = [figure.title for figure in other_figures(read_run(run, lambda _: GAN))]
    assert others == ["game/made_up"]
