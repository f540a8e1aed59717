"""Running the main job in this process, through the Dagster instance that the web UI shows.

The process that launches is the run's worker. It holds a lock file as long as it lives, so that the next
launch can tell a run that is under way from one whose worker was killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

from flts_assets.automation.background import in_background
from flts_assets.automation.sign_of_life import giving_signs
from flts_assets.automation.workers import WORKER_TAG, worker_lock
from flts_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob

    from flts_assets.recipe import Recipe

__all__ = ["create_run", "execute", "new_run", "stages_of", "warm_up"]

DEFINITIONS_MODULE = "flts_assets.definitions"
LOCATION = "flts_assets"
JOB = "pipeline"
CANCEL_POLL_S = 5.0


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

    from flts_assets.automation.pool import set_trainers

    run_id = make_new_run_id()
    lock = worker_lock(run_id, lock_folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock), giving_signs(run_id, instance):
            set_trainers(instance, Settings.from_environment().trainers)
            yield create_run(
                run_id,
                recipe,
                instance,
                force=force,
                identifier=identifier,
                tags={
                    WORKER_TAG: socket.gethostname(),
                    # Whoever ran it at a terminal sees that it died, and the next `flts run` goes on
                    # from there.
                    "dagster/max_retries": "0",
                },
            )
    finally:
        lock.unlink(missing_ok=True)


def create_run(
    run_id: str,
    recipe: Recipe,
    instance: dg.DagsterInstance,
    *,
    force: bool,
    identifier: str | None,
    tags: Mapping[str, str],
    asked_by: dg.DagsterRun | None = None,
) -> dg.DagsterRun:
    """The record of a run of the main job for this (registered) recipe, not started yet.

    It is started as `asked_by` was: by the same code server, which on Kubernetes names image,
    configuration and secrets of its runs.
    """
    import dagster as dg
    from dagster._core.remote_origin import (
        ManagedGrpcPythonEnvCodeLocationOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    from flts_assets.assets.stage import run_tags
    from flts_assets.automation.jobs import WHOLE_TAG

    job = _job().get_subset(asset_selection={dg.AssetKey(stage) for stage in stages_of(recipe)})
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable, module_name=DEFINITIONS_MODULE
        ),
        location_name=LOCATION,
    )
    repository = RemoteRepositoryOrigin(location, "__repository__")
    code = job.get_python_origin()
    if asked_by is not None and asked_by.remote_job_origin and asked_by.job_code_origin:
        repository = asked_by.remote_job_origin.repository_origin
        code = code._replace(repository_origin=asked_by.job_code_origin.repository_origin)
    return instance.create_run_for_job(
        job_def=job.get_definition(),
        run_id=run_id,
        run_config={
            "resources": {"platform": {"config": {"force": force, "identifier": identifier}}}
        },
        tags={
            "dagster/partition": recipe.config_hash,
            **run_tags(recipe),
            WHOLE_TAG: "true",
            **tags,
        },
        remote_job_origin=repository.get_job_origin(JOB),
        job_code_origin=code,
        asset_selection=job.asset_selection,
    )


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The assets that a recipe asks for, in the order of their dependence."""
    return (
        *("raw_data", "processed_data"),
        *(f"{model.lower()}_model" for model in recipe.models),
        *(("ensemble_model",) if recipe.ensemble.members else ()),
        *(("backtest",) if recipe.backtest.cutoffs else ()),
        *("leaderboard", "promoted_model", "verification_report"),
    )


def execute(run: dg.DagsterRun, instance: dg.DagsterInstance) -> bool:
    """Run it to its end; True if every step succeeded."""
    from dagster._core.execution.api import execute_run_iterator

    job = _job().get_subset(asset_selection=run.asset_selection)
    with _interrupted_when_canceled(run.run_id, instance):
        for _event in execute_run_iterator(job, run, instance):
            pass
    finished = instance.get_run_by_id(run.run_id)
    return finished is not None and finished.is_success


@contextmanager
def _interrupted_when_canceled(run_id: str, instance: dg.DagsterInstance) -> Iterator[None]:
    """Terminate in the UI, and a run time beyond the limit, reach this process as Ctrl-C would."""
    import dagster as dg

    def watch(ended: threading.Event) -> None:
        while not ended.wait(CANCEL_POLL_S):
            run = instance.get_run_by_id(run_id)
            if run is not None and run.status == dg.DagsterRunStatus.CANCELING:
                os.kill(os.getpid(), signal.SIGINT)
                return

    with in_background(watch, "interrupt-when-canceled"):
        yield


def _job() -> ReconstructableJob:
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    return ReconstructableRepository.for_module(DEFINITIONS_MODULE, "defs").get_reconstructable_job(
        JOB
    )
