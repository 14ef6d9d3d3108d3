"""Findings as cards: what, when, how it shows, why, and the command that may help."""

from collections.abc import Mapping, Sequence
from html import escape

from core.report.commands import command
from core.report.findings import SEVERITIES, Finding
from core.report.html import rows
from core.report.numbers import number
from core.report.read import Record

SIGNS = {"error": "■", "warning": "▲", "note": "●"}  # told apart without colour


def finding_cards(record: Record, charts: Mapping[str, tuple[str, str]], name: str = "") -> str:
    """All findings of a run, or one quiet line.

    Args:
        record: the run.
        charts: by tag, the id and the title of the chart on this page that shows it.
        name: of the run, where there are two; it stands above.
    """
    heading = f"<h3>Run {escape(name)}</h3>" if name else ""
    if record.findings is None:
        return f'{heading}<p class="quiet">No diagnosis was made of this run.</p>\n'
    if not record.findings:
        return f'{heading}<p class="quiet">The diagnosis found nothing to remark.</p>\n'
    return heading + "".join(_card(finding, record, charts) for finding in record.findings)


def counted(findings: Sequence[Finding]) -> str:
    """How many of each severity: "1 error, 2 warnings"."""
    counts = [(sum(f.severity == s for f in findings), s) for s in SEVERITIES]
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in counts if n)


def _card(finding: Finding, record: Record, charts: Mapping[str, tuple[str, str]]) -> str:
    where = " · ".join(part for part in (finding.player, finding.layer) if part)
    place = f" <code>{escape(where)}</code>" if where else ""
    what = finding.what[:1].upper() + finding.what[1:]
    evidence = [(tag, number(value)) for tag, value in finding.evidence.items()]
    return (
        f'<article class="card finding {finding.severity}"><header>'
        f'<span class="sign">{SIGNS[finding.severity]} {finding.severity}</span>'
        f"<h3>{escape(finding.title)}</h3>{place}</header>"
        f'<div class="story"><p>{escape(what)}</p>{_cause(finding)}{_remedy(finding, record)}</div>'
        f'<div class="proof">{_extent(finding, record)}{rows(evidence)}{_links(finding, charts)}</div>'
        "</article>\n"
    )


def _cause(finding: Finding) -> str:
    return f"<p><b>Likely cause.</b> {escape(finding.cause)}</p>" if finding.cause else ""


def _remedy(finding: Finding, record: Record) -> str:
    if not finding.remedy:
        return ""
    line = command(record, finding.remedy)
    return f'<p><b>Try</b></p><pre class="command"><code>{line}</code></pre>'


def _extent(finding: Finding, record: Record) -> str:
    """The stretch of the run's x-axis over which it was seen."""
    end = max(record.total or 0, record.step, finding.last_step, 1)
    left, width = 100 * finding.first_step / end, 100 * (finding.last_step - finding.first_step) / end
    shown = max(width, 1.5)
    words = f"{finding.first_step:,} to {finding.last_step:,}"
    if finding.first_step == finding.last_step:
        words = f"at {finding.first_step:,}"
    state = "still so at the last look" if finding.active else "over"
    return (
        f'<div class="extent"><i style="left:{min(left, 100 - shown):.1f}%;width:{shown:.1f}%"></i></div>'
        f'<p class="ends"><b>{words}</b> of {end:,} {escape(record.unit)}, {state}</p>'
    )


def _links(finding: Finding, charts: Mapping[str, tuple[str, str]]) -> str:
    found = dict.fromkeys(chart for tag, chart in charts.items() if finding.concerns(tag))
    links = [f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title in found]
    return f'<p class="look">Look at {", ".join(links)}</p>' if links else ""
