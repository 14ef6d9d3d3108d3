"""The page about two runs: what differs, what came of it, the same charts with the curves of both."""

from core.config import ConfigError
from core.numbers import number, percent
from core.report import facts
from core.report.layout import Page, Section, Table
from core.report.record import Record
from core.report.sections import options_section, run_sections
from core.report.single import bars, origin

NAMES = ("A", "B")  # long names would not fit a legend
LUCK = (
    "There is one run on each side, so a difference may be the luck of the seed. The command compare "
    "measures it over several seeds (runs=[…])."
)


def check_pair(first: Record, second: Record) -> None:
    """Check that two runs can be shown on one page.

    Raises:
        ConfigError: they are the same run, or of different kinds.
    """
    if first.directory.resolve() == second.directory.resolve():
        raise ConfigError(f"against={second.directory} is the run itself; name another one")
    if first.package != second.package:
        kinds = f"{second.kind.name}, not {first.kind.name} like {first.directory}"
        raise ConfigError(f"against={second.directory} is a run of another kind: {kinds}")


def pair_page(first: Record, second: Record) -> Page:
    """Both runs, what differs first."""
    kind = first.kind
    pair: dict[str, Record] = dict(zip(NAMES, (first, second), strict=True))
    titles = [kind.title(record) for record in pair.values()]
    result = Section(
        heading="What was reached",
        lead=LUCK,
        table=_outcomes(first, second),
        bars=[card for name, record in pair.items() for card in bars(record, name)],
    )
    return Page(
        brand="two runs side by side",
        title=" against ".join(dict.fromkeys(titles)),
        origins=[origin(first, "A"), origin(second, "B", second=True)],
        notice=_notice(kind.subject(first), kind.subject(second)),
        sections=[options_section(pair), result, *run_sections(pair)],
    )


def _outcomes(first: Record, second: Record) -> Table:
    """What both reached, and the difference."""
    here, there = (
        {fact.label: fact for fact in (*facts.reached(record), *facts.efforts(record))}
        for record in (first, second)
    )
    rows = []
    for label in dict.fromkeys([*here, *there]):
        a, b = here.get(label), there.get(label)
        values = [fact.value if fact else "–" for fact in (a, b)]
        rows.append([label, *values, _difference(a and a.amount, b and b.amount)])
    return Table(["", *NAMES, "B − A"], rows)


def _difference(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return ""
    change = b - a
    sign = "+" if change > 0 else ""
    share = f" ({sign}{percent(change / abs(a)).replace('-', '−')})" if a else ""
    return f"{sign}{number(change)}{share}" if change else "none"


def _notice(first: str, second: str) -> str:
    """A warning where the two were given different tasks."""
    if first == second:
        return ""
    return (
        f"Different tasks: A is on {first}, B on {second}. Scores, losses and gradients of one cannot be "
        "compared with those of the other."
    )
