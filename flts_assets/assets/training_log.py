"""One training, told to MLflow, the run log and Dagster's event log while it happens.

Its begin and its failure are observations of the model's asset, its success is the materialisation: from
these three the outbox makes the messages of `model-training`.

The trained model is saved before it is logged. If MLflow fails during training, training goes on; if it
still fails afterwards the step fails with the model saved, and the next run logs it without training.
"""

import json
import time
from types import TracebackType
from typing import Any, Final, Literal

import dagster as dg

from flts_assets.assets.stage import StageRun
from flts_assets.errors import TrackingError
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.progress import Epoch, Progress
from flts_assets.forecasting.training import TRAINING_FILE
from flts_assets.recipe import CandidateType
from flts_assets.stores.artifacts import MANIFEST, Manifest
from flts_assets.stores.tracking import (
    ASSET_TAG,
    ATTEMPT_TAG,
    CONFIG_HASH_TAG,
    DAGSTER_RUN_TAG,
    FINGERPRINT_TAG,
    RECIPE_TAG,
    TrackingRun,
)

__all__ = ["TRAINING_STATUS", "TrainingLog"]

TRAINING_STATUS: Final = "training"
"""metadata of an observation: RUNNING or FAILED"""
_MOST_ERROR: Final = 2000
"""characters of an error that are told"""


class TrainingLog:
    """A context around a model's step; an MLflow run it opened ends with it, however it ends."""

    def __init__(self, step: StageRun, model_type: CandidateType) -> None:
        self._step = step
        self._model_type = model_type
        self._open: TrackingRun | None = None
        self._attempt = ""
        self._logged_epochs = 0
        self._started = time.monotonic()

    def __enter__(self) -> "TrainingLog":
        """After a crash of this step: its MLflow run is still RUNNING and ends now."""
        context = self._step.context
        if context.retry_number:
            try:
                self._step.platform.tracking.end_of_step(context.run.run_id, self._step.stage.name)
            except TrackingError as error:
                self._warn(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._attempt:
            told = f"{type(error).__name__}: {error}"[:_MOST_ERROR]
            self._observe("FAILED", error=told)
        if self._open is not None:
            # Interrupts, Dagster's own among them, are no Exceptions.
            failed = kind is None or issubclass(kind, Exception)
            try:
                self._open.end("FAILED" if failed else "KILLED")
            except TrackingError as refused:
                self._warn(refused)

    def start(self, attempt: str) -> None:
        """A training begins."""
        self._started = time.monotonic()
        self._attempt = attempt
        self._step.log.info("train_start", model_type=self._model_type)
        try:
            self._open = self._new_run(attempt)
        except TrackingError as error:
            self._warn(error)
        self._observe("RUNNING")

    def report(self, progress: Progress) -> None:
        """Where it stands: a line in the logs, and a finished epoch's losses to MLflow."""
        fields: dict[str, Any] = {
            "model_type": self._model_type,
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "done": round(progress.done, 4),
            "windows_per_s": round(progress.windows_per_s),
            "remaining_s": round(progress.remaining_s, 1),
        }
        if progress.train_loss is not None:
            fields["train_loss"] = progress.train_loss
        epoch = progress.finished
        if epoch is None:
            self._step.log.info("train_progress", **fields)
            return
        fields.update(net=epoch.net, seconds=round(epoch.seconds, 3))
        if epoch.validation_loss is not None:
            fields["validation_loss"] = epoch.validation_loss
        self._step.log.info("train_epoch", **fields)
        if self._open is not None and self._logged_epochs == epoch.epoch - 1:
            try:
                self._log_epoch(self._open, epoch)
            except TrackingError as error:
                self._warn(error)

    def complete(self, manifest: Manifest) -> str:
        """The id of the finished MLflow run of this saved model, logged now if it was not before.

        Raises TrackingError if MLflow refuses; the saved model stays.
        """
        if self._open is not None and self._attempt != manifest.attempt:
            # Another machine finished the same work first; its model counts.
            self._open.end("KILLED")
            self._open = None
        if self._open is None:
            tracking = self._step.platform.tracking
            found = tracking.find_finished(manifest.place.fingerprint, manifest.attempt)
            if found is not None:
                return found
            self._logged_epochs = 0
            self._open = self._new_run(manifest.attempt)
        run = self._open
        files = self._step.platform.artifacts.read_all(manifest)
        for epoch in json.loads(files[TRAINING_FILE])["epochs"][self._logged_epochs :]:
            self._log_epoch(run, Epoch(**epoch))
        self._log_model(run, manifest, files)
        run.end("FINISHED")
        self._open = None
        self._step.log.info(
            "train_complete",
            run_id=run.run_id,
            model_type=self._model_type,
            duration_ms=round((time.monotonic() - self._started) * 1000),
            fit_s=round(manifest.facts["fit_s"], 3),
        )
        return run.run_id

    def _new_run(self, attempt: str) -> TrackingRun:
        step = self._step
        tags = {
            CONFIG_HASH_TAG: step.config_hash,
            RECIPE_TAG: step.recipe.name,
            ATTEMPT_TAG: attempt,
            DAGSTER_RUN_TAG: step.context.run.run_id,
            ASSET_TAG: step.stage.name,
            "dagster.partition": step.config_hash,
            "dagster.retry_number": str(step.context.retry_number),
        }
        run = step.platform.tracking.start(self._model_type, self._params(), tags)
        step.context.instance.add_run_tags(
            step.context.run.run_id, {f"mlflow/{self._model_type.lower()}": run.run_id}
        )
        return run

    def _params(self) -> dict[str, object]:
        recipe = self._step.recipe
        settings = {
            "GRU": recipe.recurrent,
            "LSTM": recipe.recurrent,
            "PROPHET": recipe.prophet,
            "TREES": recipe.trees,
            "ENSEMBLE": recipe.ensemble,
        }[self._model_type]
        return {
            "config_hash": recipe.config_hash,
            "station": recipe.station,
            "targets": ",".join(recipe.window.targets),
            "window": recipe.window.size,
            "horizon": recipe.window.horizon,
            "seed": recipe.seed,
            **settings.model_dump(),
        }

    def _log_epoch(self, run: TrackingRun, epoch: Epoch) -> None:
        losses = {
            "train_loss": epoch.train_loss,
            "epoch_s": epoch.seconds,
        }
        if epoch.validation_loss is not None:
            losses["validation_loss"] = epoch.validation_loss
        run.log_metrics(losses, step=epoch.epoch)
        self._logged_epochs = epoch.epoch

    def _log_model(self, run: TrackingRun, manifest: Manifest, files: dict[str, bytes]) -> None:
        facts = manifest.facts
        validation = Scores.model_validate(facts["validation"])
        scores = {f"validation_{name}": value for name, value in validation.measures().items()}
        run.log_metrics({**scores, "fit_s": facts["fit_s"]})
        run.set_tags({FINGERPRINT_TAG: manifest.place.fingerprint, ATTEMPT_TAG: manifest.attempt})
        described = {MANIFEST: manifest.model_dump_json(indent=1).encode()}
        run.log_model(self._model_type, {**files, **described})

    def _observe(self, status: Literal["RUNNING", "FAILED"], **told: str) -> None:
        step = self._step
        step.context.log_event(
            dg.AssetObservation(
                asset_key=step.stage.name,
                partition=step.config_hash,
                metadata={
                    TRAINING_STATUS: status,
                    "model_type": self._model_type,
                    "attempt": self._attempt,
                    "identifier": step.identifier,
                    **({"mlflow_run_id": self._open.run_id} if self._open else {}),
                    **told,
                },
            )
        )

    def _warn(self, error: TrackingError) -> None:
        self._step.log.warning("tracking_unavailable", message=str(error))
