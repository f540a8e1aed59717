from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from flts_assets.automation.ended_runs import ended_runs
from flts_assets.stores.tracking import DAGSTER_RUN_TAG
from flts_assets_tests.assets.deployment import Deployment

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


def test_mlflow_runs_of_runs_that_ended_badly_are_ended_and_no_others(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    tracking = deployment.platform.tracking
    with deployment.instance as instance, deployment.environment():
        alive, dead = (
            create_run_for_test(instance, "pipeline", status=dg.DagsterRunStatus.STARTED)
            for _ in range(2)
        )
        mine, theirs, strangers, by_hand = (
            tracking.start("GRU", {}, tags).run_id
            for tags in (
                *({DAGSTER_RUN_TAG: run_id} for run_id in (dead.run_id, alive.run_id, "unknown")),
                {},
            )
        )

        def tick(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(
                instance, cursor=cursor, resources={"platform": deployment.platform}
            )
            result = ended_runs(context)
            assert isinstance(result, dg.SensorResult)
            return result

        first = tick(None)
        assert tracking.running().keys() == {mine, theirs, strangers, by_hand}
        instance.report_run_failed(dead)
        second = tick(first.cursor)
        assert second.skip_reason is not None
        assert mine in str(second.skip_reason)
        assert tracking.running().keys() == {theirs, strangers, by_hand}
        assert tracking.client.get_run(mine).info.status == "KILLED"


def test_sensor_runs_unless_somebody_stops_it() -> None:
    assert ended_runs.default_status == dg.DefaultSensorStatus.RUNNING
    assert ended_runs.minimum_interval_seconds is not None
    assert ended_runs.minimum_interval_seconds <= 20
