"""What the clock requests: a look at the champions in service, and at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.assets import champion_checks
from flts_assets.assets.platform import Platform
from flts_assets.automation.registration import register
from flts_assets.automation.schedules import daily_champions_look, hourly_monitoring
from flts_assets.definitions import defs
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.stores.object_store import INFERENCE_LOGS
from flts_assets.stores.pointer import Pointer
from flts_assets.stores.prediction_records import answered_since, to_jsonl
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.assets.test_champions import promotion
from flts_assets_tests.stores.records import record

HOUR = datetime(2024, 5, 1, 12, 7, tzinfo=timezone.utc)
RECIPE = load_recipe(SAMPLE50)
IDLE = RECIPE.for_station("ElBorn")
FORMER = RECIPE.for_station("LesCorts")


@pytest.fixture
def deployment(home: Path) -> Iterator[Deployment]:
    deployment = Deployment(home)
    with deployment.instance:
        for recipe in (RECIPE, IDLE):
            register(recipe, deployment.platform.registry, deployment.instance)
            pointer = Pointer(deployment.platform.store, recipe.config_hash, None)
            pointer.move(promotion(recipe), None)
        register(FORMER, deployment.platform.registry, deployment.instance)
        yield deployment


def logged(deployment: Deployment, recipe: Recipe, minutes_ago: float) -> None:
    asked_at = HOUR.timestamp() - 60 * minutes_ago
    one = record("2024-05-01T10:00", [[1.0]], asked_at=asked_at, config_hash=recipe.config_hash)
    deployment.platform.store.put(INFERENCE_LOGS, one.key("w", 1), to_jsonl([one]))


def tick(deployment: Deployment) -> dg.ScheduleExecutionData:
    with dg.build_schedule_context(
        instance=deployment.instance,
        scheduled_execution_time=HOUR,
        resources={"platform": Platform()},
        repository_def=defs.get_repository_def(),
    ) as context:
        return hourly_monitoring.evaluate_tick(context)


def test_champions_that_answered_within_the_hour_are_looked_at(deployment: Deployment) -> None:
    logged(deployment, RECIPE, minutes_ago=30)
    logged(deployment, FORMER, minutes_ago=20)
    (request,) = tick(deployment).run_requests or ()
    assert request.partition_key == RECIPE.config_hash
    assert request.tags["flts/recipe"] == "sample50"
    assert request.run_key == f"{RECIPE.config_hash}:2024-05-01T12"


def test_nothing_is_started_where_nobody_asked(deployment: Deployment) -> None:
    assert tick(deployment).skip_message == "no champion has answered within the hour"
    logged(deployment, RECIPE, minutes_ago=90)
    assert tick(deployment).skip_message == "no champion has answered within the hour"


def test_answers_are_found_across_midnight(deployment: Deployment) -> None:
    logged(deployment, RECIPE, minutes_ago=60 * 13)
    store = deployment.platform.store
    for hour, found in ((22, {RECIPE.config_hash}), (23, {RECIPE.config_hash})):
        since = datetime(2024, 4, 30, hour, 0, tzinfo=timezone.utc)
        assert answered_since(store, "global", since) == found
    assert answered_since(store, "global", datetime(2024, 5, 1, tzinfo=timezone.utc)) == set()


def test_all_champions_are_looked_at_once_a_day_as_soon_as_there_is_one(
    deployment: Deployment,
) -> None:
    def look() -> dg.ScheduleExecutionData:
        with dg.build_schedule_context(
            instance=deployment.instance,
            scheduled_execution_time=HOUR,
            repository_def=defs.get_repository_def(),
        ) as context:
            return daily_champions_look.evaluate_tick(context)

    assert look().skip_message == "nothing was promoted yet"
    promoted = dg.AssetMaterialization("promoted_model", partition=RECIPE.config_hash)
    deployment.instance.report_runless_asset_event(promoted)
    (request,) = look().run_requests or ()
    assert request.run_key == "2024-05-01"
    assert request.partition_key is None
    with deployment.environment():
        result = defs.resolve_job_def("champions_look").execute_in_process(
            instance=deployment.instance
        )
    found = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert found.keys() == set(champion_checks._WHAT)
    assert found["champion_is_fresh"].metadata["champions"].value == 2
