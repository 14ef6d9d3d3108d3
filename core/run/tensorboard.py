"""The event file: all scalars of a step in one event, pictures, texts and hyper-parameters of the same run.

One event for 20 scalars costs a twelfth of 20 `add_scalar` calls. Videos are animated GIFs in an image
summary: torch's `add_video` drops them silently with current moviepy.
"""

import importlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from core.draw.media import Image, Media, encode
from core.errors import ContractError


class Writer:
    """Writes one run's event file.

    Args:
        directory: where the file goes; a resumed run adds another file to the same place.
        purge_step: on resume, the first step that will be written again; TensorBoard forgets what an earlier
            file had from there on.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._directory = directory
        self._excepthook, threading.excepthook = threading.excepthook, self._on_thread_error
        with self._disk():
            self._writer = SummaryWriter(str(directory), purge_step=purge_step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write all values in one event; a NaN or infinity is written as it is."""
        self._add(step, *({"tag": tag, "simple_value": value} for tag, value in sorted(values.items())))

    def media(self, tag: str, media: Media, step: int) -> tuple[bytes, str]:
        """Write a picture or a video; return its bytes and the ending of its file name."""
        data, ending = encode(media)
        height, width = (media.pixels if isinstance(media, Image) else media.frames[0]).shape[:2]
        image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": data}
        self._add(step, {"tag": tag, "image": image})
        return data, ending

    def histogram(self, tag: str, edges: Sequence[float], counts: Sequence[int], step: int) -> None:
        """Write a histogram that is already counted: a count for every right edge, edges ascending."""
        filled = [i for i, n in enumerate(counts) if n] or [0]
        histogram = {
            "min": edges[max(filled[0] - 1, 0)],
            "max": edges[filled[-1]],
            "num": sum(counts),
            "sum": sum(n * edge for n, edge in zip(counts, edges, strict=True)),
            "sum_squares": sum(n * edge * edge for n, edge in zip(counts, edges, strict=True)),
            "bucket_limit": list(edges),
            "bucket": list(counts),
        }
        self._add(step, {"tag": tag, "histo": histogram})

    def text(self, tag: str, markdown: str, step: int) -> None:
        """Write a text in Markdown."""
        with self._disk():
            self._writer.add_text(tag, markdown, step)

    def hparams(self, options: Mapping[str, object], metrics: tuple[str, ...]) -> None:
        """Write one row of the HPARAMS table, in this run rather than in a sub-run.

        Args:
            options: by dotted name. Whole numbers and booleans are written as text, because the table would
                otherwise show as 1.0000.
            metrics: tags of the scalars that the table shows too.
        """
        from torch.utils.tensorboard.summary import hparams

        texts = {
            key: value if isinstance(value, float) else str(value)
            for key, value in options.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        experiment, start, _ = hparams(texts, dict.fromkeys(metrics, 0.0))
        with self._disk():
            for summary in (experiment, start):
                self._file().add_summary(summary)

    def flush(self) -> None:
        """Hand everything to the operating system; after this a kill loses nothing written so far."""
        with self._disk():
            self._writer.flush()

    def close(self) -> None:
        """Flush and close; what cannot be written any more has been said by `flush`."""
        with suppress(OSError):
            self._writer.close()
        threading.excepthook = self._excepthook

    def _file(self):
        return self._writer._get_file_writer()

    def _add(self, step: int, *values: Mapping[str, object]) -> None:
        """Write one event."""
        with self._disk():
            self._file().add_summary(_proto("summary").Summary(value=values), step)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name the directory where an event cannot be written."""
        try:
            yield
        except OSError as error:
            said = f"the event file in {self._directory} cannot be written: {error.strerror}"
            raise ContractError(said) from error

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        """Print no traceback of TensorBoard's thread: the next event or flush raises its error again."""
        if not isinstance(args.exc_value, OSError):
            self._excepthook(args)


def read_scalars(directory: Path) -> dict[str, dict[int, float]]:
    """All curves of a run: the last value written per tag and step, over all event files in order.

    As TensorBoard does it, a resumed run's file takes back what earlier files have from its `purge_step` on.

    Args:
        directory: a run directory.

    Returns:
        {tag: {step: value}}, steps ascending; a file cut off in the middle gives what it has.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    event_pb2 = _proto("event")

    curves: dict[str, dict[int, float]] = {}
    for path in sorted(directory.glob("events.out.tfevents.*"), key=_age):
        for raw in RawEventFileLoader(str(path)).Load():
            event = event_pb2.Event.FromString(raw)
            if event.session_log.status == event_pb2.SessionLog.START:
                for points in curves.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    curves.setdefault(value.tag, {})[event.step] = value.simple_value
    return {tag: dict(sorted(points.items())) for tag, points in curves.items() if points}


def _proto(name: str) -> ModuleType:
    """A generated protocol-buffer module; its classes exist only at run time, unseen by type checkers."""
    return importlib.import_module(f"tensorboard.compat.proto.{name}_pb2")


def _age(path: Path) -> tuple[int, int, int, str]:
    """Event files in the order of their making, by events.out.tfevents.<seconds>.<host>.<pid>.<count>.

    The name is the same wherever the file is copied to; its time of writing is not.
    """
    parts = path.name.split(".")
    seconds, pid, count = (int(part) if part.isdigit() else 0 for part in (parts[3], *parts[-2:]))
    return seconds, pid, count, path.name
