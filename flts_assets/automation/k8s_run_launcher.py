"""dagster-k8s' run launcher, for a deployment in which not every run is a Kubernetes job.

A `flts run`, such as the bootstrap's, executes in its own pod. Run monitoring asks the launcher about it
too, and dagster-k8s would find no job of that name: the run would be marked as failed while it goes on.
The chart's `dagster.yaml` names this class (`docker/kubernetes/dagster-values.yaml`).
"""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster_k8s import K8sRunLauncher

from flts_assets.automation.pool import set_trainers
from flts_assets.automation.workers import WORKER_TAG, Worker, worker_of
from flts_assets.settings import Settings

__all__ = ["WatchedK8sRunLauncher"]


class WatchedK8sRunLauncher(K8sRunLauncher):
    """Starts a run as a job, lifts the limit of trainers, and leaves runs of others alone."""

    def launch_run(self, context: LaunchRunContext) -> None:
        # Each step has a pod of its own; the limit is one that a `flts run` set for its own pod.
        set_trainers(self._instance, None)
        super().launch_run(context)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED for a `flts run` only where its process is known to be gone; a job is asked about."""
        if WORKER_TAG not in run.tags:
            result: CheckRunHealthResult = super().check_run_worker_health(run)
            return result
        if worker_of(run, self._instance, Settings.from_environment().home) is Worker.GONE:
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process that ran it is gone.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
