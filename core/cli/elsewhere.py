"""The jobs of a sweep in other processes, as Hydra's launchers start them: joblib, submitit for Slurm.

The launcher starts processes and nothing else. What a job says goes to a file of its own, and how it ended to
another, so that whatever becomes of the launcher, or of a process, is seen in the folder of the sweep.
"""

import copy
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from core.cli.guard import guarded
from core.cli.headline import headline
from core.cli.stopping import answering, end_with, stops_with
from core.cli.sweeps import JOBS, Job, Sweep
from core.config import ConfigError
from core.errors import described
from core.numbers import plain_number
from core.run.directory import read_summary
from core.run.files import read_json, write_text
from core.text import shown

STOP = "stop"  # a file that ends every job of the sweep: it saves a checkpoint, or does not begin
EXTRAS = {"hydra_joblib_launcher": ("hydra-joblib-launcher", "sweep"),
          "hydra_submitit_launcher": ("hydra-submitit-launcher", "slurm")}  # fmt: skip
COUNTS = {  # options of launchers: what they may be, and words that stand for a number
    "n_jobs": ("an integer other than 0", ()),
    "batch_size": ("auto or an integer >= 1", ("auto",)),
    "pre_dispatch": ("all or an integer >= 1", ("all", "n_jobs")),
    **dict.fromkeys(("array_parallelism", "cpus_per_task", "nodes", "tasks_per_node", "timeout_min"),
                    ("an integer >= 1", ())),
}  # fmt: skip
LOST = 1  # the exit status of a job that left none: it was killed, or never begun
POLL_S = 0.5
NOTHING: dict[str, Any] = {"version": 1, "root": None}  # what Hydra logs


def refuse_missing(launcher: object, target: object) -> None:
    """Check that this is a launcher, and that its library is there.

    Raises:
        ConfigError: it is not; names the extra.
    """
    parts = str(target).split(".")
    if parts[0] != "hydra_plugins" or len(parts) < 3:
        names = "basic, joblib, submitit_local or submitit_slurm"
        raise ConfigError(f"hydra/launcher must be {names}, got {shown(launcher)}")
    library, extra = EXTRAS.get(parts[1], (parts[1], None))
    if find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{parts[1]}") is None:
        how = f": pip install 'gradsight[{extra}]'" if extra else ""
        raise ConfigError(f"hydra/launcher needs {library}, not installed{how}")


def refuse_numbers(options: Mapping[str, object]) -> None:
    """Check the numbers of a launcher, which its library would refuse when the first job is to begin.

    Raises:
        ConfigError: one of them cannot be.
    """
    for name, (allowed, words) in COUNTS.items():
        value = options.get(name)
        if value is None or (isinstance(value, str) and any(word in value for word in words)):
            continue
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if number == 0 or (number < 0 and name != "n_jobs"):
            raise ConfigError(f"hydra.launcher.{name} must be {allowed}, got {shown(value)}")


def run_elsewhere(sweep: Sweep, jobs: Sequence[Job], config: DictConfig) -> list[int]:
    """Let a launcher run the jobs, say of each how it ended, and return their exit statuses.

    A first signal stops all jobs, which save a checkpoint; a second one ends this process.

    Args:
        sweep: what they have in common; its folder is known.
        jobs: to be run, or to go on.
        config: `hydra` alone, as composed for the first job.

    Raises:
        ConfigError: the launcher cannot be made, or has begun no job.
    """
    assert sweep.place is not None
    folder = Path(sweep.place, JOBS)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / STOP, *(folder / f"{job.number}.json" for job in jobs)):
        path.unlink(missing_ok=True)
    launcher = _launcher(sweep, config)
    print(f"{len(jobs)} jobs; what each says is in {folder}/", flush=True)
    ended = threading.Event()
    console = threading.Thread(target=_say_ends, args=(sweep, jobs, ended), daemon=True)
    console.start()
    failed: Exception | None = None
    with _stopping(folder / STOP), _one_thread():
        try:
            launcher.launch([_packed(job) for job in jobs], 0)
        except Exception as error:  # a process that was killed takes the others of joblib with it
            failed = error
    ended.set()
    console.join()
    if failed is not None:
        if not any((folder / f"{job.number}.txt").exists() for job in jobs):
            raise ConfigError(f"hydra/launcher: {described(failed)}") from failed
        print(f"the launcher has ended early: {described(failed)}", file=sys.stderr, flush=True)
    for job in jobs:
        if not (folder / f"{job.number}.json").exists():
            said = folder / f"{job.number}.txt"
            became = f"was killed; what it said is in {said}" if said.exists() else "has not begun"
            print(f"job {job.number + 1} of {len(jobs)}, {job.name}: {became}", flush=True)
    return [_status(folder, job) for job in jobs]


@dataclass(frozen=True)
class _Work:
    """One job, in the process that the launcher has started for it.

    Attributes:
        sweep: to which it belongs.
    """

    sweep: Sweep

    def __call__(self, cfg: DictConfig) -> int:
        job = _unpacked(cast(list[str], OmegaConf.to_container(cfg.job, resolve=False)))
        folder = Path(str(self.sweep.place), JOBS)
        said, parent = folder / f"{job.number}.txt", os.getppid()
        again = said.exists()  # the launcher has queued it again, or the sweep is resumed
        if (folder / STOP).exists():
            status = 128 + signal.SIGTERM
        else:
            if "" not in sys.path:  # classes of the user's own are found in the folder of the command
                sys.path.append("")
            with _into(said), stops_with(folder / STOP):
                goes_on = again or self.sweep.words is not None
                status = guarded(lambda: self.sweep.run(job, continuing=goes_on))
        write_text(folder / f"{job.number}.json", json.dumps({"status": status}))
        if os.getppid() != parent:  # nobody is left who would end this process, or give it another job
            os._exit(status)
        return status


class _Loader:
    """What a launcher asks for the configuration of a job: that of all jobs, and which one it is."""

    def load_sweep_config(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """Hydra's name for it."""
        config = copy.deepcopy(master)
        OmegaConf.set_readonly(config.hydra, False)  # as `HydraConfig` has made it
        with open_dict(config):
            config.job = overrides
        return config


def _launcher(sweep: Sweep, config: DictConfig) -> Any:
    """The launcher, whose processes write nothing of Hydra's.

    Raises:
        ConfigError: an option of it cannot be.
    """
    from hydra._internal.callbacks import Callbacks
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals
    from hydra.types import HydraContext

    setup_globals()
    config = copy.deepcopy(config)
    with open_dict(config):
        config.hydra.sweep.update({"dir": sweep.place, "subdir": JOBS})
        config.hydra.hydra_logging = config.hydra.job_logging = NOTHING
        config.hydra.output_subdir = None
    HydraConfig.instance().set_config(config)
    context = HydraContext(config_loader=cast(Any, _Loader()), callbacks=Callbacks())
    try:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=cast(Any, _Work(sweep)), config=config
        )
    except Exception as error:  # of any kind: it meets what was typed unprepared
        raise ConfigError(f"hydra/launcher: {described(error)}") from error
    if isinstance(joblib := getattr(launcher, "joblib", None), dict):
        # Its processes would wait for five minutes after this one was killed between two jobs.
        joblib |= {"initializer": end_with, "initargs": (os.getpid(),)}
    return launcher


def _packed(job: Job) -> list[str]:
    """A job as a launcher hands it on: a list of texts."""
    return [str(job.number), job.name, str(job.subdir), *job.words]


def _unpacked(texts: Sequence[str]) -> Job:
    number, name, subdir, *words = texts
    return Job(int(number), tuple(words), name, subdir)


def _say_ends(sweep: Sweep, jobs: Sequence[Job], ended: threading.Event) -> None:
    """Print a line for each job that ends, until all have, or the launcher has."""
    folder = Path(str(sweep.place), JOBS)
    left = {f"{job.number}.json": job for job in jobs}
    while left:
        last = ended.is_set()
        for name in sorted(left.keys() & set(os.listdir(folder)), key=lambda name: left[name].number):
            job = left.pop(name)
            print(f"job {job.number + 1} of {len(jobs)}, {job.name}: {_outcome(sweep, job)}", flush=True)
        if last:
            break
        ended.wait(POLL_S)


def _outcome(sweep: Sweep, job: Job) -> str:
    """What a job has reached, or why it has not."""
    folder, directory = Path(str(sweep.place), JOBS), sweep.directory(job)
    status = _status(folder, job)
    if status == 0 and directory is not None:
        found = headline(read_summary(directory) or {})
        return f"{found[0]} {plain_number(found[1])}" if found else "finished"
    said = folder / f"{job.number}.txt"
    if not said.exists():
        return "has not begun"
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    why = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")][-1:]
    became = "stopped" if status > 128 else "failed"
    return f"{became}, status {status}: {why[0] if why else f'what it said is in {said}'}"


def _status(folder: Path, job: Job) -> int:
    path = folder / f"{job.number}.json"
    noted = read_json(path) if path.exists() else None
    return int(noted["status"]) if isinstance(noted, dict) else LOST


@contextmanager
def _into(path: Path) -> Iterator[None]:
    """Let everything that this process says go to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(number) for number in (1, 2)]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), before, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(file)


@contextmanager
def _stopping(marker: Path) -> Iterator[None]:
    """Hand a first SIGINT or SIGTERM on to all jobs, wherever they run, and wait for them."""

    def on_signal(number: int, frame: object) -> None:
        if marker.exists():
            raise KeyboardInterrupt
        marker.touch()
        print("stopping all jobs; each saves a checkpoint; a second signal ends this at once", flush=True)

    with answering(on_signal):
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let each process compute with one thread, unless the user's environment says how many."""
    typed = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        yield
    finally:
        if not typed:
            os.environ.pop("OMP_NUM_THREADS", None)
