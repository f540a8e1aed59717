"""What killed processes left behind, as a list that can be ended one by one. Nothing alive is on it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flts_assets.automation.closing import dead_runs, fail_run, why_dead
from flts_assets.automation.pool import held_slots
from flts_assets.stores.tracking import TrackingRun

if TYPE_CHECKING:
    import dagster as dg

    from flts_assets.assets.platform import Platform

__all__ = ["Stale", "find_stale"]

OLD_S = 3600.0
"""an unfinished file that nobody wrote to for so long has no writer"""


@dataclass(frozen=True)
class Stale:
    """One thing that was left, and what ends it."""

    what: str
    why: str
    end: Callable[[], object] | None
    """None: it may be somebody else's, and stays"""


def find_stale(platform: Platform, instance: dg.DagsterInstance) -> Iterator[Stale]:
    """Dagster runs first: what they hold is stale once they have ended."""
    home = platform.settings.home
    dead = set()
    for run in dead_runs(instance, home):
        dead.add(run.run_id)
        yield Stale(
            f"Dagster run {run.run_id} ({run.status.value})",
            why_dead(run),
            partial(fail_run, run, instance, home),
        )
    yield from _slots(instance, dead)
    yield from _tracked(platform, instance, dead)
    yield from _files(instance, home, dead)


def _slots(instance: dg.DagsterInstance, dead: set[str]) -> Iterator[Stale]:
    storage = instance.event_log_storage
    of_dead = dead & storage.get_concurrency_run_ids() if dead else set()
    for run_id in sorted({*held_slots(instance), *of_dead}):
        yield Stale(
            f"slots of run {run_id} in the pool of trainers",
            "its run has ended",
            partial(storage.free_concurrency_slots_for_run, run_id),
        )


def _tracked(platform: Platform, instance: dg.DagsterInstance, dead: set[str]) -> Iterator[Stale]:
    tracking = platform.tracking
    for run_id, dagster_run in tracking.running().items():
        if dagster_run is None:  # logged by hand
            continue
        run = instance.get_run_by_id(dagster_run)
        end = partial(TrackingRun(run_id, tracking.client).end, "KILLED")
        if run is None:
            yield Stale(
                f"MLflow run {run_id} (RUNNING)",
                f"its Dagster run {dagster_run} is unknown here",
                end if tracking.is_own else None,
            )
        elif run.is_finished or dagster_run in dead:
            yield Stale(
                f"MLflow run {run_id} (RUNNING)", f"its Dagster run {dagster_run} has ended", end
            )


def _files(instance: dg.DagsterInstance, home: Path, dead: set[str]) -> Iterator[Stale]:
    for lock in sorted((home / "workers").glob("*.lock")):
        run = instance.get_run_by_id(lock.stem)
        if lock.stem not in dead and _free(lock) and (run is None or run.is_finished):
            yield Stale(f"lock {lock}", "its run has ended", partial(lock.unlink, missing_ok=True))
    unfinished = [*home.glob("*/.tmp/*"), home / "dagster.new", home / "mlflow.db.new"]
    for path in sorted(unfinished):
        if path.exists() and time.time() - path.stat().st_mtime > OLD_S:
            end = (
                partial(shutil.rmtree, path)
                if path.is_dir()
                else partial(path.unlink, missing_ok=True)
            )
            yield Stale(f"unfinished {path}", "nobody has written to it for an hour", end)


def _free(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False
