"""Running the main job in this process, through the Dagster instance that the web UI shows.

The process that launches is the run's worker. It holds a lock file as long as it lives, so that the next
launch can tell a run that is under way from one whose worker was killed.
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob

    from flts_assets.recipe import Recipe

__all__ = ["close_abandoned_runs", "execute", "new_run", "stages_of", "warm_up"]

DEFINITIONS_MODULE = "flts_assets.definitions"
LOCATION = "flts_assets"
JOB = "pipeline"
WORKER_TAG = "flts/worker"
RECIPE_TAG = "flts/recipe"


def warm_up() -> None:
    """Start the fork server now: it imports what steps need while this process does other things."""
    modules = ["flts_assets.automation.preload", "flts_assets.cli"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    forkserver.ensure_running()


@contextmanager
def new_run(
    recipe: Recipe,
    instance: dg.DagsterInstance,
    lock_folder: Path,
    *,
    force: bool,
    identifier: str | None,
) -> Iterator[dg.DagsterRun]:
    """A run of the main job for this (registered) recipe, as the UI's launchpad would create it.

    It holds the stages that the recipe asks for; from the launchpad the others say that there is
    nothing to do. Inside the context its worker counts as alive.
    """
    from dagster._core.utils import make_new_run_id
    from filelock import FileLock

    run_id = make_new_run_id()
    lock = _lock_path(run_id, lock_folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            yield _created(run_id, recipe, instance, force=force, identifier=identifier)
    finally:
        lock.unlink(missing_ok=True)


def _created(
    run_id: str,
    recipe: Recipe,
    instance: dg.DagsterInstance,
    *,
    force: bool,
    identifier: str | None,
) -> dg.DagsterRun:
    import dagster as dg
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    job = _job().get_subset(asset_selection={dg.AssetKey(stage) for stage in stages_of(recipe)})
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable, module_name=DEFINITIONS_MODULE
        ),
        location_name=LOCATION,
    )
    origin = RemoteRepositoryOrigin(location, "__repository__").get_job_origin(JOB)
    return instance.create_run_for_job(
        job_def=job.get_definition(),
        run_id=run_id,
        run_config={
            "resources": {"platform": {"config": {"force": force, "identifier": identifier}}}
        },
        tags={
            "dagster/partition": recipe.config_hash,
            RECIPE_TAG: recipe.name,
            WORKER_TAG: socket.gethostname(),
        },
        remote_job_origin=origin,
        job_code_origin=job.get_python_origin(),
        asset_selection=job.asset_selection,
    )


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The assets that a recipe asks for, in the order of their dependence."""
    return (
        *("raw_data", "processed_data"),
        *(f"{model.lower()}_model" for model in recipe.models),
        *(("ensemble_model",) if recipe.ensemble.members else ()),
        *(("backtest",) if recipe.backtest.cutoffs else ()),
        *("leaderboard", "promoted_model"),
    )


def execute(run: dg.DagsterRun, instance: dg.DagsterInstance) -> bool:
    """Run it to its end; True if every step succeeded."""
    from dagster._core.execution.api import execute_run_iterator

    job = _job().get_subset(asset_selection=run.asset_selection)
    for _event in execute_run_iterator(job, run, instance):
        pass
    finished = instance.get_run_by_id(run.run_id)
    return finished is not None and finished.is_success


def close_abandoned_runs(instance: dg.DagsterInstance, folder: Path) -> list[str]:
    """Fail every run whose worker was launched on this machine and no longer lives; their ids."""
    import dagster as dg
    from filelock import FileLock, Timeout

    under_way = instance.get_runs(
        dg.RunsFilter(
            tags={WORKER_TAG: socket.gethostname()},
            statuses=[
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.CANCELING,
            ],
        )
    )
    closed = []
    for run in under_way:
        path = _lock_path(run.run_id, folder)
        try:
            with FileLock(path, timeout=0):
                # It may have ended properly since the list was read.
                now = instance.get_run_by_id(run.run_id)
                if now is not None and not now.is_finished:
                    instance.report_run_failed(now, "The process that ran it is gone.")
                    closed.append(run.run_id)
        except Timeout:
            continue
        path.unlink(missing_ok=True)
    return closed


def _job() -> ReconstructableJob:
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    return ReconstructableRepository.for_module(DEFINITIONS_MODULE, "defs").get_reconstructable_job(
        JOB
    )


def _lock_path(run_id: str, folder: Path) -> Path:
    return folder / "workers" / f"{run_id}.lock"
