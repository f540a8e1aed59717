"""Dagster's default run launcher, which also tells whether a run's worker lives.

Without that Dagster's run monitoring ends a run whose worker was killed only while its code server goes
on; after a crash of everything the run would be under way for ever. `dagster.yaml` names this class.
"""

from __future__ import annotations

import json
import socket

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext

from flts_assets.automation.pool import set_trainers
from flts_assets.automation.workers import WORKER_TAG, Worker, worker_of
from flts_assets.settings import Settings

__all__ = ["WatchedRunLauncher"]

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts a run through its code server, notes on which machine, and looks after it."""

    def launch_run(self, context: LaunchRunContext) -> None:
        set_trainers(self._instance, Settings.from_environment().trainers)
        super().launch_run(context)
        self._instance.add_run_tags(
            context.dagster_run.run_id, {WORKER_TAG: self._machine(context.dagster_run.run_id)}
        )

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED only where the worker is known to be gone: monitoring ends whatever is not RUNNING."""
        worker = worker_of(run, self._instance, Settings.from_environment().home)
        if worker is Worker.GONE:
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process that ran it is gone.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def _machine(self, run_id: str) -> str:
        from dagster._core.storage.tags import GRPC_INFO_TAG

        run = self._instance.get_run_by_id(run_id)
        assert run is not None
        host = str(json.loads(run.tags[GRPC_INFO_TAG])["host"])
        return socket.gethostname() if host in _THIS_MACHINE else host
