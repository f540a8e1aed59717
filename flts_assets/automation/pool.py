"""The pool of trainers: how many of them work at once, whichever runs they belong to.

A step's share of the cores (`Settings.step_threads`) counts on no more than `step_concurrency` trainers
on the machine. Within one run the executor sees to that, across runs this pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flts_assets.assets.step_policy import TRAINERS

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["free_slots", "held_slots", "set_trainers"]


def set_trainers(instance: dg.DagsterInstance, limit: int | None) -> None:
    """Let so many trainers work at once; Dagster's own storage of limits is what all runs look at.

    None lifts a limit that was set: where workers have places of their own, each machine sees to itself.
    """
    from dagster._utils.concurrency import get_max_concurrency_limit_value

    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:  # in memory: one process has it alone
        return
    limits = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    if limit is None:
        if TRAINERS not in limits:
            return
        # Not deleted: Dagster 1.13 cannot read its limits when the last is gone and a run holds a slot.
        limit = get_max_concurrency_limit_value()
    if limits.get(TRAINERS) != limit:
        storage.set_concurrency_slots(TRAINERS, limit)


def held_slots(instance: dg.DagsterInstance) -> Iterator[str]:
    """Ids of runs that have ended, or that nobody knows, and still hold or await a slot."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for run_id in sorted(storage.get_concurrency_run_ids()):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            yield run_id


def free_slots(instance: dg.DagsterInstance) -> list[str]:
    """Free what `held_slots` names; the ids."""
    held = list(held_slots(instance))
    for run_id in held:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return held
