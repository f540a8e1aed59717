"""Which runs and forecasts need not be kept: in a real Dagster instance and a real MLflow store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.automation.retention import Removable, find_removable
from flts_assets.stores.object_store import INFERENCE_LOGS
from flts_assets.stores.prediction_records import key_of
from flts_assets.stores.tracking import ATTEMPT_TAG, DAGSTER_RUN_TAG
from flts_assets_tests.assets.deployment import Deployment

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own

NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)


@dg.asset
def made() -> None:
    """Is materialised."""


@dg.asset(deps=[made])
def fails() -> None:
    raise ValueError("as the test wants it")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("home"))


def removable(deployment: Deployment, after: timedelta) -> list[Removable]:
    """What `flts gc` would find so long from now, with its defaults."""
    with deployment.environment():
        return list(find_removable(deployment.platform, deployment.instance, NOW + after, 30, DAY))


def told(deployment: Deployment, after: timedelta) -> set[str]:
    return {one.what for one in removable(deployment, after)}


def run_of(deployment: Deployment, *assets: dg.AssetsDefinition) -> str:
    with deployment.environment():
        done = dg.materialize(
            [made, fails],
            selection=list(assets),
            instance=deployment.instance,
            raise_on_error=False,
        )
    return done.run_id


def tracked(deployment: Deployment, status: str | None, **tags: str) -> str:
    run = deployment.platform.tracking.start("GRU", {}, tags)
    if status:
        run.end(status)  # type: ignore[arg-type]
    return run.run_id


def test_dagster_runs_that_failed_and_made_nothing_go_once_they_are_old(
    deployment: Deployment,
) -> None:
    useless = run_of(deployment, fails)
    useful = run_of(deployment, made, fails)  # what it made is the partition's record
    sound = run_of(deployment, made)
    assert told(deployment, 29 * DAY) == set()
    (found,) = removable(deployment, 31 * DAY)
    assert found.what == f"Dagster run {useless}"
    assert found.why == "ended FAILURE, materialised nothing"
    assert deployment.instance.has_run(useless)  # it was only told
    found.remove()
    assert not deployment.instance.has_run(useless)
    assert deployment.instance.has_run(useful)
    assert deployment.instance.has_run(sound)
    assert told(deployment, 31 * DAY) == set()


def test_mlflow_runs_that_failed_go_once_they_are_old_and_nobody_elses_do(
    deployment: Deployment,
) -> None:
    ours = {DAGSTER_RUN_TAG: "some"}
    failed, killed = (tracked(deployment, one, **ours) for one in ("FAILED", "KILLED"))
    kept = [
        tracked(deployment, "FINISHED", **ours, **{ATTEMPT_TAG: "an attempt that stands"}),
        tracked(deployment, None, **ours),  # RUNNING: `ended_runs` closes it, not we
        tracked(deployment, "FAILED"),  # somebody's notebook on the same store
    ]
    assert told(deployment, 29 * DAY) == set()
    found = removable(deployment, 31 * DAY)
    assert {one.what for one in found} == {f"MLflow run {failed}", f"MLflow run {killed}"}
    for one in found:
        one.remove()
    assert told(deployment, 31 * DAY) == set()
    alive = {run.info.run_id for run in deployment.mlflow_runs()}
    assert set(kept) <= alive
    assert not alive & {failed, killed}


def test_nothing_of_an_mlflow_server_is_removed_or_asked_for(tmp_path: Path) -> None:
    nobody_listens = "http://127.0.0.1:1"
    deployment = Deployment(tmp_path, variables={"MLFLOW_TRACKING_URI": nobody_listens})
    assert told(deployment, 365 * DAY) == set()


def test_days_of_the_prediction_log_beyond_the_settings_go(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, variables={"FLTS_INFERENCE_LOG_DAYS": "7"})
    store = deployment.platform.store
    old, young = (key_of("global", (NOW - days * DAY).timestamp(), "worker", 0) for days in (8, 7))
    for key in (old, young):
        store.create(INFERENCE_LOGS, key, b"12345")
    (found,) = removable(deployment, 0 * DAY)
    assert (found.size, found.why) == (5, "forecasts of more than 7 days ago")
    found.remove()
    assert [head.key for head in store.list(INFERENCE_LOGS)] == [young]
