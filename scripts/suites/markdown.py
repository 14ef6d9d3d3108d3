"""Tables of the pages below docs/, written anew in their places, and how their numbers are shown."""

from collections.abc import Callable, Mapping, Sequence

from core.compare.statistics import estimate, improvement, mean

RESAMPLES = 10_000  # of every bootstrap interval

Table = Callable[[], list[list[str]]]


def written(page: str, tables: Mapping[str, Table]) -> str:
    """A page with its tables made anew; each has one place in it, after `<!-- NAME -->`."""
    for name, table in tables.items():
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        assert end, f"the page has no place for the table {name!r}"
        page = f"{before}<!-- {name} -->\n{markdown(table())}\n{end}{after}"
    return page


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its header first."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def unbroken(cell: str) -> str:
    """A cell on one line, so that a table of many columns has low rows and scrolls."""
    return cell.replace(" ", "\u00a0")


def shown(value: float) -> str:
    """A return: whole from 1,000 on, one decimal below, three below 1; without zeros at its end."""
    size = abs(value)
    places = 0 if size >= 999.5 else 1 if size >= 0.9995 else 3
    text = f"{size:,.{places}f}".removesuffix("." + places * "0")
    return f"−{text}" if value < 0 and text != "0" else text


def rounded_steps(steps: float) -> str:
    """Environment steps in thousands or millions, as a budget is named: a rollout more is not said."""
    size, letter = (1e6, "M") if steps >= 999_500 else (1e3, "k")
    return f"{float(f'{steps / size:.2g}'):g} {letter}"


def minutes(seconds: float) -> str:
    """Whole minutes; tenths below one."""
    return f"{seconds / 60:.0f}" if seconds >= 57 else f"{seconds / 60:.1f}"


def averaged(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean over seeds and the ends of its interval; of one seed the seed itself."""
    found = estimate(scores, mean, RESAMPLES, 0)
    return found.value, *(found.interval or (found.value, found.value))


def average(scores: Sequence[float]) -> str:
    """Mean return over seeds, with its interval."""
    value, low, high = averaged(scores)
    return f"{shown(value)} [{shown(low)}, {shown(high)}]"


def better(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Probability that one of ours is above one of theirs, with its interval."""
    found = improvement([(ours, theirs)], RESAMPLES, 0)
    low, high = found.interval or (found.value, found.value)
    return f"{found.value:.2f} [{low:.2f}, {high:.2f}]"
