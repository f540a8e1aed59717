"""Promoted models in a directory, and the service over it, without Dagster."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any, Final, get_args

import pandas as pd
from fastapi import FastAPI

from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.parquet import measured_parquet, processed_parquet
from flts_assets.logs import event_log
from flts_assets.recipe import RAW_COLUMNS, CandidateType, Recipe
from flts_assets.serving.app import create_app
from flts_assets.serving.champions import Champions
from flts_assets.serving.settings import ServingSettings
from flts_assets.settings import KafkaSettings
from flts_assets.stores.artifacts import Artifacts, Manifest, Outputs, Place, new_attempt
from flts_assets.stores.object_store import MODELS, PROCESSED_DATA, ObjectStore
from flts_assets.stores.pointer import GLOBAL, Pointer, Promotion
from flts_assets.stores.recipes import RecipeRegistry
from flts_assets_tests.forecasting.trained import ROWS, demo_models, every_kind_recipe

__all__ = ["KINDS", "application", "columns_of", "dataset_of", "later_rows", "promote", "recipe_of"]

KINDS: Final[tuple[CandidateType, ...]] = get_args(CandidateType)
"""each is the champion of a station of its name"""


def recipe_of(kind: CandidateType) -> Recipe:
    return every_kind_recipe().for_station(kind)


def dataset_of(recipe: Recipe) -> Dataset:
    train, test, fitted = prepare(*demo_cell(*ROWS), recipe)
    return Dataset(split_of(train, recipe), split_of(test, recipe), fitted)


def later_rows() -> pd.DataFrame:
    """Raw, without empty cells."""
    return demo_cell(*ROWS)[1]


def columns_of(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """As a request's `data` has them."""
    times = [moment.isoformat() for moment in rows.index]
    return {"time": times, **{name: rows[name].tolist() for name in RAW_COLUMNS}}


def promote(store: ObjectStore, kind: CandidateType) -> Promotion:
    """Make the kind's model the champion of its station's recipe."""
    recipe = recipe_of(kind)
    RecipeRegistry(store).register(recipe)
    processed = _write(store, PROCESSED_DATA, "processed_data", recipe, _processed(recipe), {})
    files = demo_models(every_kind_recipe())[kind].files
    model = _write(
        store,
        MODELS,
        f"{kind.lower()}_model",
        recipe,
        files,
        {"processed_data": processed.identity},
    )
    pointer = Pointer(store, recipe.config_hash, None)
    champion, version = pointer.read() or (None, None)
    promotion = Promotion(
        run_id=f"run-{kind}-{model.attempt}",
        model_type=kind,
        config_hash=recipe.config_hash,
        model_uri=f"runs:/run-{kind}/{kind}",
        score=0.025,
        timestamp=datetime.now(timezone.utc),
        identifier=GLOBAL,
        experiment="Default",
        rmse=0.036,
        mae=0.019,
        mse=0.001,
        weights={"rmse": 0.5, "mae": 0.3, "mse": 0.2},
        recipe=recipe.name,
        model=model.place,
        attempt=model.attempt,
        leaderboard="none",
        skill=0.1,
        reason="best score",
        actor="a test",
        previous=pointer.key_of(champion),
    )
    pointer.move(promotion, version)
    return promotion


def application(store: ObjectStore, kafka: KafkaSettings | None = None, **settings: Any) -> FastAPI:
    """The service over this store; champions are loaded when it starts."""
    log = event_log(logging.getLogger("flts.serving"))
    champions = Champions(store, identifier=None, config_hash=None, threads=1, log=log)
    return create_app(ServingSettings(**settings), champions, log, kafka)


def _processed(recipe: Recipe) -> dict[str, bytes]:
    train, _, _ = prepare(*demo_cell(*ROWS), recipe)
    return {
        "train.parquet": processed_parquet(train.processed, recipe),
        "train_measured.parquet": measured_parquet(train.measured, recipe),
    }


def _write(
    store: ObjectStore,
    bucket: str,
    stage: str,
    recipe: Recipe,
    files: dict[str, bytes],
    inputs: dict[str, str],
) -> Manifest:
    place = Place(
        bucket=bucket, config_hash=recipe.config_hash, stage=stage, fingerprint=f"{stage:f<64}"
    )
    artifacts = Artifacts(store)
    return artifacts.write(
        place,
        Outputs(files, {}),
        inputs,
        code_version="1",
        attempt=new_attempt(),
        replacing=artifacts.version(place),
    )
