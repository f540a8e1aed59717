"""What a deployment need not keep for ever, as a list that can be removed one by one.

Never on it: what a pointer, its history or a current leaderboard names; a run that materialised anything,
for its events are the partition's record; and whatever is younger than the ages asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from flts_assets.stores.garbage import Garbage, every_promotion, find_garbage, remove
from flts_assets.stores.object_store import INFERENCE_LOGS
from flts_assets.stores.prediction_records import delete_old

if TYPE_CHECKING:
    import dagster as dg

    from flts_assets.assets.platform import Platform

__all__ = ["Removable", "find_removable"]


@dataclass(frozen=True)
class Removable:
    what: str
    why: str
    size: int | None
    """bytes; None: its keeper does not tell"""
    remove: Callable[[], object]


def find_removable(
    platform: Platform, instance: dg.DagsterInstance, now: datetime, days: int, safety: timedelta
) -> Iterator[Removable]:
    """Runs that ended more than `days` ago, objects last written more than `safety` ago, and days
    of the prediction log beyond the settings'. MLflow runs come before the attempts that tell which.

    Raises FltsError where something cannot be read: it might name anything.
    """
    attempts = find_garbage(platform.store, now - safety)
    before = now - timedelta(days=days)
    yield from _tracked(platform, attempts, before, now)
    yield from _dagster(instance, before)
    for one in attempts:
        yield Removable(one.where, one.why, one.size, partial(remove, platform.store, one))
    yield from _predictions(platform, now)


def _tracked(
    platform: Platform, attempts: list[Garbage], before: datetime, now: datetime
) -> Iterator[Removable]:
    """Failed ones by their age, superseded ones with the attempt that they tell of.

    A server, or a database elsewhere, may be shared, and another deployment's runs look like ours: there
    nothing is removed.
    """
    tracking = platform.tracking
    if not tracking.is_own:
        return
    named = {promotion.run_id for promotion in every_promotion(platform.store)}
    superseded = {one.attempt for one in attempts}
    old = {run.run_id for run in tracking.ended(before)}
    for run in tracking.ended(now):
        failed = run.status in ("FAILED", "KILLED")
        if run.run_id in named:
            continue
        if (failed and run.run_id in old) or (not failed and run.attempt in superseded):
            why = f"ended {run.status}" if failed else "its model was superseded"
            yield Removable(
                f"MLflow run {run.run_id}", why, None, partial(tracking.delete, run.run_id)
            )


def _dagster(instance: dg.DagsterInstance, before: datetime) -> Iterator[Removable]:
    import dagster as dg

    status = dg.DagsterRunStatus
    old = dg.RunsFilter(statuses=[status.FAILURE, status.CANCELED], updated_before=before)
    for record in instance.get_run_records(old):
        run = record.dagster_run
        made = instance.get_records_for_run(
            run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=1
        )
        if not made.records:
            yield Removable(
                f"Dagster run {run.run_id}",
                f"ended {run.status.value}, materialised nothing",
                None,
                partial(instance.delete_run, run.run_id),
            )


def _predictions(platform: Platform, now: datetime) -> Iterator[Removable]:
    store, days = platform.store, platform.settings.inference_log_days
    old = delete_old(store, days, now.date(), dry_run=True)
    if not old:
        return
    sizes = {head.key: head.size for head in store.list(INFERENCE_LOGS)}
    yield Removable(
        f"{INFERENCE_LOGS}: {len(old)} object(s)",
        f"forecasts of more than {days} days ago",
        sum(sizes.get(key, 0) for key in old),
        partial(delete_old, store, days, now.date(), dry_run=False),
    )
