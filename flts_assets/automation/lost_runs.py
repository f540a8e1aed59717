"""What a sensor requested and a stop or a crash cut short is requested again.

    stopped with `flts dev`, worker killed      Dagster tries the run once more (run_retries);
                                                where that one is lost too, its stages are requested anew
    an error in a step                          an answer: only other content is tried
    terminated by a person, over its time       a decision
    started by a person                         theirs to start again

A newer run of the same stages takes a lost one's place, so each is looked after once; the run key names
the lost run. What stands complete is not computed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG, WILL_RETRY_TAG

from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.stage import RECIPE_TAG, STATION_TAG
from flts_assets.automation.conditions import keep_up_to_date
from flts_assets.automation.jobs import STARTED_BY_TAG, WHOLE_TAG, pipeline
from flts_assets.automation.raw_data_sensor import raw_data_sensor
from flts_assets.automation.under_way import PARTITION_TAG
from flts_assets.logs import EventLog, event_log

__all__ = ["CRASHES_TAG", "look_for_lost_runs", "lost_runs"]

CRASHES_TAG = "flts/crashes"
"""how often what a run was requested for has crashed before it, stops not counted"""
MAX_CRASHES = 3
"""Beside Dagster's own second tries. What kills its worker each time would do so for ever."""
REQUESTS_A_TICK = 25
OVERLAP = timedelta(seconds=60)
"""looked at twice, so that no clock's difference hides a run"""


@dg.sensor(
    job=pipeline,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests again what a sensor had requested and a stop or a crash cut short.",
)
def lost_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    log = event_log(context.log, sensor="lost_runs")
    return look_for_lost_runs(context.instance, context.cursor, log)


@dataclass(frozen=True)
class _Cursor:
    since: datetime | None = None
    waiting: tuple[str, ...] = ()
    """runs that Dagster is about to try again itself, or that the last tick had no room for"""
    given_up: tuple[str, ...] = ()
    """runs of the last look, told already"""

    @classmethod
    def parsed(cls, text: str | None) -> _Cursor:
        if not text:
            return cls()
        content = json.loads(text)
        since = datetime.fromisoformat(content["since"])
        return cls(since, tuple(content["waiting"]), tuple(content["given_up"]))

    def __str__(self) -> str:
        since = self.since.isoformat() if self.since else None
        return json.dumps({"since": since, "waiting": self.waiting, "given_up": self.given_up})


def look_for_lost_runs(
    instance: dg.DagsterInstance, cursor: str | None, log: EventLog
) -> dg.SensorResult:
    """One look: a run request for each lost run that nothing took the place of."""
    now = datetime.now(timezone.utc)
    before = _Cursor.parsed(cursor)
    requests: list[dg.RunRequest] = []
    waiting, given_up = [], []
    for run in _failed(instance, before):
        if not _is_lost(run, instance):
            continue
        if _will_be_tried_again(run, instance) or len(requests) == REQUESTS_A_TICK:
            waiting.append(run.run_id)
        elif _crashes(run) > MAX_CRASHES:
            given_up.append(run.run_id)
            if run.run_id not in before.given_up:
                log.error("run_lost_too_often", run_id=run.run_id, config_hash=_partition(run))
        else:
            requests.append(_again(run))
            log.info("lost_run_requested_again", run_id=run.run_id, config_hash=_partition(run))
    return dg.SensorResult(
        skip_reason=None if requests else "no run that a sensor requested was lost",
        run_requests=requests or None,
        cursor=str(_Cursor(now - OVERLAP, tuple(waiting), tuple(given_up))),
    )


def _failed(instance: dg.DagsterInstance, before: _Cursor) -> Iterable[dg.DagsterRun]:
    """Runs of sensors that failed since the last look, then those that wait."""
    since = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={STARTED_BY_TAG: [raw_data_sensor.name, keep_up_to_date.name]},
        updated_after=before.since,
    )
    found = {run.run_id: run for run in instance.get_runs(since, ascending=True)}
    if before.waiting:
        waiting = instance.get_runs(dg.RunsFilter(run_ids=list(before.waiting)), ascending=True)
        found.update({run.run_id: run for run in waiting})
    return found.values()


def _is_lost(run: dg.DagsterRun, instance: dg.DagsterInstance) -> bool:
    """It gave no answer, nobody decided to end it, and no newer run does its work."""
    if run.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value:
        return False
    partition = _partition(run)
    assert CONFIG_HASH.name is not None
    if partition is None or not instance.has_dynamic_partition(CONFIG_HASH.name, partition):
        return False  # an overview of all recipes follows the next promotion
    for newer in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: partition})):
        if newer.run_id == run.run_id:
            break
        if _takes_the_place_of(newer, run):
            return False
    return not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_CANCELING)


def _takes_the_place_of(newer: dg.DagsterRun, run: dg.DagsterRun) -> bool:
    if newer.parent_run_id == run.run_id:
        return True
    if newer.asset_selection is None:
        return newer.job_name == pipeline.name
    return run.asset_selection is not None and newer.asset_selection >= run.asset_selection


def _will_be_tried_again(run: dg.DagsterRun, instance: dg.DagsterInstance) -> bool:
    """By Dagster, which notes that a moment after the run's end."""
    noted = run.tags.get(WILL_RETRY_TAG)
    return instance.run_retries_enabled if noted is None else noted == "true"


def _crashes(run: dg.DagsterRun) -> int:
    """How often the work crashed, with this run. Stops come from outside and may be many."""
    reason = run.tags.get(RUN_FAILURE_REASON_TAG)
    stopped = reason == RunFailureReason.UNEXPECTED_TERMINATION.value
    return int(run.tags.get(CRASHES_TAG, "0")) + (0 if stopped else 1)


def _again(run: dg.DagsterRun) -> dg.RunRequest:
    kept = {
        name: run.tags[name] for name in (RECIPE_TAG, STATION_TAG, WHOLE_TAG) if name in run.tags
    }
    return dg.RunRequest(
        run_key=f"after:{run.run_id}",
        partition_key=_partition(run),
        asset_selection=sorted(run.asset_selection) if run.asset_selection else None,
        tags={
            **kept,
            STARTED_BY_TAG: run.tags[STARTED_BY_TAG],
            CRASHES_TAG: str(_crashes(run)),
        },
    )


def _partition(run: dg.DagsterRun) -> str | None:
    return run.tags.get(PARTITION_TAG)
