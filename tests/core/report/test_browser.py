"""The report in a real browser: it fits a phone, can be read in light and dark, asks nobody for anything."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.draw.media import Image, encode
from core.report.page import write_page
from core.report.record import Kind
from gradgan.report import GAN
from gradrl.report import AGENT
from tests.core.report.browser import Browser, installed
from tests.core.report.runs import RL_CURVES, RL_OPTIONS, RL_SUMMARY, make_run
from tests.core.report.test_findings import CLIPPED, VANISHING, write_findings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        installed() is None,
        reason="no browser: install chromium (Debian and Ubuntu: apt-get install chromium)",
    ),
]
LEGIBLE = 4.5  # contrast of normal text, WCAG 2.2, 1.4.3
PROBES = {
    "noise/norm_test": 0.5, "curvature/sharpness": 30.0, "curvature/lowest": -1.0, "loss/policy": 0.1,
    "a/curve/with/a_name_that_is_much_longer_than_a_phone_is_wide_and_has_no_space_in_it": 1.0,
}  # fmt: skip


def everything(target: str) -> Kind:
    """An agent that also has what only a GAN has."""
    return replace(AGENT, bars=GAN.bars, topics=GAN.topics, captions=GAN.captions)


# For every text that can be seen: the contrast of its colour with what lies below its middle.
CONTRASTS = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement, range = document.createRange();
    if (!text.data.trim() || element.closest("title, style")) continue;
    range.selectNodeContents(text);
    const box = range.getClientRects()[0];
    if (!box || !box.width) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const below = document.elementsFromPoint(box.x + 2, box.y + box.height / 2)
      .map(e => rgba(getComputedStyle(e).backgroundColor)).find(c => c[3] === 255);
    if (!below) continue;
    const [low, high] = [luminance(ink), luminance(below)].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), text.data.trim().slice(0, 40)]);
  }
  return found;
})()"""
WIDE = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg")
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => e.outerHTML.slice(0, 80))"""
CUT = """[...document.querySelectorAll("code")]
  .filter(e => e.scrollWidth > e.parentElement.clientWidth).length"""
BREAKS = """[...new Set([...document.querySelectorAll(".card, .fact")]
  .map(e => getComputedStyle(e).breakInside))]"""
BROKEN = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def furnished(directory: Path) -> Path:
    """A run with everything that a page can show."""
    run = make_run(directory, RL_OPTIONS, RL_CURVES | PROBES, RL_SUMMARY | {"class_counts": [3, 0, 5]})
    write_findings(run, VANISHING, CLIPPED, CLIPPED | {"name": "a_warning", "severity": "warning"})
    white, _ = encode(Image(np.full((40, 60, 3), 255, dtype=np.uint8)))
    (run / "media" / "landscape").mkdir()
    for name in ("samples.png", "path_angle.png", "landscape/surface.png"):
        (run / "media" / name).write_bytes(white)
    dark, _ = encode(Image(np.full((40, 60, 3), 30, dtype=np.uint8)))
    for folder in ("media/dark", "media/landscape/dark"):
        (run / folder).mkdir()
    for name in ("media/dark/path_angle.png", "media/landscape/dark/surface.png"):
        (run / name).write_bytes(dark)
    (run / "landscape.json").write_text(json.dumps({"radius": 1.0, "directions": "random"}))
    return run


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """One run, two side by side, and a directory of two."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = furnished(folder / "first"), furnished(folder / "second")
    config = second / "config.yaml"
    config.write_text(config.read_text().replace("0.001", "0.1"))
    return {
        "one": write_page(first, kind_of=everything),
        "two": write_page(first, second, everything),
        "many": write_page(folder, kind_of=everything),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["one", "two", "many"])
def test_a_page_fits_and_can_be_read_and_is_alone(browser, pages, which, width, scheme):
    browser.open(pages[which], width, 30_000, scheme=scheme)
    assert browser.ask("document.documentElement.clientWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("(document.querySelectorAll('details').forEach(d => d.open = true), 0)") == 0
    assert browser.ask(WIDE) == []
    contrasts = browser.ask(CONTRASTS)
    assert len(contrasts) > 50
    assert [(round(c, 2), text) for c, text in contrasts if c < LEGIBLE] == []
    assert browser.ask("document.images.length") >= 2
    assert browser.ask(BROKEN) == 0
    assert browser.happened("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = [event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")]
    assert [url[:40] for url in asked if not url.startswith("data:")] == [pages[which].as_uri()[:40]]


SHOWN = """(() => {
  const image = [...document.images].find(i => i.alt.startsWith('NAME'));
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.drawImage(image, 0, 0);
  return [...canvas.getImageData(5, 5, 1, 1).data].slice(0, 3);
})()"""


def test_a_dark_page_shows_diagrams_as_rendered_for_it_and_paper_the_light_ones(browser, pages):
    for scheme, media, level in (("light", "", 255), ("dark", "", 30), ("dark", "print", 255)):
        browser.open(pages["one"], 1280, scheme=scheme, media=media)
        for name in ("Surface", "Angle between"):
            assert browser.ask(SHOWN.replace("NAME", name)) == [level] * 3
        assert (
            browser.ask(SHOWN.replace("NAME", "What the generator makes")) == [255] * 3
        )  # one rendering serves both
        assert browser.ask("getComputedStyle(document.images[0]).filter") == "none"


def test_paper_is_white_shows_commands_in_full_and_breaks_between_cards(browser, pages):
    browser.open(pages["one"], 720, scheme="dark", media="print")
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask(BREAKS) == ["avoid"]
    assert browser.ask(CUT) == 0


BROKEN_PARTS = """[...document.querySelectorAll("#layer-by-layer tbody th")].flatMap(th => [...th.childNodes]
  .filter(n => n.nodeType === 3).filter(n => {
    const range = document.createRange();
    range.selectNodeContents(n);
    return range.getClientRects().length > 1;
  }).map(n => n.data))"""
SMALL = """[...document.querySelectorAll("svg text")].filter(t => {
  const svg = t.ownerSVGElement;
  return 12 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width < 8;
}).length"""


def test_a_phone_breaks_names_of_layers_between_their_parts_and_keeps_letters_readable(tmp_path, browser):
    layers = ("network.0.weight", "generator.blocks.3.attention.query.parametrizations.weight.original0")
    curves = {f"layer/{name}/{what}": 1.5e-4 for name in layers for what in ("gradient_norm", "update_ratio")}
    run = make_run(tmp_path / "run", RL_OPTIONS, RL_CURVES | curves, RL_SUMMARY)
    browser.open(write_page(run), 390)
    rows = browser.ask("[...document.querySelectorAll('#layer-by-layer tbody th')].map(t => t.textContent)")
    assert {*layers} <= {*rows}
    assert browser.ask(
        "[...document.querySelectorAll('#layer-by-layer tbody th')].some(t => t.offsetHeight > 30)"
    )
    assert browser.ask(BROKEN_PARTS) == []
    assert browser.ask("document.querySelectorAll('svg text').length") > 10
    assert browser.ask(SMALL) == 0


def test_links_of_findings_lead_to_charts(browser, pages):
    text = pages["one"].read_text(encoding="utf-8")
    anchors = set(re.findall(r'href="#([^"]+)"', text))
    assert {"findings", "chart-clipped", "chart-layers-with-findings"} <= anchors
    browser.open(pages["one"], 390)
    for anchor in anchors:
        browser.ask(f"location.hash = '{anchor}'")
        top = browser.ask(f"document.getElementById('{anchor}').getBoundingClientRect().top")
        assert 0 <= top < 900
