"""The frames of an event file, read without TensorBoard: is it whole?"""

import os
import struct
from pathlib import Path

HEAD, FRAME = 12, 16  # bytes in front of an event, its length and the check of that, and with those behind it


def event_files(directory: Path) -> list[Path]:
    """All of a run, in the order of their making."""
    return sorted(directory.glob("events.out.tfevents.*"), key=_age)


def cut_off(directory: Path) -> Path | None:
    """The last event file of a run, where it ends in the middle of an event; None where it is whole."""
    path = next(iter(event_files(directory)[::-1]), None)
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        end, place = os.fstat(file.fileno()).st_size, 0
        while place < end:
            file.seek(place)
            head = file.read(HEAD)
            place += FRAME + (struct.unpack("<Q", head[:8])[0] if len(head) == HEAD else end)
    return path if place > end else None


def cut_off_line(path: Path) -> str:
    """What is said of it, where the run has a summary and so has closed its files."""
    return f"{path} ends in the middle of an event: the run was killed then, or what followed is lost"


def _age(path: Path) -> tuple[int, int, int, str]:
    """Event files in the order of their making, by events.out.tfevents.<seconds>.<host>.<pid>.<count>.

    The name is the same wherever the file is copied to; its time of writing is not.
    """
    parts = path.name.split(".")
    seconds, pid, count = (int(part) if part.isdecimal() else 0 for part in (parts[3], *parts[-2:]))
    return seconds, pid, count, path.name
