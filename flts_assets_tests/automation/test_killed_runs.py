"""Processes of a real `dagster dev` are killed with SIGKILL; what they held has ended within a minute."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import dagster as dg
import pytest

from flts_assets.assets.step_policy import TRAINERS
from flts_assets.automation.launch import stages_of
from flts_assets.automation.registration import register
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.recipe import Recipe
from flts_assets.stores.object_store import DATASET
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import DagsterDev, running_dev, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's own
]

WITHIN_S = 60
WORKER = "Started process for run"
STEP = "Capturing logs for process"
FAILURE, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("killed"))
    for name, frame in zip(
        ("DemoCell.csv", "DemoCell_test.csv"), demo_cell(300, 60, 0), strict=True
    ):
        deployment.platform.store.put(DATASET, name, to_csv(frame))
    with deployment.instance:
        yield deployment


@pytest.fixture(scope="module")
def dev(deployment: Deployment) -> Iterator[DagsterDev]:
    with running_dev(deployment.home, FLTS_STEP_CONCURRENCY="2") as dev:
        yield dev


@pytest.fixture
def recipe(deployment: Deployment, request: pytest.FixtureRequest) -> Recipe:
    """A training of some seconds."""
    recipe = Recipe.model_validate(
        {
            "name": "killed",
            "data": {"train_file": "DemoCell.csv", "test_file": "DemoCell_test.csv"},
            "models": ["GRU"],
            "recurrent": {"max_epochs": 60, "patience": 60},
            "extra": {"hash_salt": request.node.name},
        }
    )
    register(recipe, deployment.platform.registry, deployment.instance)
    return recipe


def events(deployment: Deployment, run_id: str) -> list[tuple[str | None, str]]:
    """Step and message of each record of the run's log."""
    return [(one.step_key, one.message) for one in deployment.instance.all_logs(run_id)]


def under_training(deployment: Deployment, run_id: str) -> None:
    """Wait until a model is being trained, and MLflow knows it."""
    wait_until(lambda: run_id in deployment.platform.tracking.running().values(), 900, "a training")


def process_of(deployment: Deployment, run_id: str, told: str) -> int:
    """The number in the last record of the run's log that says this of a process."""
    texts = [text for _, text in events(deployment, run_id) if text.startswith(told)]
    found = re.search(r"pid: (\d+)", texts[-1])
    assert found
    return int(found[1])


def ended_with(deployment: Deployment, run_id: str, status: dg.DagsterRunStatus, s: float) -> None:
    def ended() -> bool:
        run = deployment.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    wait_until(ended, s, f"the end of run {run_id}")
    run = deployment.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status == status, "\n".join(text for _, text in events(deployment, run_id)[-8:])


def mlflow_statuses(deployment: Deployment, recipe: Recipe) -> list[str]:
    """Of the recipe's trainings, newest first."""
    runs = deployment.mlflow_runs(recipe)
    return [run.info.status for run in runs if run.info.run_name == "GRU"]


def held(deployment: Deployment) -> list[object]:
    """MLflow runs that are RUNNING with what started their Dagster run, and slots of the trainers."""
    runs = {
        run_id: deployment.instance.get_run_by_id(dagster_run or "")
        for run_id, dagster_run in deployment.platform.tracking.running().items()
    }
    slots = deployment.instance.event_log_storage.get_concurrency_info(TRAINERS)
    return [
        *((run_id, run and (run.status, run.tags)) for run_id, run in runs.items()),
        *slots.claimed_slots,
    ]


def all_is_released(deployment: Deployment) -> None:
    """Dagster's monitoring frees slots some seconds after their run's end."""
    with suppress(TimeoutError):
        wait_until(lambda: not held(deployment), WITHIN_S, "all is released")
    assert held(deployment) == []


def retry_of(deployment: Deployment, run_id: str) -> str:
    found = wait_until(
        lambda: deployment.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id})),
        WITHIN_S,
        "the run is tried once more",
    )
    return str(found[0].run_id)


def test_run_that_was_killed_with_the_daemon_ends_after_the_next_start(
    deployment: Deployment, recipe: Recipe, request: pytest.FixtureRequest
) -> None:
    with running_dev(deployment.home, FLTS_STEP_CONCURRENCY="2") as dev:
        run_id = dev.launch(recipe.config_hash, *stages_of(recipe))
        under_training(deployment, run_id)
        worker = process_of(deployment, run_id, WORKER)
        assert worker in [one.pid for one in dev.members()]
        dev.kill()
        wait_until(lambda: not dev.members(), 120, "nothing of it lives")
    assert deployment.platform.tracking.running(), "nobody was left to end it"
    run = deployment.instance.get_run_by_id(run_id)
    assert run is not None
    assert not run.is_finished

    request.getfixturevalue("dev")
    started = time.monotonic()
    ended_with(deployment, run_id, FAILURE, WITHIN_S)
    wait_until(
        lambda: mlflow_statuses(deployment, recipe)[-1] == "KILLED",
        WITHIN_S - (time.monotonic() - started),
        "its MLflow run is ended",
    )
    ended_with(deployment, retry_of(deployment, run_id), SUCCESS, 900)
    all_is_released(deployment)


def test_killed_step_is_started_once_more_and_its_mlflow_run_ends(
    dev: DagsterDev, deployment: Deployment, recipe: Recipe
) -> None:
    run_id = dev.launch(recipe.config_hash, *stages_of(recipe))
    under_training(deployment, run_id)
    os.kill(process_of(deployment, run_id, STEP), signal.SIGKILL)
    wait_until(
        lambda: "KILLED" in mlflow_statuses(deployment, recipe), WITHIN_S, "its MLflow run is ended"
    )
    ended_with(deployment, run_id, SUCCESS, 900)
    assert mlflow_statuses(deployment, recipe) == ["FINISHED", "KILLED"]
    all_is_released(deployment)


def test_run_whose_worker_was_killed_ends_and_is_tried_once_more(
    dev: DagsterDev, deployment: Deployment, recipe: Recipe
) -> None:
    run_id = dev.launch(recipe.config_hash, *stages_of(recipe))
    under_training(deployment, run_id)
    killed = time.monotonic()
    os.kill(process_of(deployment, run_id, WORKER), signal.SIGKILL)
    ended_with(deployment, run_id, FAILURE, WITHIN_S)
    wait_until(
        lambda: mlflow_statuses(deployment, recipe)[-1] in ("KILLED", "FAILED"),
        WITHIN_S - (time.monotonic() - killed),
        "its MLflow run is ended",
    )
    again = retry_of(deployment, run_id)
    ended_with(deployment, again, SUCCESS, 900)
    assert mlflow_statuses(deployment, recipe)[0] == "FINISHED"
    all_is_released(deployment)


def test_error_in_a_step_is_not_tried_again(
    dev: DagsterDev, deployment: Deployment, recipe: Recipe
) -> None:
    bad = recipe.for_station("Nowhere")
    register(bad, deployment.platform.registry, deployment.instance)
    run_id = dev.launch(bad.config_hash, *stages_of(bad))
    ended_with(deployment, run_id, FAILURE, 900)

    def will_retry() -> str | None:
        run = deployment.instance.get_run_by_id(run_id)
        assert run is not None
        return run.tags.get("dagster/will_retry")

    # Dagster tells the end first, and in another write whether it tries again.
    assert wait_until(will_retry, WITHIN_S, "whether it is tried again") == "false"
    assert sum("STEP_RESTARTED" in text for _, text in events(deployment, run_id)) == 0
