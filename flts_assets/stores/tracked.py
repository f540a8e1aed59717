"""What MLflow holds of a run that has ended, and who its registry calls champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flts_assets.stores.tracking import translated

if TYPE_CHECKING:
    from flts_assets.stores.tracking import Tracking

__all__ = ["TrackedRun", "artifact_of", "champion_run", "tracked_run"]


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run as it stands."""

    run_id: str
    experiment_id: str
    status: str
    deleted: bool
    started_ms: int
    ended_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def seconds(self) -> float | None:
        return None if self.ended_ms is None else (self.ended_ms - self.started_ms) / 1000


def tracked_run(tracking: Tracking, run_id: str) -> TrackedRun:
    """Raises TrackingError if MLflow knows no such run, or is away."""
    with translated(f"MLflow has no run {run_id}"):
        found = tracking.client.get_run(run_id)
    return TrackedRun(
        run_id=run_id,
        experiment_id=str(found.info.experiment_id),
        status=str(found.info.status),
        deleted=found.info.lifecycle_stage != "active",
        started_ms=int(found.info.start_time),
        ended_ms=None if found.info.end_time is None else int(found.info.end_time),
        params=dict(found.data.params),
        tags=dict(found.data.tags),
        metrics=dict(found.data.metrics),
    )


def artifact_of(tracking: Tracking, run_id: str, path: str) -> bytes:
    """An artifact's bytes. Raises TrackingError."""
    with TemporaryDirectory() as folder, translated(f"MLflow's run {run_id} has no {path}"):
        return Path(tracking.client.download_artifacts(run_id, path, folder)).read_bytes()


def champion_run(tracking: Tracking, name: str) -> str | None:
    """The run at which the alias `champion` of a registered model stands. Raises TrackingError."""
    with translated():
        registered = tracking.client.search_registered_models(f"name = '{name}'")
        if not registered or not registered[0].aliases.get("champion"):
            return None
        version = tracking.client.get_model_version_by_alias(name, "champion")
    return str(version.run_id)
