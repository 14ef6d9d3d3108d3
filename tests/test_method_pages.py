"""docs/agents/ and docs/losses/: a page for each choice, all in one form; what their tables name exists."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.pages import METHODS, ROOT, blocks, commands_of, name, section

CONF = ROOT / "conf"
GROUPS = {"agents": "agent", "losses": "loss"}
FORM = ["Equations", "Pseudo-code", "What to know", "Command", "Curve", "Source"]
LONGEST = 20  # lines of pseudo-code: what is seen at one glance
WIDEST = 84  # characters of a block: what the site shows without scrolling
HEAVIEST = 30_000  # bytes of a picture
EXPLAINED = "".join(
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for page in ("gradients", "diagnosis", "agents", "gans")
)


def choices(page: Path) -> list[str]:
    """The choices that a page covers: its second paragraph."""
    _, line, _ = page.read_text(encoding="utf-8").split("\n\n", 2)
    group = GROUPS[page.parent.name]
    assert re.fullmatch(rf"`{group}=\w+`(, `{group}=\w+`)*", line), f"{name(page)}: {line}"
    return re.findall(r"=(\w+)", line)


def rows(page: Path, header: str) -> list[list[str]]:
    """The cells of the table below a header."""
    lines = section(page, "What to know").partition(f"\n{header}\n")[2].splitlines()[1:]
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[:end]]
    assert found, f"{name(page)} has no table {header}"
    return found


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("folder", GROUPS)
def test_every_choice_has_exactly_one_page(folder):
    covered = [choice for page in METHODS if page.parent.name == folder for choice in choices(page)]
    there = [path.stem for path in (CONF / GROUPS[folder]).glob("*.yaml")]
    assert sorted(covered) == sorted(there)


@pytest.mark.parametrize("page", METHODS, ids=name)
def test_a_page_has_the_form_of_all(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)", text, re.MULTILINE) == FORM
    title, _, idea, *_ = text.split("\n\n")
    assert title.startswith("# ")
    assert idea.endswith(".")
    assert idea.count(". ") == 0, "the idea is one sentence"
    assert [block.label for block in blocks(section(page, "Equations"), name(page))] == ["text"]
    (code,) = blocks(section(page, "Pseudo-code"), name(page))
    assert len(code.text.splitlines()) <= LONGEST
    assert max(len(line) for block in blocks(text, name(page)) for line in block.text.splitlines()) <= WIDEST
    assert re.findall(r"arXiv:\d{4}\.\d{5}|theorem|NIPS", section(page, "Source"))
    (picture,) = re.findall(r'<img alt="[^"]{20,}" src="(\w+\.png)">', section(page, "Curve"))
    assert picture == f"{page.stem}.png"
    for each in (picture, f"dark/{picture}"):
        assert 2000 < (page.parent / each).stat().st_size < HEAVIEST


@pytest.mark.parametrize("page", METHODS, ids=name)
def test_the_code_that_a_page_links_to_is_in_that_file(page):
    links = re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", section(page, "Pseudo-code"))
    assert len(links) >= 3
    for dotted, path in links:
        source = (page.parent / path).read_text(encoding="utf-8")
        for word in dotted.split("."):
            assert re.search(rf"^ *(?:class|def) {word}\b", source, re.MULTILINE), f"{dotted} in {path}"


@pytest.mark.parametrize("page", METHODS, ids=name)
def test_an_option_in_the_table_of_a_page_has_the_default_that_it_shows(page):
    for cell, *_ in rows(page, "| option | what it does |"):
        option, value = spans(cell)[0].split("=")
        assert yaml.safe_load(value) in defaults(option, choices(page)), f"{name(page)}: {option}={value}"


def defaults(option: str, chosen: list[str]) -> list[object]:
    """The values of an option in its group's files (an agent's: the page's own), or in a root's."""
    group, *keys = option.split(".")
    own = group in GROUPS.values()
    files = [path for path in (CONF / group).glob("*.yaml") if not own or path.stem in chosen]
    found = []
    for file in (*files, CONF / "rl.yaml", CONF / "gan.yaml"):
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        below = keys[1:] if keys[0] == file.stem else keys  # regularizer.weight_clipping.bound
        for names in ((group, *keys), *([below] if file in files else [])):
            found += [value for value in [lookup(tree, names)] if value is not ...]
    return found


def lookup(tree: object, names: Sequence[str]) -> object:
    """What stands below some names; `...` where nothing does."""
    for key in names:
        tree = tree.get(key, ...) if isinstance(tree, dict) else ...
    return tree


def explained(tag: str) -> bool:
    """Whether the pages about numbers have an entry for a tag, whichever player logs it."""
    tag = re.sub(r"^\w+/(?=gradient/|layer/|loss_)", "", tag)
    tag = re.sub(r"^loss_share/\w+", "loss_share/*", re.sub(r"^loss_cosine/\w+", "loss_cosine/*_vs_*", tag))
    return f"`{tag.removeprefix('policy_gradient/')}`" in EXPLAINED


@pytest.mark.parametrize("page", METHODS, ids=name)
def test_what_a_page_tells_to_watch_is_explained_and_its_findings_are_rules(page):
    for watched, _, findings in rows(page, "| watch | when it is ill | finding |"):
        assert spans(watched), name(page)
        for tag in spans(watched):
            assert explained(tag), f"{name(page)}: nothing explains {tag}"
        for finding in spans(findings):
            assert f"| `{finding}`" in EXPLAINED or f"`, `{finding}`" in EXPLAINED, f"{name(page)}: {finding}"


@pytest.mark.parametrize("page", METHODS, ids=name)
def test_a_page_shows_how_to_run_each_of_its_choices(page):
    shown = [word for command in commands_of(page, "Command") for word in command.words]
    group = GROUPS[page.parent.name]
    assert [word for word in shown if word.startswith(f"{group}=")] == [f"{group}={c}" for c in choices(page)]
