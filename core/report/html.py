"""The few pieces of HTML that every part of a page is made of."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path


def document(title: str, body: str) -> str:
    """A whole page: no script, no network; the style sheet is inside."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · gradsight</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def section(heading: str, content: str, lead: str = "") -> str:
    """A part of the page with its heading; nothing without content."""
    if not content:
        return ""
    lead = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{slug(heading)}"><h2>{escape(heading)}</h2>{lead}\n{content}</section>\n'


def folded(heading: str, content: str) -> str:
    """A part that opens on a click; nothing without content."""
    return f"<details><summary>{escape(heading)}</summary>{content}</details>\n" if content else ""


def rows(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values as a list of two columns."""
    cells = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs)
    return f"<dl>{cells}</dl>" if cells else ""


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A card with a table whose first column names the rows; wider than the page, it scrolls by itself."""
    if not body:
        return ""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in line[1:])
        + "</tr>\n"
        for line in body
    )
    return (
        f'<div class="card scroll"><table class="plain"><thead><tr>{top}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>\n"
    )


def slug(text: str) -> str:
    """A name that an address can end in."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
