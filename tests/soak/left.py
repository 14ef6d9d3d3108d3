"""What a run leaves, by name, without what tells of a clock or of the machine: everything must be equal."""

from collections.abc import Mapping
from pathlib import Path

from tests.golden.run import digest, hashed, leaves, repeats

OWN = (".lock", ".hydra")  # of the start, not of the run


def contents(directory: Path) -> dict[str, str]:
    """Every number, text and picture in the files of a run, as a digest."""
    found: dict[str, str] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory)
        if not set(OWN) & set(name.parts) and not path.name.startswith("events.out.tfevents."):
            found |= {f"{name}: {inside}": value for inside, value in file_contents(path).items()}
    return found | {f"events: {name}": value for name, value in events(directory).items()}


def file_contents(path: Path) -> dict[str, str]:
    """The leaves of a checkpoint or of a JSON file, the columns of a table; any other file is one."""
    import csv
    import json

    import torch

    if path.suffix == ".pt":
        whole = torch.load(path, map_location="cpu", weights_only=True)
    elif path.suffix == ".json":
        whole = json.loads(path.read_text())
    elif path.suffix == ".csv":
        columns = zip(*csv.reader(path.read_text().splitlines()), strict=True)
        return {name: repr(cells) for name, *cells in columns if not name.startswith("time/")}
    else:
        return {"": digest(path.read_bytes())}
    return {
        name: hashed(value) if isinstance(value, torch.Tensor) else repr(value)
        for name, value in leaves(whole)
        if repeats(name) and "solved_at" not in name
    }


def events(directory: Path) -> dict[str, str]:
    """Every curve, histogram, picture and text of a run at every step, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    found: dict[tuple[str, int], str] = {}
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            if event.session_log.status == SessionLog.START:
                found = {key: value for key, value in found.items() if key[1] < event.step}
            for value in event.summary.value:
                found[value.tag, event.step] = digest(value.SerializeToString())
    return {
        f"{tag} at {step}": value
        for (tag, step), value in found.items()
        if not tag.startswith("_hparams_") and repeats(tag)
    }


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A line for each name whose contents differ, or that only one of both has."""
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
