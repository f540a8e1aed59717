"""All recipes of a station as queued runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.assets.platform import Platform
from flts_assets.automation.backfill import BACKFILL_TAG, request_runs
from flts_assets.automation.launch import stages_of
from flts_assets.automation.registration import register
from flts_assets.definitions import defs
from flts_assets.errors import InstanceError, UnknownRecipeError
from flts_assets.recipe import load_recipe
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment

RECIPE = load_recipe(SAMPLE50)
OTHER = RECIPE.updated({"name": "trees", "models": ["TREES"]})
ELSEWHERE = RECIPE.for_station("ElBorn")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path)
    with deployment.instance as instance:
        for recipe in (RECIPE, OTHER, ELSEWHERE):
            register(recipe, deployment.platform.registry, instance)
        yield deployment


def queued(instance: dg.DagsterInstance) -> dict[str, dg.DagsterRun]:
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    return {run.tags["dagster/partition"]: run for run in runs}


def test_every_recipe_of_the_station_is_queued_with_the_stages_it_asks_for(
    deployment: Deployment,
) -> None:
    requested = request_runs("PobleSec", deployment.platform, deployment.instance)
    runs = queued(deployment.instance)
    assert runs.keys() == {RECIPE.config_hash, OTHER.config_hash}
    assert {one.run_id for one in requested} == {run.run_id for run in runs.values()}
    for recipe in (RECIPE, OTHER):
        run = runs[recipe.config_hash]
        assert run.job_name == "pipeline"
        assert run.tags["flts/recipe"] == recipe.name
        assert run.tags[BACKFILL_TAG] == "PobleSec"
        stages = {key.to_user_string() for key in run.asset_selection or ()}
        assert stages == set(stages_of(recipe))
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == "flts_assets", "as in workspace.yaml"


def test_recipe_that_is_being_run_is_left_alone(deployment: Deployment) -> None:
    request_runs("PobleSec", deployment.platform, deployment.instance)
    again = request_runs("PobleSec", deployment.platform, deployment.instance)
    assert [one.run_id for one in again] == [None, None]
    assert len(queued(deployment.instance)) == 2


def test_station_without_a_recipe_is_an_error_that_names_those_that_have_one(
    deployment: Deployment,
) -> None:
    with pytest.raises(UnknownRecipeError, match="ElBorn, PobleSec"):
        request_runs("Nowhere", deployment.platform, deployment.instance)


def test_command_on_kubernetes_is_refused_before_anything_is_queued(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLTS_EXECUTOR", "k8s")
    with pytest.raises(InstanceError, match="station_backfill"):
        request_runs("PobleSec", Platform(), deployment.instance)
    assert not queued(deployment.instance)


def test_job_queues_the_same_and_hands_force_on(deployment: Deployment) -> None:
    with deployment.environment():
        result = defs.resolve_job_def("station_backfill").execute_in_process(
            instance=deployment.instance,
            run_config={
                "ops": {"request_station_runs": {"config": {"station": "PobleSec", "force": True}}}
            },
        )
    assert result.success
    runs = queued(deployment.instance)
    assert runs.keys() == {RECIPE.config_hash, OTHER.config_hash}
    for run in runs.values():
        assert run.run_config["resources"]["platform"]["config"]["force"] is True
