"""No model, baseline, interval or scale knows what it could not have known."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from safetensors.torch import load

from flts_assets.forecasting.baselines import BASELINES, Forecast
from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.metrics import Scores, score
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.split import Split, validation_windows
from flts_assets.forecasting.training import TrainedModel
from flts_assets.recipe import RAW_COLUMNS, CandidateType, ModelType, Recipe
from flts_assets_tests.forecasting.datasets import demo_recipe
from flts_assets_tests.forecasting.trained import every_kind_recipe, train_all

Floats = npt.NDArray[np.float64]

DEMO = every_kind_recipe()
REAL = every_kind_recipe(
    2,
    data={
        "train_file": "PobleSec.csv",
        "test_file": "PobleSec_test.csv",
        "sample_train_rows": 240,
        "sample_test_rows": 150,
    },
    scaling={"method": "LogMedianScaler"},
    lags={"enabled": True, "n_lags": 1},
    recurrent={
        "variants": [{"predict": "change", "change_decay": 0.5}, {"scaling": "SqrtScaler"}],
        "schedule": "one_cycle",
    },
    ensemble={"members": ["LSTM", "TREES"]},
)
ONE_NET = demo_recipe(window={"size": 6, "horizon": 2, "targets": ["down", "up"]}, models=["GRU"])


@dataclass(frozen=True)
class Case:
    """Rows, and all that was trained on them."""

    recipe: Recipe
    train: pd.DataFrame
    test: pd.DataFrame
    models: dict[CandidateType, TrainedModel]

    def data(self, test: pd.DataFrame | None = None) -> Dataset:
        """With these test rows instead."""
        return self._prepared(test)[0]

    def trained(self, test: pd.DataFrame) -> dict[CandidateType, TrainedModel]:
        """Again, with these test rows instead."""
        return train_all(*self._prepared(test), self.recipe)

    def forecasts(self, data: Dataset) -> dict[str, Forecast]:
        """How each model and baseline forecasts."""
        return {
            **{name: fit(data) for name, fit in BASELINES.items()},
            **{
                name: load_forecaster(model.files, 1).forecast
                for name, model in self.models.items()
            },
        }

    def _prepared(self, test: pd.DataFrame | None) -> tuple[Dataset, pd.DataFrame]:
        rows = prepare(self.train, self.test if test is None else test, self.recipe)
        train, test_rows = (split_of(split, self.recipe) for split in rows[:2])
        return Dataset(train, test_rows, rows[2]), rows[0].measured


@pytest.fixture(scope="module", params=["demo", "real"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "demo":
        recipe, (train, test) = DEMO, demo_cell(120, 160)
        train.iloc[[3, 50], 5] = np.nan
        test.iloc[:40, RAW_COLUMNS.index("up")] = np.nan
    else:
        folder: Path = request.getfixturevalue("real_data")
        recipe = REAL
        train, test = (
            read_raw((folder / file).read_bytes(), file)
            for file in (recipe.data.train_file, recipe.data.test_file)
        )
    case = Case(recipe, train, test, {})
    case.models.update(case.trained(test))
    return case


def windows_before(split: Split, row: int) -> slice:
    """The windows that see no row from this one on."""
    return slice(0, row - split.window.size + 1)


@pytest.mark.parametrize("first", [30, 140])
def test_rows_from_the_cutoff_on_change_nothing_of_the_forecasts_before_it(
    case: Case, first: int
) -> None:
    data = case.data()
    split = data.test
    features, measured = split.features.copy(), split.measured.copy()
    features[first:] = np.nan
    measured[first:] = np.nan
    poisoned = replace(split, features=features, measured=measured)
    before = windows_before(split, first)
    forecasts = case.forecasts(data)
    assert set(forecasts) == {*BASELINES, *case.recipe.models, "ENSEMBLE"}
    for name, forecast in forecasts.items():
        clean, other = forecast(split), forecast(poisoned)
        assert np.isfinite(clean).all(), name
        assert other[before].tobytes() == clean[before].tobytes(), name
        later = slice(before.stop, None)
        assert name == "PROPHET" or not np.array_equal(other[later], clean[later]), name


@pytest.mark.parametrize("first", [30, 140])
def test_raw_rows_from_the_cutoff_on_change_nothing_of_the_forecasts_before_it(
    case: Case, first: int
) -> None:
    raw = case.test.copy()
    lost = case.recipe.lags.rows_lost
    raw.iloc[lost + first :] = np.nan
    clean, poisoned = case.data(), case.data(raw)
    before = windows_before(clean.test, first)
    for (name, forecast), other in zip(
        case.forecasts(clean).items(), case.forecasts(poisoned).values(), strict=True
    ):
        one, two = forecast(clean.test), other(poisoned.test)
        assert two[before].tobytes() == one[before].tobytes(), name


def test_other_test_rows_leave_scales_and_every_trained_file_as_they_are(case: Case) -> None:
    other = case.test.iloc[::-1].set_axis(case.test.index) * 3
    other.iloc[::7] = np.nan
    data = case.data(other)
    assert not np.array_equal(data.test.features, case.data().test.features)
    fitted = data.preprocessing.model_dump_json()
    assert fitted == case.data().preprocessing.model_dump_json()
    np.testing.assert_array_equal(data.train.features, case.data().train.features)
    retrained = case.trained(other)
    assert set(retrained) == set(case.models)
    for name, model in retrained.items():
        assert model.model == case.models[name].model, name
        assert model.validation == case.models[name].validation


def test_two_runs_give_the_same_files_and_scores(case: Case) -> None:
    again = case.trained(case.test)
    for name, model in case.models.items():
        assert again[name].model == model.model, name
        assert again[name].validation == model.validation
        assert again[name].net_scores == model.net_scores


def test_saved_weights_give_exactly_the_recorded_validation_score(case: Case) -> None:
    data = case.data()
    held_out = validation_windows(data.train, case.recipe.recurrent)
    fitted = data.preprocessing
    for name in ("GRU", "LSTM"):
        model = case.models[name]
        forecasts = load_forecaster(model.files, 1).forecast(held_out)
        scores = score(held_out.actuals(), forecasts, fitted.targets, fitted.target_ranges)
        assert scores == model.validation
        assert (
            Scores.model_validate(json.loads(model.files["training.json"])["validation"]) == scores
        )


def only(recipe: Recipe, kind: ModelType = "GRU") -> TrainedModel:
    """That one model of the recipe, trained on DemoCell."""
    train, test = demo_cell(120, 40)
    return Case(recipe.updated({"models": [kind]}), train, test, {}).trained(test)[kind]


def test_saved_weights_are_those_of_the_best_epoch_and_give_exactly_its_loss() -> None:
    recipe = ONE_NET.updated({"recurrent": {"learning_rate": 0.3, "max_epochs": 12}})
    trained = only(recipe)
    losses = [epoch.validation_loss or 0.0 for epoch in trained.epochs]
    (best,) = trained.best_epochs
    assert best == 1 + int(np.argmin(losses)) < len(losses) == 12
    data = Case(recipe, *demo_cell(120, 40), {}).data()
    net = RecurrentNet("GRU", data.train.features.shape[1], recipe.window, recipe.recurrent)
    net.load_state_dict(load(trained.files["weights.safetensors"]))
    held_out = validation_windows(data.train, recipe.recurrent)
    wanted = torch.from_numpy(
        held_out.ahead(held_out.features[:, data.preprocessing.target_places]).copy()
    )
    with torch.inference_mode():
        outputs = net(torch.from_numpy(held_out.inputs().copy()))
    assert float(torch.nn.functional.mse_loss(outputs, wanted)) == losses[best - 1]


@pytest.mark.parametrize("seed", [0, 2])
def test_averaged_nets_are_the_single_nets_of_their_seeds(seed: int) -> None:
    # A mean of floored forecasts is not the floored mean.
    plain = ONE_NET.updated({"floor_at_zero": False})
    three = only(plain.updated({"seed": seed, "recurrent": {"members": 3}}))
    singles = [only(plain.updated({"seed": 3 * seed + member})) for member in range(3)]
    weights = load(three.files["weights.safetensors"])
    for member, single in enumerate(singles):
        for name, value in load(single.files["weights.safetensors"]).items():
            assert torch.equal(weights[f"{member}.{name}"], value)
    scores = [single.validation.score for single in singles]
    assert len(set(scores)) == 3
    assert three.net_scores == pytest.approx(scores, rel=1e-5)
    assert three.seed_spread == pytest.approx(np.std(scores, ddof=1), rel=1e-3)
    assert [single.seed_spread for single in singles] == [None] * 3
    data = Case(ONE_NET, *demo_cell(120, 40), {}).data()
    mean = np.mean(
        [load_forecaster(single.files, 1).forecast(data.test) for single in singles], axis=0
    )
    forecasts = load_forecaster(three.files, 1).forecast(data.test)
    np.testing.assert_allclose(forecasts, mean, rtol=1e-5)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "TREES"])
def test_another_seed_gives_other_scores(kind: ModelType) -> None:
    one, other = (only(ONE_NET.updated({"seed": seed}), kind) for seed in (0, 1))
    assert one.validation.score != other.validation.score
    assert one.model["model.onnx"] != other.model["model.onnx"]


@pytest.mark.parametrize("members", [1, 2])
def test_net_that_is_fitted_again_keeps_its_validation_and_gets_other_weights(members: int) -> None:
    recipe = ONE_NET.updated({"recurrent": {"members": members, "max_epochs": 4}})
    once, again = only(recipe), only(recipe.updated({"recurrent": {"refit": True}}))
    assert again.validation == once.validation
    assert again.net_scores == once.net_scores
    assert again.best_epochs == once.best_epochs
    for name in ("validation.npy", "intervals.json", "preprocessing.json"):
        assert again.model[name] == once.model[name]
    for name in ("model.onnx", "weights.safetensors", "example.json"):
        assert again.model[name] != once.model[name]
    validated = 4 * members
    assert [epoch.validation_loss for epoch in again.epochs[:validated]] == [
        epoch.validation_loss for epoch in once.epochs
    ]
    refits = again.epochs[validated:]
    assert len(refits) == sum(once.best_epochs)
    assert {epoch.validation_loss for epoch in refits} == {None}


def test_validation_is_of_fits_that_never_saw_its_rows_though_kept_models_may_have() -> None:
    # One epoch, so that another validation loss chooses no other.
    recipe = every_kind_recipe(recurrent={"max_epochs": 1, "refit": True}, ensemble={"members": []})
    rows, test = demo_cell(120, 40)
    data = Case(recipe, rows, test, {}).data()
    split = data.train
    held_out = validation_windows(split, recipe.recurrent)
    first = len(split) - len(held_out) + recipe.window.size
    features, measured = split.features.copy(), split.measured.copy()
    features[first:] += 0.5
    measured[first:] *= 2
    other = replace(data, train=replace(split, features=features, measured=measured))
    one, two = train_all(data, rows, recipe), train_all(other, rows, recipe)
    for name, model in one.items():
        # The first window sees the last row before it.
        forecasts, changed = (
            np.load(io.BytesIO(of.files["validation.npy"])) for of in (model, two[name])
        )
        assert changed[0].tobytes() == forecasts[0].tobytes(), name
        kept = "prophet.json" if name == "PROPHET" else "model.onnx"
        assert two[name].model[kept] != model.model[kept], name
        assert two[name].validation != model.validation, name
