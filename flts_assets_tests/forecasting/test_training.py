from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import ModelCard, load_forecaster
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.prophet_model import train_prophet
from flts_assets.forecasting.training import TrainedModel, train_model
from flts_assets.recipe import ModelType, Recipe
from flts_assets_tests.forecasting.datasets import (
    demo_dataset,
    demo_recipe,
    first_validation_window,
    silent,
)

WIDE = {"size": 6, "horizon": 2, "targets": ["down", "up"]}
SHARED = {"model.json", "preprocessing.json", "example.json", "training.json", "validation.png"}
NET = SHARED | {"model.onnx", "weights.safetensors", "loss.png"}
FILES = {"GRU": NET, "LSTM": NET, "PROPHET": SHARED | {"prophet.json"}}
MODELS = {"GRU": "model.onnx", "LSTM": "model.onnx", "PROPHET": "prophet.json"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return demo_recipe(window=WIDE)


@pytest.fixture(scope="module", params=get_args(ModelType))
def kind(request: pytest.FixtureRequest) -> ModelType:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def trained(kind: ModelType, recipe: Recipe) -> TrainedModel:
    return train_model(kind, demo_dataset(recipe), demo_cell(80, 40)[0], recipe, 1, silent)


def test_training_leaves_every_file_of_its_kind_and_no_other(
    kind: ModelType, trained: TrainedModel
) -> None:
    assert set(trained.files) == FILES[kind]
    assert all(trained.files.values())


def test_files_say_what_the_model_is_and_how_its_rows_were_prepared(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    card = ModelCard.model_validate_json(trained.files["model.json"])
    assert (card.model_type, card.window) == (kind, recipe.window)
    section = recipe.prophet if kind == "PROPHET" else recipe.recurrent
    assert card.settings == section.model_dump()
    fitted = FittedPreprocessing.model_validate_json(trained.files["preprocessing.json"])
    assert fitted == demo_dataset(recipe).preprocessing


def test_validation_score_is_that_of_what_was_kept_on_the_last_train_windows(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    data = demo_dataset(recipe)
    split = data.train
    first = first_validation_window(split, recipe)
    forecasts = (
        train_prophet(split, recipe, silent).validation_forecasts
        if kind == "PROPHET"
        else load_forecaster(trained.files, 1).forecast(split)[first:]
    )
    fitted = data.preprocessing
    expected = score(split.actuals()[first:], forecasts, fitted.targets, fitted.target_ranges)
    assert trained.validation == expected
    assert expected.forecasts == (split.windows - first) * 2 * 2


@pytest.mark.parametrize("kind", ["GRU", "LSTM"], indirect=True)
def test_validation_loss_and_mse_of_min_max_scaled_targets_are_the_same_number(
    trained: TrainedModel,
) -> None:
    assert trained.best_epoch is not None
    kept = trained.epochs[trained.best_epoch - 1]
    assert trained.validation.mse == pytest.approx(kept.validation_loss, rel=1e-4)


def test_validation_loss_of_a_predicted_change_is_that_of_the_level_it_adds_up_to() -> None:
    recipe = demo_recipe(window=WIDE, recurrent={"predict": "change", "schedule": "one_cycle"})
    trained = train_model("GRU", demo_dataset(recipe), demo_cell(80, 40)[0], recipe, 1, silent)
    assert ModelCard.model_validate_json(trained.files["model.json"]).predict == "change"
    assert trained.best_epoch is not None
    kept = trained.epochs[trained.best_epoch - 1]
    assert trained.validation.mse == pytest.approx(kept.validation_loss, rel=1e-4)


def test_validation_scores_average_the_targets_that_the_recipe_evaluates() -> None:
    recipe = demo_recipe(window=WIDE, evaluation={"targets": ["up"]})
    data = demo_dataset(recipe)
    trained = train_model("GRU", data, demo_cell(80, 40)[0], recipe, 1, silent)
    unit = data.preprocessing.target_ranges[1]
    assert trained.validation.rmse == pytest.approx(trained.validation.raw_rmse["up"] / unit)
    assert set(trained.validation.raw_rmse) == {"down", "up"}


def test_record_of_the_training_tells_epochs_score_and_threads(
    kind: ModelType, trained: TrainedModel
) -> None:
    record = json.loads(trained.files["training.json"])
    assert Scores.model_validate(record["validation"]) == trained.validation
    assert record["best_epoch"] == trained.best_epoch
    assert record["threads"] == 1
    assert [epoch["epoch"] for epoch in record["epochs"]] == ([] if kind == "PROPHET" else [1, 2])
    assert len(trained.epochs) == len(record["epochs"])
    assert trained.fit_s > 0


def test_test_rows_are_not_looked_at(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    data = demo_dataset(recipe)
    nonsense = replace(
        data.test,
        features=np.full_like(data.test.features, np.nan),
        measured=np.full_like(data.test.measured, np.nan),
    )
    other = train_model(kind, replace(data, test=nonsense), demo_cell(80, 40)[0], recipe, 1, silent)
    assert other.validation == trained.validation
    for name in (MODELS[kind], "example.json", "preprocessing.json"):
        assert other.files[name] == trained.files[name]


@pytest.mark.parametrize("kind", ["GRU"], indirect=True)
def test_empty_cells_in_the_validation_rows_are_not_scored(kind: ModelType) -> None:
    recipe = demo_recipe()
    data = demo_dataset(recipe)
    train = demo_cell(80, 40)[0]
    full = train_model(kind, data, train, recipe, 1, silent)
    data.train.measured[-5:] = np.nan
    partial = train_model(kind, data, train, recipe, 1, silent)
    assert partial.validation.forecasts == full.validation.forecasts - 5
    assert partial.files["model.onnx"] == full.files["model.onnx"]


@pytest.mark.parametrize("kind", ["GRU"], indirect=True)
def test_fewest_rows_that_preparing_allows_can_be_trained_on(kind: ModelType) -> None:
    recipe = demo_recipe(lags={"enabled": True, "n_lags": 5})
    rows, test_rows, fitted = prepare(*demo_cell(17, 17), recipe)
    data = Dataset(split_of(rows, recipe), split_of(test_rows, recipe), fitted)
    assert train_model(kind, data, rows.measured, recipe, 1, silent).files
