"""The event file: all scalars of a step in one event, pictures, texts and hyper-parameters of the same run.

One event for 20 scalars costs a twelfth of 20 `add_scalar` calls. Videos are animated GIFs in an image
summary: torch's `add_video` drops them silently with current moviepy.
"""

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from core.draw.media import Image, Media
from core.errors import DiskError, GoneError
from core.run.dashboard import Layout
from core.run.event_file import FRAME, HEAD, event_files
from core.run.summaries import page, proto, row
from core.text import as_text

FLUSH_S = 30.0  # after which a TensorBoard that is looking on sees what is new
_COUNT = itertools.count()  # tells the files apart that one process begins in the same second


class Writer:
    """Writes one run's event file.

    Args:
        directory: where the file goes, made if need be; a resumed run adds another file to the same place.
        purge_step: on resume, the first step that will be written again; TensorBoard forgets what an earlier
            file had from there on.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Not torch's SummaryWriter: its thread reports a full disk late, and some paths are none to it.
        self._path = directory / (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_COUNT)}"
        )
        with self._disk():
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        self._records = RecordWriter(self._file)
        self._flushed = time.monotonic()
        self._event(0, file_version="brain.Event:2")
        if purge_step is not None:
            start = proto("compat.proto.event").SessionLog(
                status=proto("compat.proto.event").SessionLog.START
            )
            self._event(purge_step, session_log=start)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write all values in one event; a NaN or infinity is written as it is."""
        self._add(step, *({"tag": tag, "simple_value": value} for tag, value in sorted(values.items())))

    def media(self, tag: str, media: Media, data: bytes, step: int) -> None:
        """Write a picture or a video, whose bytes `data` are."""
        height, width = (media.pixels if isinstance(media, Image) else media.frames[0]).shape[:2]
        image = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": data}
        self._add(step, {"tag": tag, "image": image})

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
        from torch.utils.tensorboard.summary import text

        self._event(step, summary=text(tag, as_text(markdown)))

    def hparams(
        self,
        options: Mapping[str, object],
        typed: Mapping[str, object],
        swept: Sequence[str],
        metrics: Mapping[str, str],
    ) -> None:
        """Write this run's row of the HPARAMS table; see `core.run.summaries.row`."""
        for summary in row(options, typed, swept, metrics):
            self._event(0, summary=summary)

    def layout(self, layout: Layout, step: int) -> None:
        """Write the page of CUSTOM SCALARS; the last one that a run has written is shown."""
        self._event(step, summary=page(layout))

    @property
    def there(self) -> bool:
        """Whether the file is open, and still where it was made: not removed or moved."""
        with suppress(OSError, ValueError):  # the latter once it is closed
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        return False

    def flush(self) -> None:
        """Hand everything to the operating system; after this a kill loses nothing written so far.

        Raises:
            GoneError: the file is no longer there.
            DiskError: the disk is full or refuses.
        """
        self._require_there()
        self._flushed = time.monotonic()
        with self._disk():
            self._file.flush()

    def close(self) -> None:
        """Flush and close; what can no longer be written, `flush` has said."""
        with suppress(OSError):
            self._file.close()

    def _add(self, step: int, *values: Mapping[str, object]) -> None:
        """Write the values of one step as one event."""
        self._require_there()
        self._event(step, summary=proto("compat.proto.summary").Summary(value=values))
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def _event(self, step: int, **content: object) -> None:
        event = proto("compat.proto.event").Event(wall_time=time.time(), step=step, **content)
        with self._disk():
            self._records.write(event.SerializeToString())

    def _require_there(self) -> None:
        """Check that nobody has taken the file away: what is written into it would be lost in silence."""
        if not self.there:
            raise GoneError(
                f"{self._path.parent} was removed, moved or emptied while the run was at work: nothing more "
                "is written there"
            )

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Name the file where it cannot be written."""
        try:
            yield
        except OSError as error:
            raise DiskError(f"{self._path} cannot be written: {error.strerror}") from error


def read_scalars(directory: Path) -> dict[str, dict[int, float]]:
    """The curves of `read_events`."""
    return read_events(directory)[0]


def read_events(directory: Path) -> tuple[dict[str, dict[int, float]], list[Path]]:
    """All curves of a run: the last value written per tag and step, over all event files in order.

    As TensorBoard does it, a resumed run's file takes back what earlier files have from its `purge_step` on.

    Args:
        directory: a run directory.

    Returns:
        {tag: {step: value}}, steps ascending, and the damaged files. A file cut off in the middle of an event
        gives what it has and is not damaged: its run was killed, or is at work.
    """
    event_pb2 = proto("compat.proto.event")

    curves: dict[str, dict[int, float]] = {}
    damaged = []
    for path in event_files(directory):
        size = 0
        for raw in _events(path) if path.is_file() else ():
            size += len(raw) + FRAME
            event = event_pb2.Event.FromString(raw)
            if event.session_log.status == event_pb2.SessionLog.START:
                for points in curves.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    curves.setdefault(value.tag, {})[event.step] = value.simple_value
        damaged += [path] if not path.is_file() or _damaged(path, size) else []
    return {tag: dict(sorted(points.items())) for tag, points in curves.items() if points}, damaged


def curves_until(directory: Path, step: int) -> set[str]:
    """Tags of the curves that a run had at a step, by its event files."""
    return {tag for tag, points in read_scalars(directory).items() if min(points) <= step}


def _events(path: Path) -> Iterator[bytes]:
    """All whole events of a file."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    with path.open("rb") as file:
        name = str(path)
        readable = name == as_text(name)  # TensorBoard opens no path that is not UTF-8
        yield from RawEventFileLoader(name if readable else f"/dev/fd/{file.fileno()}").Load()


def _damaged(path: Path, start: int) -> bool:
    """Whether what follows the whole events of a file, from byte `start` on, is no event that is cut off."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    with path.open("rb") as file:
        file.seek(start)
        head = file.read(HEAD)
        if len(head) < HEAD:
            return False
        size, check = struct.unpack("<QI", head)
        if check != masked_crc32c(head[:8]):
            return True
        rest = file.read(size + 4)
    whole = len(rest) == size + 4
    return whole and rest[size:] != struct.pack("<I", masked_crc32c(rest[:size]))
