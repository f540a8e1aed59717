"""`flts gc` where objects stand on S3: what it tells, what it removes, and what is whole afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flts_assets.assets.models import MODEL_STAGES
from flts_assets.automation.retention import Removable, find_removable
from flts_assets.logs import event_log
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.serving.champions import Champions
from flts_assets.stores.garbage import every_promotion
from flts_assets.stores.object_store import MODELS
from flts_assets.stores.s3 import S3Store
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.machine import Machine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's own
    pytest.mark.filterwarnings("ignore:.*is currently in beta"),  # dagster-mlflow's own
]


@pytest.fixture
def deployment(tmp_path: Path, seaweed: Seaweed, bucket_prefix: str, real_data: Path) -> Deployment:
    """Objects on S3; MLflow and Dagster of its own, so that their runs may be removed too."""
    deployment = Deployment(tmp_path, variables=seaweed.environment(bucket_prefix))
    deployment.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
    return deployment


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(SAMPLE50).updated({"models": ["GRU"]})


def attempt_of(deployment: Deployment, recipe: Recipe) -> str:
    """The one that counts now."""
    return deployment.manifest(recipe, MODEL_STAGES["GRU"]).attempt


def found_by_gc(deployment: Deployment, later: timedelta) -> list[Removable]:
    """So long from now: objects on S3 cannot be made older than they are."""
    now = datetime.now(timezone.utc) + later
    with deployment.environment():
        platform, instance = deployment.platform, deployment.instance
        return list(find_removable(platform, instance, now, 30, timedelta(days=1)))


def assert_everything_promoted_is_whole(deployment: Deployment, recipe: Recipe) -> None:
    artifacts = deployment.platform.artifacts
    promotions = list(every_promotion(deployment.platform.store))
    assert len(promotions) >= 2  # the pointer, and its history
    for promotion in promotions:
        model = artifacts.get(promotion.model, promotion.attempt)
        assert artifacts.read_all(model)  # verifies each sha256
        for stage, identity in model.inputs.items():
            source = artifacts.of_identity("processed-data", recipe.config_hash, stage, identity)
            assert source is not None
            assert artifacts.read_all(source)
    log = event_log(logging.getLogger("flts.serving"))
    champions = Champions(
        deployment.platform.store, identifier=None, config_hash=None, threads=1, log=log
    )
    champions.refresh()
    assert set(champions.served.by_hash) == {recipe.config_hash}
    assert champions.served.refused == {}


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    assert after.items() <= before.items()
    return before.keys() - after.keys()


def test_gc_on_s3_removes_what_nothing_names_and_nothing_else(
    deployment: Deployment, recipe: Recipe
) -> None:
    promoted = []
    for force in (False, True):  # two promotions: the pointer names one, its history both
        run = deployment.run(recipe, force=force)
        assert run.result.success, run.failures
        promoted.append(attempt_of(deployment, recipe))
    assert len(set(promoted)) == 2
    deployment.run(recipe, "gru_model", force=True)  # nobody scores it before the next takes over
    superseded = attempt_of(deployment, recipe)
    run = deployment.run(recipe, "gru_model", "leaderboard", "promoted_model", force=True)
    assert run.result.success, run.failures
    store = deployment.platform.store
    assert isinstance(store, S3Store)
    crashed = f"{recipe.config_hash}/gru_model/{'f' * 16}/crashed/weights"
    store.create(MODELS, crashed, b"12345")

    machine = Machine(deployment.home, deployment.variables)
    assert machine.output_of("gc", "--apply").startswith("0 thing(s)")  # all of it is young
    before = deployment.objects()
    runs = {
        one.data.tags["flts.attempt"]: one.info.run_id
        for one in deployment.mlflow_runs(recipe)
        if "flts.attempt" in one.data.tags  # a pipeline's own run trains nothing
    }
    found = found_by_gc(deployment, timedelta(days=2))
    assert deployment.objects() == before  # it was only told
    assert f"MLflow run {runs[superseded]}" in {one.what for one in found}

    for one in found:
        one.remove()
    gone = difference(before, deployment.objects())
    assert f"{MODELS}/{crashed}" in gone
    of_superseded = {key for key in before if f"/{superseded}/" in key}
    assert of_superseded
    assert of_superseded <= gone
    named = {one.attempt for one in every_promotion(store)}
    assert set(promoted) <= named
    assert not {key for key in gone if any(f"/{attempt}/" in key for attempt in named)}
    assert sum(one.size or 0 for one in found) > 5
    left = {one.info.run_id for one in deployment.mlflow_runs(recipe)}
    assert runs[superseded] not in left
    assert {one.run_id for one in every_promotion(store)} <= left

    assert found_by_gc(deployment, timedelta(days=2)) == []
    assert_everything_promoted_is_whole(deployment, recipe)
    after = deployment.objects()
    run = deployment.run(recipe)
    assert run.result.success, run.failures
    assert not run.named("train_start")
    # Nothing is computed again but the report, whose table of MLflow runs is shorter now.
    new = deployment.objects().keys() - after.keys()
    assert all("/verification_report/" in key for key in new), new
