"""Who is best at each station."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.assets.champions import champions
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.stores.artifacts import Place
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer, Promotion
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment

SHORT = load_recipe(SAMPLE50)
FULL = SHORT.updated({"name": "full", "data": {"sample_train_rows": 0, "sample_test_rows": 0}})
SEEDED = FULL.updated({"name": "seeded", "seed": 1})
UP = FULL.updated({"name": "up", "window": {"targets": ["up"]}})


def promotion(recipe: Recipe, skill: float = 0.1, score: float = 0.02) -> Promotion:
    place = Place(
        bucket="models", config_hash=recipe.config_hash, stage="gru_model", fingerprint="f"
    )
    return Promotion(
        run_id=f"run-of-{recipe.name}",
        model_type="GRU",
        config_hash=recipe.config_hash,
        model_uri="runs:/r/GRU",
        score=score,
        timestamp=datetime.now(timezone.utc) - timedelta(days=2),
        identifier="global",
        experiment="Default",
        rmse=0.1,
        mae=0.1,
        mse=0.1,
        weights={},
        recipe=recipe.name,
        model=place,
        attempt="a",
        leaderboard="l",
        skill=skill,
        reason="best",
        actor="test",
    )


@pytest.fixture
def deployment(home: Path) -> Iterator[Deployment]:
    deployment = Deployment(home, in_memory=True)
    with deployment.instance:
        yield deployment


def promote(deployment: Deployment, recipe: Recipe, skill: float, score: float = 0.02) -> None:
    deployment.platform.registry.register(recipe)
    pointer = Pointer(deployment.platform.store, recipe.config_hash, None)
    pointer.move(promotion(recipe, skill, score), None)


def overview(deployment: Deployment) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of the object, metadata of the asset."""
    with deployment.environment():
        result = dg.materialize(
            [champions],
            instance=deployment.instance,
            resources={"platform": deployment.platform},
        )
    (event,) = result.asset_materializations_for_node("champions")
    rows = json.loads(deployment.platform.store.get(MODEL_PROMOTION, "global/champions.json"))
    return rows, {name: one.value for name, one in event.metadata.items()}


def test_best_of_each_station_is_that_of_highest_skill_among_like(deployment: Deployment) -> None:
    promote(deployment, FULL, skill=0.10, score=0.01)
    promote(deployment, SEEDED, skill=0.20, score=0.02)
    promote(deployment, FULL.for_station("ElBorn"), skill=-0.1)
    rows, metadata = overview(deployment)
    assert [(row["station"], row["recipe"], row["candidates"]) for row in rows] == [
        ("ElBorn", "full-ElBorn", 1),
        ("PobleSec", "seeded", 2),
    ]
    assert metadata["dagster/row_count"] == 2
    assert metadata["compared"] == 3
    shown = metadata["champions"].records[1].data  # type: ignore[attr-defined]
    assert shown["age_days"] == 2.0
    assert shown["mlflow_run_id"] == "run-of-seeded"


def test_other_targets_and_other_test_rows_are_not_compared(deployment: Deployment) -> None:
    for skill, recipe in enumerate((FULL, SHORT, UP)):
        promote(deployment, recipe, skill=float(skill))
    rows, _ = overview(deployment)
    assert {(row["targets"], row["test_rows"]) for row in rows} == {
        ("down", "PobleSec_test.csv: all"),
        ("down", "PobleSec_test.csv: head 50"),
        ("up", "PobleSec_test.csv: all"),
    }


def test_rows_drawn_otherwise_and_windows_of_another_size_are_not_compared(
    deployment: Deployment,
) -> None:
    drawn = SHORT.updated({"name": "drawn", "data": {"sample_strategy": "random"}})
    again = drawn.updated({"name": "again", "data": {"sample_seed": 1}})
    wider = FULL.updated({"name": "wider", "window": {"size": FULL.window.size + 1}})
    for skill, recipe in enumerate((FULL, wider, drawn, again)):
        promote(deployment, recipe, skill=float(skill))
    rows, _ = overview(deployment)
    assert {row["recipe"]: row["candidates"] for row in rows} == {
        **{"full": 1, "wider": 1, "drawn": 1, "again": 1}
    }
    assert {row["test_rows"] for row in rows} == {
        "PobleSec_test.csv: all",
        "PobleSec_test.csv: random 50, seed 0",
        "PobleSec_test.csv: random 50, seed 1",
    }


def test_champion_whose_recipe_is_lost_hides_no_other(deployment: Deployment) -> None:
    pointer = Pointer(deployment.platform.store, UP.config_hash, None)
    pointer.move(promotion(UP), None)
    promote(deployment, FULL, skill=0.1)
    rows, _ = overview(deployment)
    assert [row["recipe"] for row in rows] == ["full"]


def test_overview_of_nothing_is_an_empty_table(deployment: Deployment) -> None:
    rows, metadata = overview(deployment)
    assert rows == []
    assert metadata["dagster/row_count"] == 0
