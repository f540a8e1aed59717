"""Ending what a killed process left: its run, its slots in the pool, its MLflow runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flts_assets.automation.pool import free_slots
from flts_assets.automation.workers import Worker, worker_lock, worker_of

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["close_abandoned_runs", "dead_runs", "fail_run", "has_ended", "why_dead"]


NEVER_STARTED_S = 180.0
"""A run is queued or started by whoever made its record, at once; Dagster's monitoring waits as long."""


def dead_runs(instance: dg.DagsterInstance, folder: Path) -> Iterator[dg.DagsterRun]:
    """Runs under way whose worker is gone, and those that nobody ever queued or started."""
    import dagster as dg

    under_way = instance.get_run_records(
        dg.RunsFilter(
            statuses=[
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.CANCELING,
            ]
        )
    )
    for record in under_way:
        run = record.dagster_run
        worker = worker_of(run, instance, folder)
        if worker is Worker.GONE or (worker is Worker.UNKNOWN and _was_never_started(record)):
            now = instance.get_run_by_id(run.run_id)  # it may have ended since the list was read
            if now is not None and not now.is_finished:
                yield now


def _was_never_started(record: dg.RunRecord) -> bool:
    """Its record was made, and whoever made it was killed before anything else."""
    import dagster as dg

    age_s = time.time() - record.create_timestamp.timestamp()
    return record.dagster_run.status is dg.DagsterRunStatus.NOT_STARTED and age_s > NEVER_STARTED_S


def close_abandoned_runs(instance: dg.DagsterInstance, folder: Path) -> list[str]:
    """Fail every run whose worker is gone, and free the slots of all that ended; their ids."""
    closed = list(dead_runs(instance, folder))
    for run in closed:
        fail_run(run, instance, folder)
    free_slots(instance)
    return [run.run_id for run in closed]


def fail_run(run: dg.DagsterRun, instance: dg.DagsterInstance, folder: Path) -> None:
    """End a run that `dead_runs` names."""
    instance.report_run_failed(run, f"{why_dead(run).capitalize()}.")
    worker_lock(run.run_id, folder).unlink(missing_ok=True)


def why_dead(run: dg.DagsterRun) -> str:
    """What is wrong with a run that `dead_runs` names."""
    import dagster as dg

    if run.status is dg.DagsterRunStatus.NOT_STARTED:
        return "the process that was to start it is gone"
    return "the process that ran it is gone"


def has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    """False for a run that this instance does not know: it may be somebody else's."""
    found = instance.get_run_by_id(run_id)
    return found is not None and found.is_finished
