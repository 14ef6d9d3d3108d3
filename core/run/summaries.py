"""What two of TensorBoard's plugins read: the table of hyper-parameters, and the page of charts.

The table takes its columns from one of the runs it shows. So they are what differs in a sweep, and without
one what was typed; the row has a cell for every option.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from core.run.dashboard import Layout
from core.text import as_text

CLASS = "_target_"
OPEN = 2  # sections of the page that are not folded
UNCOMPARED = (
    "callbacks",
    "device",
    "logger",
    "logging",
    "max_rollbacks",
    "name",
    "num_threads",
    "on_finding",
    "resume",
)


def row(
    options: Mapping[str, object],
    typed: Mapping[str, object],
    swept: Sequence[str],
    metrics: Mapping[str, str],
) -> tuple[Any, Any]:
    """The summaries that the table reads: its columns, and this run's cells.

    Args:
        options: by dotted name; names of classes are left out, `typed` says which were chosen.
        typed: what was typed, by name; each is a column, unless it only places or logs the run.
        swept: those in which the jobs of a sweep differ; then only they and `tags` are columns.
        metrics: what the table calls a curve, by its tag; it shows the last value.
    """
    cells = {key: value for key, value in options.items() if key.rpartition(".")[2] != CLASS}
    cells = {as_text(key): _cell(value) for key, value in {**cells, **typed}.items()}
    chosen = [*swept, *(key for key in typed if key == "tags")] if swept else list(typed)
    columns = [key for key in map(as_text, chosen) if key.partition(".")[0] not in UNCOMPARED]
    columns = [key for key in dict.fromkeys([*columns, *(() if swept else ("seed",))]) if key in cells]
    api, data = proto("plugins.hparams.api"), proto("plugins.hparams.plugin_data")
    # TensorBoard sorts them by this flag and then by name, and shows the first five.
    infos = [
        api.HParamInfo(
            name=key,
            type=api.DATA_TYPE_FLOAT64 if isinstance(cells[key], float) else api.DATA_TYPE_STRING,
            differs=key in typed,
        )
        for key in columns
    ]
    shown = [api.MetricInfo(name=api.MetricName(tag=tag), display_name=name) for tag, name in metrics.items()]
    start = data.SessionStartInfo()
    for key, value in cells.items():
        if isinstance(value, float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = value
    experiment = api.Experiment(hparam_infos=infos, metric_infos=shown)
    return (
        _hparams("EXPERIMENT_TAG", data.HParamsPluginData(experiment=experiment)),
        _hparams("SESSION_START_INFO_TAG", data.HParamsPluginData(session_start_info=start)),
    )


def page(layout: Layout) -> Any:
    """The summary of the page of charts; all sections but the first two are folded.

    A browser draws the charts of an open section at once, and the whole page would take it minutes.
    """
    from tensorboard.plugins.custom_scalar import metadata

    summary = proto("compat.proto.summary")
    made = proto("plugins.custom_scalar.layout").Layout()
    for place, (heading, panels) in enumerate(layout.items()):
        section = made.category.add(title=heading, closed=place >= OPEN)
        for title, tags in panels.items():
            section.chart.add(title=title).multiline.tag.extend(tags)
    tensor = proto("compat.proto.tensor").TensorProto(
        dtype="DT_STRING", string_val=[made.SerializeToString()]
    )
    plugin = summary.SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME)
    about = summary.SummaryMetadata(plugin_data=plugin)
    value = summary.Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=about)
    return summary.Summary(value=[value])


def proto(name: str) -> ModuleType:
    """A generated protocol-buffer module; its classes exist only at run time, unseen by type checkers."""
    return importlib.import_module(f"tensorboard.{name}_pb2")


def _cell(value: object) -> float | str:
    """A number with a fraction as it is, anything else as text: the table would show 1 as 1.0000."""
    return value if isinstance(value, float) and math.isfinite(value) else as_text(str(value))


def _hparams(tag: str, data: Any) -> Any:
    """What the table reads has no value, only metadata."""
    from tensorboard.plugins.hparams import metadata

    summary = proto("compat.proto.summary").Summary
    about = metadata.create_summary_metadata(data)
    value = summary.Value(tag=getattr(metadata, tag), metadata=about, tensor=metadata.NULL_TENSOR)
    return summary(value=[value])
