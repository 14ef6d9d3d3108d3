"""A run's row in TensorBoard's table of hyper-parameters, written into the run itself, not into a sub-run.

The table takes its columns from one of the runs it shows. So they are what differs in a sweep, and without
one what was typed; the row has a cell for every option.
"""

# pyright: reportAttributeAccessIssue=false
# protobuf makes the names of its modules when they are imported.

import math
from collections.abc import Mapping, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from core.text import as_text

CLASS = "_target_"
UNCOMPARED = ("callbacks", "device", "logger", "logging", "name", "num_threads", "on_finding", "resume")


def row(
    options: Mapping[str, object],
    typed: Mapping[str, object],
    swept: Sequence[str],
    metrics: Mapping[str, str],
) -> tuple[Summary, Summary]:
    """The summaries that the table reads: its columns, and this run's cells.

    Args:
        options: by dotted name; names of classes are left out, `typed` says which were chosen.
        typed: what was typed, by name; each is a column, unless it only places or logs the run.
        swept: those in which the jobs of a sweep differ; then only they are columns.
        metrics: what the table calls a curve, by its tag; it shows the last value.
    """
    cells = {key: value for key, value in options.items() if key.rpartition(".")[2] != CLASS}
    cells = {as_text(key): _cell(value) for key, value in {**cells, **typed}.items()}
    chosen = [*swept, *(key for key in typed if key == "tags")] if swept else list(typed)
    columns = [key for key in map(as_text, chosen) if key.partition(".")[0] not in UNCOMPARED]
    columns = [key for key in dict.fromkeys([*columns, "seed"]) if key in cells]
    # TensorBoard sorts them by this flag and then by name, and shows the first five.
    infos = [
        HParamInfo(
            name=key,
            type=DATA_TYPE_FLOAT64 if isinstance(cells[key], float) else DATA_TYPE_STRING,
            differs=key in typed,
        )
        for key in columns
    ]
    shown = [MetricInfo(name=MetricName(tag=tag), display_name=name) for tag, name in metrics.items()]
    start = SessionStartInfo()
    for key, value in cells.items():
        if isinstance(value, float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = value
    experiment = HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=shown))
    return (
        _summary(metadata.EXPERIMENT_TAG, experiment),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
    )


def _cell(value: object) -> float | str:
    """A number with a fraction as it is, anything else as text: the table would show 1 as 1.0000."""
    return value if isinstance(value, float) and math.isfinite(value) else as_text(str(value))


def _summary(tag: str, data: HParamsPluginData) -> Summary:
    made = Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[made])
