"""Which runs of sensors are requested again, told by real runs that ended in every way there is."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.test_utils import create_run_for_test

from flts_assets.automation import lost_runs as module
from flts_assets.automation.lost_runs import MAX_CRASHES, look_for_lost_runs
from flts_assets.logs import event_log
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.kept_lines import KeptLines

HASH = "a" * 64
STAGES = frozenset(map(dg.AssetKey, ("raw_data", "gru_model", "promoted_model")))
STOPPED = RunFailureReason.UNEXPECTED_TERMINATION
BY_SENSOR = {"flts/started_by": "raw_data_sensor", "flts/recipe": "quick-X", "flts/station": "X"}


@dataclass
class Sensor:
    instance: dg.DagsterInstance
    cursor: str | None = None
    lines: list[str] = field(default_factory=list)

    def look(self) -> list[dg.RunRequest]:
        logger = logging.Logger("sensor")
        logger.addHandler(KeptLines(self.lines))
        result = look_for_lost_runs(self.instance, self.cursor, event_log(logger))
        self.cursor = result.cursor
        return list(result.run_requests or ())

    def run(self, tags: dict[str, str] = BY_SENSOR, **more: Any) -> dg.DagsterRun:
        return create_run_for_test(
            self.instance,
            "pipeline",
            tags={"dagster/partition": HASH, **tags},
            status=dg.DagsterRunStatus.STARTED,
            **{"asset_selection": STAGES, **more},
        )

    def submitted(self, request: dg.RunRequest) -> dg.DagsterRun:
        """As the daemon does."""
        return self.run(
            dict(request.tags), asset_selection=frozenset(request.asset_selection or ())
        )

    def fails(self, run: dg.DagsterRun, reason: RunFailureReason | None = STOPPED) -> None:
        data = None if reason is None else JobFailureData(error=None, failure_reason=reason)
        self.instance.report_run_failed(run, job_failure_data=data)

    def lost_twice(self, reason: RunFailureReason | None = STOPPED, **more: Any) -> dg.DagsterRun:
        """A run that is lost, and Dagster's second try of it too; the latter."""
        first = self.run(**more)
        self.fails(first, reason)
        second = self.tried_again(first)
        self.fails(second, reason)
        return second

    def tried_again(self, run: dg.DagsterRun) -> dg.DagsterRun:
        tags = {**run.tags, "dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.run_id}
        for name in ("dagster/will_retry", "dagster/failure_reason"):
            tags.pop(name, None)
        return self.run(
            tags,
            asset_selection=run.asset_selection,
            parent_run_id=run.run_id,
            root_run_id=run.run_id,
        )


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[Sensor]:
    with Deployment(tmp_path).instance as instance:
        instance.add_dynamic_partitions("config_hash", [HASH])
        yield Sensor(instance)


@pytest.mark.parametrize("reason", [STOPPED, RunFailureReason.START_TIMEOUT, None], ids=str)
def test_run_that_was_lost_twice_is_requested_again_once(
    sensor: Sensor, reason: RunFailureReason | None
) -> None:
    lost = sensor.lost_twice(reason)
    (request,) = sensor.look()
    assert request.partition_key == HASH
    assert set(request.asset_selection or ()) == STAGES
    assert request.tags.items() >= BY_SENSOR.items()
    assert lost.run_id in str(request.run_key)
    run = sensor.submitted(request)
    assert sensor.look() == [], "it is under way"
    sensor.instance.report_run_canceled(run)
    assert sensor.look() == []


def test_tick_that_was_killed_requests_under_the_same_key(sensor: Sensor) -> None:
    sensor.lost_twice()
    (first,) = sensor.look()
    sensor.cursor = None
    (second,) = sensor.look()
    assert first.run_key == second.run_key


def test_run_that_dagster_will_try_again_waits_for_that(sensor: Sensor) -> None:
    first = sensor.run()
    sensor.fails(first)
    assert [sensor.look() for _ in range(2)] == [[], []]
    assert first.run_id in str(sensor.cursor)
    sensor.instance.add_run_tags(first.run_id, {"dagster/will_retry": "false"})
    assert len(sensor.look()) == 1, "Dagster could not"


def test_every_stop_is_survived_however_many(sensor: Sensor) -> None:
    tags, keys = BY_SENSOR, set()
    for _ in range(MAX_CRASHES + 3):
        sensor.lost_twice(tags=tags)
        (request,) = sensor.look()
        tags = dict(request.tags)
        keys.add(request.run_key)
    assert len(keys) == MAX_CRASHES + 3


def test_work_that_crashes_each_time_is_left_in_the_end_and_told_once(sensor: Sensor) -> None:
    tags = BY_SENSOR
    for _ in range(MAX_CRASHES):
        sensor.lost_twice(None, tags=tags)
        (request,) = sensor.look()
        tags = dict(request.tags)
    sensor.lost_twice(None, tags=tags)
    assert [sensor.look() for _ in range(3)] == [[], [], []]
    assert [json.loads(line)["level"] for line in sensor.lines].count("error") == 1


def test_error_in_a_step_is_an_answer(sensor: Sensor) -> None:
    sensor.fails(sensor.run(), RunFailureReason.STEP_FAILURE)
    assert sensor.look() == []


def test_termination_by_a_person_is_a_decision(sensor: Sensor) -> None:
    sensor.instance.report_run_canceled(sensor.run())
    over_its_time = sensor.run()
    sensor.instance.report_run_canceling(over_its_time)
    sensor.fails(over_its_time, None)
    sensor.instance.add_run_tags(over_its_time.run_id, {"dagster/will_retry": "false"})
    assert sensor.look() == []


def test_run_that_a_person_started_is_theirs_to_start_again(sensor: Sensor) -> None:
    sensor.lost_twice(tags={"flts/recipe": "quick-X"})
    assert sensor.look() == []


def test_newer_run_of_the_same_stages_takes_the_place_and_one_of_fewer_does_not(
    sensor: Sensor,
) -> None:
    sensor.lost_twice()
    sensor.run({}, asset_selection=frozenset([dg.AssetKey("raw_data")]))
    assert len(sensor.look()) == 1
    sensor.run({}, asset_selection=None)
    assert sensor.look() == []


def test_partition_that_is_gone_is_not_requested(sensor: Sensor) -> None:
    sensor.lost_twice()
    sensor.instance.delete_dynamic_partition("config_hash", HASH)
    assert sensor.look() == []


def test_tick_has_no_more_requests_than_it_may_and_the_next_has_the_rest(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_TICK", 2)
    partitions = [f"{number:064}" for number in range(3)]
    sensor.instance.add_dynamic_partitions("config_hash", partitions)
    for partition in partitions:
        sensor.lost_twice(tags={**BY_SENSOR, "dagster/partition": partition})
    requested = []
    for _ in range(3):
        requests = sensor.look()
        for request in requests:
            sensor.run({**request.tags, "dagster/partition": str(request.partition_key)})
        requested.append([request.partition_key for request in requests])
    assert requested == [partitions[:2], partitions[2:], []]
