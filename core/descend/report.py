"""What the report knows about descents."""

from collections.abc import Iterator

from core.numbers import number
from core.report.charts import Chart, Line
from core.report.facts import class_name, summary_fact
from core.report.record import Fact, Kind, Record

OF_DATA = ("accuracy", "held_out_value", "held_out_accuracy", "noise_scale", "samples")  # of an objective

OUTCOME = (
    Chart(
        "Value of the function",
        "The value at the point that the descent has reached.",
        (Line("value", "descent/value"),),
        log=True,
    ),
    Chart(
        "Coordinates",
        "The first four coordinates of that point.",
        tuple(Line(f"x{i}", f"descent/x{i}", 1 + i) for i in range(4)),
    ),
)

CAPTIONS = {
    "descent_path": "The path over the level lines of the function, and its known critical points.",
    "descent_surface": "The function as a surface, with the path on it.",
    "descent_video": "The descent, step by step.",
    "descent_basins": "The basin in which each start ends.",
    "descent_curves": "What was measured along the way.",
    "descent_arrows": "Gradients of single batches at a few points, and where they lead.",
    "descent_boundary": "Which points the network takes for which class, and samples that it learns from.",
    "descent_boundary_video": "The same, step by step.",
}


def subject(record: Record) -> str:
    """The function or the objective."""
    return class_name(record.options.get("function") or record.options.get("objective"))


def title(record: Record) -> str:
    """The optimizer and the function."""
    return f"{class_name(record.options.get('optimizer'))} on {subject(record)}"


def facts(record: Record) -> Iterator[Fact]:
    """Where the descent ended, and the value there."""
    summary = record.summary
    kind, x, eigenvalues = (summary.get(name) for name in ("critical_point", "x", "hessian_eigenvalues"))
    if kind is not None:
        shown = ", ".join(number(v) for v in eigenvalues[:6]) if isinstance(eigenvalues, list) else "unknown"
        yield Fact(str(kind), "where it ended", f"eigenvalues of the Hessian there: {shown}")
    place = [f"{v:.6g}" for v in x] if isinstance(x, list) else []
    note = f"at ({', '.join(place[:4])}{', …' if len(place) > 4 else ''})" if place else ""
    label = "loss on the training data" if record.options.get("objective") else "value of the function"
    yield from summary_fact(record, "value", label, note)
    for name in OF_DATA:
        yield from summary_fact(record, name, name.replace("_", " "))
    yield from summary_fact(record, "gradient_norm", "gradient norm", "length of the gradient where it ended")


DESCENT = Kind(
    name="Descent",
    command="descend",
    length="steps",
    efforts={"evaluations": "gradients asked for"},
    children=("optimizers", "batches"),
    title=title,
    subject=subject,
    facts=facts,
    outcome=OUTCOME,
    captions=CAPTIONS,
)
