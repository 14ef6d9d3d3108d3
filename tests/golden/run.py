"""Run short commands of one tree and reduce each run to digests: `python run.py TREE COMMANDS RESULTS`.

Nothing of the tree is imported but the entry points that its pyproject.toml names, so that this works for any
revision. COMMANDS is a JSON file {name: [line, …]}; RESULTS becomes one {name: result}, where a result is
{run directory: {"parameters" | "tags" | "fields": {name: digest}}}, or {"error": why there is none}.
"""

import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

WORKERS = 2
# Imported once and shared by all children, because a command would spend most of its time on them.
HEAVY = (
    "torch", "torch.func", "torch.utils.tensorboard", "torchvision", "torchmetrics", "numpy", "pygame",
    "scipy.optimize", "scipy.stats", "sklearn.datasets", "sklearn.decomposition", "matplotlib.pyplot",
    "gymnasium", "gymnasium.envs.classic_control", "hydra", "rich",
    "tensorboard.backend.event_processing.event_file_loader",
)  # fmt: skip
HOST = ("versions", "git")  # fields that tell of the machine and the checkout
CLOCKS = ("wall_s", "cpu_s", "train_s", "per_s")  # ends of what tells of a clock
# An Atari console before its first reset with a seed: until then its generator has chosen one itself.
UNSEEDED = "hidden/array"


def main(tree: Path, commands: dict[str, list[str]], scratch: Path) -> dict[str, dict]:
    """Results of all commands, several at a time."""
    use(tree)
    fork = multiprocessing.get_context("fork")
    waiting, running, results = list(commands), {}, {}
    while waiting or running:
        while waiting and len(running) < WORKERS:
            name = waiting.pop(0)
            child = fork.Process(target=run, args=(tree, commands[name], scratch / name), name=name)
            child.start()
            running[child.sentinel] = child
        for sentinel in wait(list(running)):
            child = running.pop(sentinel)
            child.join()
            result = scratch / child.name / "result.json"
            ended = {"error": f"no result; the child ended with {child.exitcode}"}
            results[child.name] = json.loads(result.read_text()) if result.is_file() else ended
    return {name: results[name] for name in commands}


class Elsewhere(MetaPathFinder):
    """Finds packages that do not lie inside of the one that their name says."""

    def __init__(self, places: dict[str, Path]) -> None:
        self.places = places

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package in its place, if it is one of them."""
        if fullname not in self.places:
            return None
        place = self.places[fullname]
        inside = [str(place)]
        return spec_from_file_location(fullname, place / "__init__.py", submodule_search_locations=inside)


def use(tree: Path) -> None:
    """Let imports find the packages of this tree, never an installed copy of them; changes nothing in it."""
    sys.meta_path[:] = [
        f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")
    ]
    sys.path.insert(0, str(tree))
    folders = setup(tree)["tool"]["setuptools"].get("package-dir", {})
    sys.meta_path.append(Elsewhere({name: tree / folder for name, folder in folders.items()}))
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def setup(tree: Path) -> dict:
    """The tree's pyproject.toml."""
    return tomllib.loads((tree / "pyproject.toml").read_text())


def run(tree: Path, lines: list[str], place: Path) -> None:
    """Call the lines of one command in `place`/here and leave `place`/result.json."""
    here = place / "here"
    here.mkdir(parents=True)
    os.chdir(here)
    result: dict | None = None
    for number, line in enumerate(lines):
        words = shlex.split(line)
        stopped = words[0] == "stopped"
        log = place / f"{number}.log"
        child = multiprocessing.get_context("fork").Process(
            target=call, args=(tree, words[stopped:], log, stopped)
        )
        child.start()
        child.join()
        expected = 128 + signal.SIGTERM if stopped else 0
        if child.exitcode != expected:
            said = (log.read_text(errors="replace").strip() or "nothing").splitlines()[-1]
            result = {"error": f"line {number + 1} ended with {child.exitcode}, not {expected}: {said[:300]}"}
            break
    (place / "result.json").write_text(json.dumps(result or digests(here) or {"error": "no run directory"}))


def call(tree: Path, words: list[str], log: Path, stopped: bool) -> None:
    """One line in this process, its output in a file."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if stopped:
        threading.Thread(target=stop, args=(Path("run/checkpoints/last.pt"),), daemon=True).start()
    module, _, function = setup(tree)["project"]["scripts"][words[0]].partition(":")
    sys.argv = words
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        elsewhere = sorted(strangers(tree))
        if elsewhere:
            print(f"not of this tree: {', '.join(elsewhere)}", flush=True)
            os._exit(70)


def stop(checkpoint: Path) -> None:
    """Ask this process to end once the file is there."""
    while not checkpoint.exists():
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGTERM)


def strangers(tree: Path) -> Iterator[str]:
    """Modules of the project's packages that were imported from elsewhere."""
    packages = {name.partition(".")[0] for name in setup(tree)["tool"]["setuptools"]["packages"]}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in packages and file and not Path(file).resolve().is_relative_to(tree):
            yield name


def digests(here: Path) -> dict[str, dict]:
    """What every run directory below holds, by its path from here."""
    found = {}
    for options in sorted(here.glob("**/config.yaml")):
        if options.parent.name != ".hydra":
            directory = options.parent
            found[str(directory.relative_to(here))] = {
                "parameters": tensors(directory / "checkpoints" / "last.pt"),
                "tags": curves(directory),
                "fields": fields(directory),
            }
    return found


def tensors(checkpoint: Path) -> dict[str, str]:
    """A hash of type, shape and bytes of every tensor in a checkpoint: parameters, moments, generators."""
    import torch

    if not checkpoint.exists():
        return {}
    state = dict(leaves(torch.load(checkpoint, map_location="cpu", weights_only=True)))
    kept = {name: value for name, value in state.items() if isinstance(value, torch.Tensor) and repeats(name)}
    return {name: hashed(value) for name, value in kept.items() if not name.endswith(UNSEEDED)}


def hashed(tensor) -> str:
    """A digest of a tensor that is equal only for the same bits."""
    import torch

    flat = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy()
    return digest(f"{tensor.dtype}{tuple(tensor.shape)}".encode() + flat.tobytes())


def digest(data: bytes) -> str:
    """A short hash."""
    return hashlib.sha256(data).hexdigest()[:16]


def curves(directory: Path) -> dict[str, str]:
    """Step and last value of every curve but `time/…`, and a hash of every last histogram."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    last = {}
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    last[value.tag] = f"{event.step}: {value.simple_value.hex()}"
                elif value.HasField("histo"):
                    last[value.tag] = f"{event.step}: {digest(value.histo.SerializeToString())}"
    return {tag: value for tag, value in sorted(last.items()) if not tag.startswith("time/")}


def fields(directory: Path) -> dict[str, str]:
    """Every value of the JSON files without clocks and host; a finding is named by rule and place."""
    found = {}
    for path in sorted(directory.glob("*.json")):
        content = json.loads(path.read_text())
        if path.name == "findings.json":
            content = {
                "/".join(place(f)): {k: f[k] for k in ("severity", "evidence")} for f in content["findings"]
            }
        for name, value in leaves(content, path.stem):
            if repeats(name):
                found[name] = value.hex() if isinstance(value, float) else json.dumps(value)
    return found


def repeats(name: str) -> bool:
    """Whether what has this name does not depend on the host or a clock."""
    return not any(part in HOST or part.endswith(CLOCKS) for part in name.split("/"))


def place(finding: dict) -> list[str]:
    """Rule, player and layer."""
    return [str(finding[key]) for key in ("name", "player", "layer") if finding[key]]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Everything in nested containers that is none itself, by its path; an empty one is there itself."""
    if isinstance(value, dict) and value:
        inner = list(value.items())
    elif isinstance(value, list | tuple) and value:
        inner = list(enumerate(value))
    else:
        yield path, value
        return
    for key, child in inner:
        yield from leaves(child, f"{path}/{key}" if path else str(key))


if __name__ == "__main__":
    tree, commands, results = (Path(word).resolve() for word in sys.argv[1:])
    found = main(tree, json.loads(commands.read_text()), commands.parent)
    results.write_text(json.dumps(found))
