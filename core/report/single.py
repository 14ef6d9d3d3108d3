"""The page about one run."""

from core.numbers import number
from core.report import cards, facts
from core.report.layout import Origin, Page, Section, Table
from core.report.record import Bars, Record
from core.report.sections import run_sections
from core.run.directory import resumption


def single_page(record: Record) -> Page:
    """Everything about a run, the result first."""
    result = Section(heading="What was reached", facts=facts.reached(record), bars=bars(record))
    return Page(
        brand="run report",
        title=record.kind.title(record),
        origins=[origin(record)],
        counted=cards.counted(record.findings or ()),
        notice=facts.incomplete(record),
        resume=resumption(record.directory) if resumable(record) else "",
        sections=[result, returns(record), *run_sections({"": record})],
    )


def returns(record: Record) -> Section:
    """Where the run has returned to its last good checkpoint; empty where it never has."""
    found = record.summary.get("rollbacks")
    if not isinstance(found, list) or not found:
        return Section(heading="Rollbacks")
    rows = [
        [
            number(one["step"]),
            number(one["to"]),
            one["finding"],
            one["player"] or "–",
            " ".join(one["remedy"]) or "–",
        ]
        for one in found
    ]
    head = [f"at ({record.unit})", f"back to ({record.unit})", "finding", "player", "went on with"]
    lead = "The run met these findings, returned to its last good checkpoint, and went on with other numbers."
    return Section(heading="Rollbacks", lead=lead, table=Table(head, rows))


def resumable(record: Record) -> bool:
    """Whether a command would continue the run."""
    return record.status not in ("finished", "running") and record.kind.command is not None


def bars(record: Record, name: str = "") -> list[tuple[str, Bars]]:
    """The counts of a run, if its kind has any."""
    found = record.kind.bars(record)
    return [(name, found)] if found else []


def origin(record: Record, name: str = "", *, second: bool = False) -> Origin:
    """Status, kind, seed, device and date of a run; its directory where it has a name."""
    seed = record.options.get("seed")
    known = [
        record.kind.name,
        f"seed {seed}" if seed is not None else "",
        str(record.summary.get("device", "")),
        record.started,
    ]
    return Origin(
        name=name,
        status=record.status,
        known=" · ".join(part for part in known if part),
        directory=str(record.directory) if name else "",
        second=second,
    )
