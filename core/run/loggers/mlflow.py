"""MLflow: a run in its tracking store, a database on this machine or a server."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.config import Tree, flat
from core.run.directory import jsonable
from core.run.loggers.logger import Opening, require_installed

if TYPE_CHECKING:  # it takes seconds to import
    from mlflow import MlflowClient

ENDS = {"finished": "FINISHED", "stopped": "KILLED"}  # its status, by ours; any other is FAILED
MOST_PARAMS, LONGEST = 100, 6000  # of one call; characters of a value


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """The option `logger=mlflow`.

    Attributes:
        tracking_uri: `sqlite:///mlflow.db`, `http://localhost:5000`; None = MLFLOW_TRACKING_URI, and without
            it what MLflow chooses, `mlflow.db` in the folder of the command.
        experiment: it is made if need be.
        name: of the run; None = from its directory.
    """

    tracking_uri: str | None = None
    experiment: str = "gradsight"
    name: str | None = None

    def check(self) -> None:
        """MLflow must be installed."""
        require_installed("mlflow", "mlflow")

    def open(self, opening: Opening) -> "MLflowRun":
        """Begin a run whose parameters are the options, or go on in it."""
        from mlflow import MlflowClient

        client = MlflowClient(self.tracking_uri)
        if "run_id" in opening.state:
            client.update_run(opening.state["run_id"], status="RUNNING")
            return MLflowRun(client, opening.state["run_id"])
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        made = client.create_run(
            experiment, tags=dict.fromkeys(opening.tags, ""), run_name=self.name or opening.name
        )
        run = MLflowRun(client, made.info.run_id)
        run.config(opening.options)
        return run


class MLflowRun:
    """One run there.

    Args:
        client: of the store.
        run_id: of the run.
    """

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._status = "FAILED"

    def config(self, options: Tree) -> None:
        """Options by dotted name as parameters, and all of them in one file."""
        from mlflow.entities import Param

        params = [Param(_name(name), str(value)[:LONGEST]) for name, value in flat(options).items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[first : first + MOST_PARAMS])
        self.client.log_dict(self.run_id, options, "config.yaml")

    def state(self) -> dict[str, str]:
        """Its id."""
        return {"run_id": self.run_id}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log them in one call."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_name(tag), float(value), now, step) for tag, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def media(self, tag: str, path: Path, step: int) -> None:
        """Keep a copy for every step."""
        self.client.log_artifact(self.run_id, str(path), f"media/{_name(tag)}/{step}")

    def findings(self, markdown: str, step: int) -> None:
        """Keep the latest table."""
        self.client.log_text(self.run_id, markdown, "findings.md")

    def summary(self, summary: Mapping[str, object]) -> None:
        """Keep it as a file, and its status as the run's."""
        self._status = ENDS.get(str(summary["status"]), "FAILED")
        fields = {name: jsonable(value) for name, value in summary.items()}
        self.client.log_dict(self.run_id, fields, "summary.json")

    def close(self) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id, self._status)


def _name(tag: str) -> str:
    """A tag in the letters that MLflow allows."""
    return re.sub(r"[^\w\-./ :]", "_", tag)
