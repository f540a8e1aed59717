"""Which partitions somebody is working on at this moment."""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

__all__ = ["PARTITION_TAG", "partitions_under_way"]

PARTITION_TAG = "dagster/partition"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def partitions_under_way(
    instance: dg.DagsterInstance, config_hashes: Collection[str]
) -> frozenset[str]:
    """Those of these config hashes that an unfinished run is about, queued ones among them."""
    if not config_hashes:
        return frozenset()
    runs = instance.get_runs(
        dg.RunsFilter(tags={PARTITION_TAG: sorted(config_hashes)}, statuses=_UNFINISHED)
    )
    return frozenset(run.tags[PARTITION_TAG] for run in runs)
