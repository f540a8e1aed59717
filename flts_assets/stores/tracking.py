"""MLflow: how each model was trained. One run a model and fingerprint, closed however training ends."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from flts_assets.errors import TrackingError
from flts_assets.recipe import RAW_COLUMNS

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "DAGSTER_RUN_TAG",
    "FINGERPRINT_TAG",
    "EndedRun",
    "Tracking",
    "TrackingRun",
    "experiment_of",
    "translated",
]

FINGERPRINT_TAG: Final = "flts.fingerprint"
CONFIG_HASH_TAG: Final = "flts.config_hash"
RECIPE_TAG: Final = "flts.recipe"
ATTEMPT_TAG: Final = "flts.attempt"
DAGSTER_RUN_TAG: Final = "dagster.run_id"
ASSET_TAG: Final = "dagster.asset_key"

MODEL_EXPERIMENTS: Final = ("Default", "NonML")
PIPELINE_EXPERIMENT: Final = "Pipeline"
EXPERIMENTS: Final = (*MODEL_EXPERIMENTS, PIPELINE_EXPERIMENT)


def experiment_of(model_type: str) -> str:
    """Prophet is tracked in `NonML`, everything else in `Default`."""
    return "NonML" if model_type == "PROPHET" else "Default"


@dataclass(frozen=True)
class EndedRun:
    """An MLflow run that has ended."""

    run_id: str
    status: str
    attempt: str | None
    """whose training it tells of, if the model was saved"""


@dataclass(frozen=True)
class TrackingRun:
    """An MLflow run under way. Every method raises TrackingError where MLflow refuses."""

    run_id: str
    client: MlflowClient

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """All at once, at one step."""
        with translated():
            self.client.log_batch(self.run_id, metrics=_metrics(metrics, step))

    def log_files(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Put files (name -> bytes) under the artifact folder."""
        with TemporaryDirectory() as temporary, translated():
            for name, data in files.items():
                (Path(temporary) / name).write_bytes(data)
            self.client.log_artifacts(self.run_id, temporary, folder)

    def log_model(self, folder: str, files: Mapping[str, bytes]) -> None:
        """`log_files`, with the description by which MLflow can load and serve them."""
        self.log_files(folder, {**files, "MLmodel": _mlmodel(folder, self.run_id)})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        with translated():
            self.client.log_batch(
                self.run_id, tags=[RunTag(name, value) for name, value in tags.items()]
            )

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        with translated():
            self.client.set_terminated(self.run_id, status=status)


class Tracking:
    """The MLflow store at `uri`.

    A database store is created and migrated once under a lock before anything touches it: parallel
    first uses would run the migrations at the same time and leave it broken.
    """

    def __init__(self, uri: str, artifact_root: Path, home: Path) -> None:
        self.uri = uri
        self._artifact_root = artifact_root
        self._home = home
        self._lock = home / "mlflow.lock"

    @cached_property
    def client(self) -> MlflowClient:
        """Raises TrackingError if the store cannot be opened."""
        from mlflow import MlflowClient

        with translated(f"the MLflow store at {self.uri} cannot be opened"):
            if self._database is not None:
                self._open_database(self._database)
            return MlflowClient(self.uri)

    def prepare(self) -> None:
        """Create and migrate the store if that was never done."""
        with translated():
            for name in EXPERIMENTS:
                self._experiment_id(name)

    def find_finished(self, fingerprint: str, attempt: str) -> str | None:
        """The id of the finished run of this very training, if there is one."""
        with translated():
            runs = self.client.search_runs(
                [self._experiment_id(name) for name in MODEL_EXPERIMENTS],
                f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and tags.`{ATTEMPT_TAG}` = '{attempt}'"
                " and attributes.status = 'FINISHED'",
                max_results=1,
            )
        return str(runs[0].info.run_id) if runs else None

    def start(
        self, model_type: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> TrackingRun:
        """A new run, RUNNING and named like the model. Whoever starts it ends it."""
        from mlflow.entities import Param

        with translated():
            client = self.client
            experiment_id = self._experiment_id(experiment_of(model_type))
            run = client.create_run(experiment_id, run_name=model_type, tags=dict(tags))
            started = TrackingRun(run.info.run_id, client)
            try:
                client.log_batch(
                    run.info.run_id,
                    params=[Param(name, str(value)) for name, value in params.items()],
                )
            except BaseException:
                started.end("FAILED")
                raise
            return started

    def finished(self, run_id: str) -> TrackingRun:
        """A run that has ended, to add figures that are known only later, such as test scores."""
        return TrackingRun(run_id, self.client)

    def mirror_champion(self, name: str, run_id: str, model_uri: str) -> None:
        """Let the alias `champion` of a registered model stand at this run's model.

        Both are made where they are missing; nothing happens where it stands there already.
        """
        with translated():
            client = self.client
            registered = client.search_registered_models(f"name = '{name}'")
            if not registered:
                client.create_registered_model(name)
            elif registered[0].aliases.get("champion"):
                current = client.get_model_version_by_alias(name, "champion")
                if current.run_id == run_id:
                    return
            version = client.create_model_version(name, model_uri, run_id=run_id)
            client.set_registered_model_alias(name, "champion", version.version)

    def close_abandoned(self, has_ended: Callable[[str], bool]) -> list[str]:
        """End every RUNNING run whose Dagster run has ended; returns their ids.

        `has_ended` answers for a Dagster run id, False for one it does not know: it may be somebody
        else's on the same server.
        """
        closed = []
        for run_id, dagster_run in self.running().items():
            if dagster_run is not None and has_ended(dagster_run):
                TrackingRun(run_id, self.client).end("KILLED")
                closed.append(run_id)
        return closed

    def end_of_step(self, dagster_run: str, asset: str) -> None:
        """End what a step of this Dagster run, now dead, left RUNNING."""
        of_step = f"tags.`{DAGSTER_RUN_TAG}` = '{dagster_run}' and tags.`{ASSET_TAG}` = '{asset}'"
        for run_id in self.running(of_step):
            TrackingRun(run_id, self.client).end("KILLED")

    def running(self, which: str = "") -> dict[str, str | None]:
        """Ids of the runs that are RUNNING, and the Dagster run each belongs to.

        `which`: a filter in MLflow's search syntax.
        """
        with translated():
            found = self.client.search_runs(
                [self._experiment_id(name) for name in EXPERIMENTS],
                " and ".join(["attributes.status = 'RUNNING'", *([which] if which else [])]),
                max_results=1000,
            )
        return {run.info.run_id: run.data.tags.get(DAGSTER_RUN_TAG) for run in found}

    def ended(self, before: datetime) -> list[EndedRun]:
        """The runs of ours, started by a Dagster run, that ended before this moment."""
        found: list[EndedRun] = []
        token = None
        with translated():
            experiments = [self._experiment_id(name) for name in EXPERIMENTS]
            while True:
                page = self.client.search_runs(
                    experiments,
                    f"attributes.end_time < {int(before.timestamp() * 1000)}",
                    page_token=token,
                )
                found += [
                    EndedRun(run.info.run_id, run.info.status, run.data.tags.get(ATTEMPT_TAG))
                    for run in page
                    if DAGSTER_RUN_TAG in run.data.tags
                    and run.info.status in ("FINISHED", "FAILED", "KILLED")
                ]
                token = page.token
                if not token:
                    return found

    def delete(self, run_id: str) -> None:
        """Mark it deleted; `mlflow gc` removes it and its files for good."""
        with translated():
            self.client.delete_run(run_id)

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (self._artifact_root / name).as_uri() if self._database else None
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:  # somebody else created it in between
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    @property
    def is_own(self) -> bool:
        """A database of this deployment: not a server, nor a file elsewhere, which others may use too."""
        return self._database is not None and self._database.resolve().is_relative_to(
            self._home.resolve()
        )

    @property
    def _database(self) -> Path | None:
        """The file of a SQLite store."""
        if not self.uri.startswith("sqlite:"):
            return None
        return Path(self.uri.removeprefix("sqlite:///"))

    def _open_database(self, database: Path) -> None:
        from filelock import FileLock
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        self._lock.parent.mkdir(parents=True, exist_ok=True)
        self._artifact_root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            if database.exists():
                return
            # Built beside and moved into place when complete: a migration that was killed midway
            # cannot be taken up again. The first opening also decides where the experiment
            # `Default` keeps its artifacts.
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
            fresh = database.with_name(f"{database.name}.new")
            fresh.unlink(missing_ok=True)
            store = SqlAlchemyStore(
                f"sqlite:///{fresh}", (self._artifact_root / "Default").as_uri()
            )
            store.engine.dispose()
            fresh.replace(database)


@contextmanager
def translated(what: str = "MLflow refused or went away") -> Iterator[None]:
    """MLflow's own and its transport's errors as one TrackingError."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"{what}: {error}",
            remedy=(
                "check MLFLOW_TRACKING_URI and that its server runs (flts doctor), then run again:"
                " no saved model is trained twice; an old database: mlflow db upgrade URI"
            ),
        ) from error


def _mlmodel(model_type: str, run_id: str) -> bytes:
    """Loaded by our own code, not unpickled (MLflow, "python_function" flavor, loader_module)."""
    from mlflow.models.model import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [ColSpec("string", "time"), *(ColSpec("double", name) for name in RAW_COLUMNS)]
    model = Model(
        artifact_path=model_type,
        run_id=run_id,
        signature=ModelSignature(
            inputs=Schema(columns), params=ParamSchema([ParamSpec("inference_length", "long", 1)])
        ),
    )
    model.add_flavor(
        "python_function",
        loader_module="flts_assets.forecasting.pyfunc",
        data=".",
        python_version=platform.python_version(),
        env={},
    )
    return str(model.to_yaml()).encode()


def _metrics(metrics: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in metrics.items()]
