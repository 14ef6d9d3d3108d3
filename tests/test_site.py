"""The site is built from the docs, and no link in it is dead."""

import importlib.util
import os
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown import markdown

from tests.pages import ROOT

spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "site" / "build.py")
assert spec is not None
assert spec.loader is not None
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


class Page(HTMLParser):
    """The anchors of a page and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        self.links += [value for key in ("href", "src") if (value := found.get(key))]


def test_every_option_of_every_command_has_a_meaning():
    pages = dict(build.option_pages())
    assert {"configure/rl.md", "configure/gan.md", "configure/descend.md"} <= pages.keys()
    rows = [line for text in pages.values() for line in text.splitlines() if line.startswith("| `")]
    bare = [row for row in rows if row.endswith("|  |") and "_target_" not in row]
    assert bare == []
    assert any(row.startswith("| `agent.clip_coef` | `0.2` | eps, how far") for row in rows)


def test_a_comment_of_an_option_is_shown_as_it_is():
    comment = 'a <= 1 | callbacks=[{_target_: mine.Callback}] or [value.*,"*.bias"]; `a*b|c` stays code'
    html = markdown(f"| a | b |\n|---|---|\n| x | {build.plain(comment)} |", extensions=["tables"])
    shown = re.findall(r"<td>(.*?)</td>", html)[1]
    assert unescape(re.sub("</?code>", "`", shown)) == comment
    assert markdown(build.plain("*a* _b_ [c](d)")) == "<p>*a* _b_ [c](d)</p>"


def test_a_link_through_the_repository_leads_through_the_site(tmp_path):
    page = tmp_path / "configure" / "x.md"
    page.parent.mkdir()
    page.write_text("[a](../examples/plain_loop.py) [b](../README.md#train) [c](https://hydra.cc) [d](#here)")
    build.relink(page, ROOT / "docs" / "x.md", tmp_path)
    linked = (
        "[a](../source/examples.plain_loop.py.md) [b](../index.md#train) [c](https://hydra.cc) [d](#here)"
    )
    assert page.read_text() == linked
    assert "GradientStep(" in (tmp_path / "source" / "examples.plain_loop.py.md").read_text()


def test_a_picture_follows_the_sites_switch_between_light_and_dark(tmp_path):
    page = tmp_path / "agents" / "x.md"
    page.parent.mkdir()
    (tmp_path / "agents" / "dark").mkdir()
    for name in ("a2c.png", "dark/a2c.png"):
        (tmp_path / "agents" / name).touch()
    shown = (ROOT / "docs" / "agents" / "a2c.md").read_text(encoding="utf-8")
    page.write_text(shown[shown.index("<picture>") : shown.index("</picture>")] + "</picture>\n")
    build.relink(page, ROOT / "docs" / "agents" / "x.md", tmp_path)
    assert re.findall(r'src="([^"]+)"', page.read_text()) == [
        "../agents/a2c.png#only-light",
        "../agents/dark/a2c.png#only-dark",
    ]
    assert "<picture>" not in page.read_text()


def test_what_a_command_says_is_wrapped_and_a_drawing_is_not():
    line = "warning: " + "a long word " * 8
    said, drawn = f"```sh\nx\n```\n```text\n{line}\n```", f"```text\na.py          {line}\n```"
    assert build.TEXT.sub(build.wrapped, said) == said.replace("```text", "```{.text .wrapped}")
    assert build.TEXT.sub(build.wrapped, drawn) == drawn
    assert build.TEXT.sub(build.wrapped, "```text\nshort\n```") == "```text\nshort\n```"


def test_no_line_of_an_api_page_is_a_list_of_values():
    for _, text in build.api_pages():
        assert [line for line in text.splitlines() if len(line) > 200] == []


@pytest.mark.slow
def test_the_site_is_built_and_has_no_dead_link(tmp_path):
    pytest.importorskip("zensical")
    assert build.main(tmp_path / "site") == 0
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "glossary.html", "watch.html", "rl.html"} <= {path.name for path in pages}
    dead = [
        f"{path.relative_to(tmp_path)}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not alive(path, link, tmp_path / "site", pages)
    ]
    assert dead == []


def alive(path: Path, link: str, root: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link leads out, or to a file of the site and an anchor that this has."""
    target, _, anchor = link.partition("#")
    target = target.partition("?")[0]
    if ":" in target:
        return True
    there = path if not target else (root / target[1:] if target.startswith("/") else path.parent / target)
    there = Path(os.path.normpath(there))
    there = there / "index.html" if there.is_dir() else there
    return there.exists() and (not anchor or there not in pages or anchor in pages[there].anchors)
