from __future__ import annotations

import io
import json
import statistics
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import ModelCard, load_forecaster
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.net_kinds import NET_KINDS
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.prophet_model import train_prophet
from flts_assets.forecasting.training import TrainedModel, train_model, training_pictures
from flts_assets.forecasting.trees import train_trees
from flts_assets.recipe import ModelType, Recipe
from flts_assets_tests.forecasting.datasets import (
    demo_dataset,
    demo_recipe,
    first_validation_window,
    silent,
)

WIDE = {"size": 6, "horizon": 2, "targets": ["down", "up"]}
SHARED = {
    *("model.json", "preprocessing.json", "intervals.json", "example.json", "validation.npy"),
    "training.json",
}
NET = SHARED | {"model.onnx", "nets.json", "weights.safetensors"}
FILES = {
    "GRU": NET,
    "LSTM": NET,
    "PROPHET": SHARED | {"prophet.json"},
    "TREES": SHARED | {"model.onnx"},
}


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
    assert set(trained.model) == FILES[kind] - {"training.json"}
    assert set(trained.descriptions) == {"training.json"}


def test_pictures_show_validation_rows_and_the_losses_of_nets(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    pictures = training_pictures(kind, trained, demo_dataset(recipe), recipe)
    losses = {"loss.png"} if kind in ("GRU", "LSTM") else set()
    assert set(pictures) == {"validation.png"} | losses
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())


def test_files_say_what_the_model_is_and_how_its_rows_were_prepared(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    card = ModelCard.model_validate_json(trained.files["model.json"])
    assert (card.model_type, card.window) == (kind, recipe.window)
    section = {"PROPHET": recipe.prophet, "TREES": recipe.trees}.get(kind, recipe.recurrent)
    assert card.settings == section.model_dump(mode="json")
    fitted = FittedPreprocessing.model_validate_json(trained.files["preprocessing.json"])
    assert fitted == demo_dataset(recipe).preprocessing


def test_validation_score_is_that_of_what_was_kept_on_the_last_train_windows(
    kind: ModelType, recipe: Recipe, trained: TrainedModel
) -> None:
    data = demo_dataset(recipe)
    split = data.train
    first = first_validation_window(split, recipe)
    files = dict(trained.files)
    fitted = data.preprocessing
    if kind == "PROPHET":
        files["prophet.json"] = train_prophet(split, recipe, silent).validated
    if kind == "TREES":
        trees = train_trees(split, fitted.target_places, recipe, 1, silent)
        files["model.onnx"] = trees.validated_onnx
    forecasts = load_forecaster(files, 1).forecast(split)[first:]
    expected = score(split.actuals()[first:], forecasts, fitted.targets, fitted.target_ranges)
    assert trained.validation == expected
    assert expected.forecasts == (split.windows - first) * 2 * 2
    kept = np.load(io.BytesIO(trained.files["validation.npy"]))
    units = np.array(fitted.target_ranges)
    np.testing.assert_allclose(kept / units, forecasts / units, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"], indirect=True)
def test_validation_loss_and_mse_of_min_max_scaled_targets_are_the_same_number(
    kind: ModelType, recipe: Recipe
) -> None:
    recipe = recipe.updated({"floor_at_zero": False})
    trained = train_model(kind, demo_dataset(recipe), demo_cell(80, 40)[0], recipe, 1, silent)
    (best,) = trained.best_epochs
    kept = trained.epochs[best - 1]
    assert trained.validation.mse == pytest.approx(kept.validation_loss, rel=1e-4)


def test_validation_loss_of_a_predicted_change_is_that_of_the_level_it_adds_up_to() -> None:
    recipe = demo_recipe(
        window=WIDE,
        recurrent={"predict": "change", "schedule": "one_cycle"},
        floor_at_zero=False,
    )
    trained = train_model("GRU", demo_dataset(recipe), demo_cell(80, 40)[0], recipe, 1, silent)
    (kind,) = NET_KINDS.validate_json(trained.files["nets.json"])
    assert kind.predict == "change"
    (best,) = trained.best_epochs
    kept = trained.epochs[best - 1]
    assert trained.validation.mse == pytest.approx(kept.validation_loss, rel=1e-4)


def test_averaged_nets_are_scored_alone_too_and_tell_the_spread_from_seed_to_seed() -> None:
    plain = demo_recipe(window=WIDE, floor_at_zero=False)
    recipe = plain.updated({"recurrent": {"members": 3}})
    data, train = demo_dataset(recipe), demo_cell(80, 40)[0]
    trained = train_model("GRU", data, train, recipe, 1, silent)
    alone = [
        train_model("GRU", data, train, plain.updated({"seed": seed}), 1, silent)
        for seed in range(3)
    ]
    scores = [one.validation.score for one in alone]
    assert trained.net_scores == pytest.approx(scores, rel=1e-5)
    assert trained.seed_spread == pytest.approx(statistics.stdev(scores), rel=1e-3)
    assert alone[0].seed_spread is None
    assert len(trained.best_epochs) == 3
    mean = np.mean([np.load(io.BytesIO(one.files["validation.npy"])) for one in alone], axis=0)
    averaged = np.load(io.BytesIO(trained.files["validation.npy"]))
    np.testing.assert_allclose(averaged, mean, rtol=1e-5)


def test_refitted_net_is_scored_by_the_net_that_never_saw_the_validation_rows() -> None:
    train = demo_cell(80, 40)[0]
    plain, refitted = (
        train_model("GRU", demo_dataset(recipe), train, recipe, 1, silent)
        for recipe in (demo_recipe(recurrent={"refit": refit}) for refit in (False, True))
    )
    assert refitted.validation == plain.validation
    for name in ("validation.npy", "intervals.json"):
        assert refitted.files[name] == plain.files[name]
    for name in ("model.onnx", "weights.safetensors", "example.json"):
        assert refitted.files[name] != plain.files[name]


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
    assert record["best_epochs"] == list(trained.best_epochs)
    assert record["net_scores"] == list(trained.net_scores)
    assert record["threads"] == 1
    numbers = [1, 2] if kind in ("GRU", "LSTM") else []
    assert [epoch["epoch"] for epoch in record["epochs"]] == numbers
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
    assert other.model == trained.model


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


def test_fewest_rows_that_preparing_allows_can_be_trained_on(kind: ModelType) -> None:
    recipe = demo_recipe(lags={"enabled": True, "n_lags": 5})
    rows, test_rows, fitted = prepare(*demo_cell(17, 17), recipe)
    data = Dataset(split_of(rows, recipe), split_of(test_rows, recipe), fitted)
    assert train_model(kind, data, rows.measured, recipe, 1, silent).files
