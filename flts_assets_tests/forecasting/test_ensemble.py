from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from flts_assets.errors import ArtifactError
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.ensemble import convex_weights, train_ensemble
from flts_assets.forecasting.forecaster import ModelCard, check_example, load_forecaster
from flts_assets.forecasting.intervals import Intervals
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.split import Split, validation_windows
from flts_assets.forecasting.training import TrainedModel
from flts_assets.recipe import ModelType
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe
from flts_assets_tests.forecasting.trained import FAMILIES, ROWS, demo_models, every_kind_recipe

Floats = npt.NDArray[np.float64]


def ensemble_of(members: tuple[ModelType, ...], weights: str = "equal") -> TrainedModel:
    """Of models that are trained once for all tests."""
    recipe = every_kind_recipe(ensemble={"members": members, "weights": weights})
    files = {name: demo_models(every_kind_recipe())[name].files for name in members}
    return train_ensemble(files, demo_dataset(recipe, *ROWS), demo_cell(*ROWS)[0], recipe, 1)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return demo_dataset(every_kind_recipe(), *ROWS)


@pytest.fixture(scope="module", params=["equal", "validated"])
def ensemble(request: pytest.FixtureRequest) -> TrainedModel:
    return ensemble_of(FAMILIES, request.param)


def weights_of(trained: TrainedModel) -> dict[ModelType, float]:
    weights: dict[ModelType, float] = json.loads(trained.files["ensemble.json"])
    return weights


def own_files(trained: TrainedModel, member: str) -> dict[str, bytes]:
    return {
        name.removeprefix(f"{member}."): content
        for name, content in trained.files.items()
        if name.startswith(f"{member}.")
    }


def validation_of(member: ModelType) -> Floats:
    content = demo_models(every_kind_recipe())[member].files["validation.npy"]
    forecasts: Floats = np.load(io.BytesIO(content))
    return forecasts


def squared_error(
    weights: Floats, forecasts: Mapping[ModelType, Floats], held_out: Split, unit: Floats
) -> float:
    """In units of each target's range, over the measured values."""
    mean = sum(weight * of for weight, of in zip(weights, forecasts.values(), strict=True))
    return float(np.nansum(((mean - held_out.actuals()) / unit) ** 2))


def test_equal_weights_forecast_the_mean_of_the_members(data: Dataset) -> None:
    trained = ensemble_of(FAMILIES)
    assert weights_of(trained) == pytest.approx(dict.fromkeys(FAMILIES, 1 / 3))
    rows = demo_cell(*ROWS)[1]
    members = [
        load_forecaster(demo_models(every_kind_recipe())[name].files, 1) for name in FAMILIES
    ]
    whole = load_forecaster(trained.files, 1)
    for mean, forecasts in (
        (whole.forecast(data.test), [one.forecast(data.test) for one in members]),
        (whole.forecast_next(rows), [one.forecast_next(rows) for one in members]),
    ):
        np.testing.assert_allclose(mean, np.mean(forecasts, axis=0), rtol=1e-12)


def test_forecast_is_the_weighted_sum_of_the_members(data: Dataset, ensemble: TrainedModel) -> None:
    weights = weights_of(ensemble)
    assert sum(weights.values()) == pytest.approx(1)
    forecasts = load_forecaster(ensemble.files, 1).forecast(data.test)
    models = demo_models(every_kind_recipe())
    expected = sum(
        weight * load_forecaster(models[name].files, 1).forecast(data.test)
        for name, weight in weights.items()
    )
    assert forecasts.shape == data.test.actuals().shape
    np.testing.assert_allclose(forecasts, expected, rtol=1e-12)


def test_ensembles_of_two_hold_just_those_two() -> None:
    trained = ensemble_of(("GRU", "PROPHET"))
    assert weights_of(trained) == {"GRU": 0.5, "PROPHET": 0.5}
    assert not own_files(trained, "TREES")
    assert own_files(trained, "PROPHET")


def test_validated_weights_have_the_least_squared_error_of_a_fine_grid(data: Dataset) -> None:
    recipe = every_kind_recipe()
    weights = weights_of(demo_models(recipe)["ENSEMBLE"])
    held_out = validation_windows(data.train, recipe.recurrent)
    unit = np.array(data.preprocessing.target_ranges)
    forecasts = {name: validation_of(name) for name in FAMILIES}
    best = squared_error(np.array(list(weights.values())), forecasts, held_out, unit)
    grid = [
        squared_error(np.array([one, other, 50 - one - other]) / 50, forecasts, held_out, unit)
        for one in range(51)
        for other in range(51 - one)
    ]
    assert best <= min(grid) * (1 + 1e-9)
    assert min(grid) < 1.01 * best, "the grid comes near it"


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.floats(0.05, 3), min_size=2, max_size=3),
    bias=st.floats(-1, 1),
)
@settings(max_examples=25, deadline=None)
def test_convex_weights_are_those_of_a_general_solver(
    seed: int, sizes: list[float], bias: float
) -> None:
    recipe, draw = every_kind_recipe(), np.random.default_rng(seed)
    dataset = demo_dataset(recipe, 90, 20)
    held_out = validation_windows(dataset.train, recipe.recurrent)
    held_out.measured[draw.random(held_out.measured.shape) < 0.1] = np.nan
    unit = np.array(dataset.preprocessing.target_ranges)
    truth = np.nan_to_num(held_out.actuals())
    forecasts: dict[ModelType, Floats] = {
        name: truth + unit * (bias + size * draw.normal(size=truth.shape))
        for name, size in zip(FAMILIES, sizes, strict=False)
    }
    weights = np.array(list(convex_weights(forecasts, held_out, dataset, recipe).values()))
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    solved = minimize(
        squared_error,
        np.full(len(sizes), 1 / len(sizes)),
        (forecasts, held_out, unit),
        method="SLSQP",
        bounds=[(0, 1)] * len(sizes),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert squared_error(weights, forecasts, held_out, unit) <= solved.fun * (1 + 1e-6)
    np.testing.assert_allclose(weights, solved.x, atol=1e-3)


def test_perfect_member_gets_all_the_weight(data: Dataset) -> None:
    recipe = every_kind_recipe()
    held_out = validation_windows(data.train, recipe.recurrent)
    forecasts = {"GRU": held_out.actuals() * 1.1, "LSTM": held_out.actuals()}
    weights = convex_weights(forecasts, held_out, data, recipe)  # type: ignore[arg-type]
    assert weights == pytest.approx({"GRU": 0, "LSTM": 1}, abs=1e-6)


def test_weights_are_of_the_evaluated_targets_alone(data: Dataset) -> None:
    recipe = every_kind_recipe(evaluation={"targets": ["up"]})
    held_out = validation_windows(data.train, recipe.recurrent)
    actuals = held_out.actuals()
    forecasts = {"GRU": actuals * [3.0, 1.0], "LSTM": actuals * [1.0, 3.0]}
    weights = convex_weights(forecasts, held_out, data, recipe)  # type: ignore[arg-type]
    assert weights == pytest.approx({"GRU": 1, "LSTM": 0}, abs=1e-6)


def test_validation_score_is_that_of_the_members_validation_forecasts(
    data: Dataset, ensemble: TrainedModel
) -> None:
    recipe = every_kind_recipe()
    forecasts = sum(weight * validation_of(name) for name, weight in weights_of(ensemble).items())
    held_out = validation_windows(data.train, recipe.recurrent)
    fitted = data.preprocessing
    assert ensemble.validation == score(
        held_out.actuals(), np.asarray(forecasts), fitted.targets, fitted.target_ranges
    )
    np.testing.assert_array_equal(np.load(io.BytesIO(ensemble.files["validation.npy"])), forecasts)
    assert (ensemble.epochs, ensemble.best_epochs, ensemble.seed_spread) == ((), (), None)


@pytest.mark.parametrize("weights", ["equal", "validated"])
def test_validation_score_is_that_of_the_saved_files_where_no_member_saw_validation_rows(
    data: Dataset, weights: str
) -> None:
    trained = ensemble_of(("GRU", "LSTM"), weights)
    held_out = validation_windows(data.train, every_kind_recipe().recurrent)
    fitted = data.preprocessing
    forecasts = load_forecaster(trained.files, 1).forecast(held_out)
    assert trained.validation == score(
        held_out.actuals(), forecasts, fitted.targets, fitted.target_ranges
    )


def test_validated_ensemble_is_at_least_as_good_as_each_member_where_it_was_validated() -> None:
    models = demo_models(every_kind_recipe())
    assert models["ENSEMBLE"].validation.mse <= min(
        models[name].validation.mse for name in FAMILIES
    )


def test_ensemble_forecasts_from_its_own_files_alone(
    data: Dataset, ensemble: TrainedModel, tmp_path: Path
) -> None:
    for name, content in ensemble.model.items():
        (tmp_path / name).write_bytes(content)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    alone = load_forecaster(files, 1)
    np.testing.assert_array_equal(
        alone.forecast(data.test), load_forecaster(ensemble.files, 1).forecast(data.test)
    )


def test_each_members_files_are_its_own_and_forecast_by_themselves(
    data: Dataset, ensemble: TrainedModel
) -> None:
    for name in FAMILIES:
        member = demo_models(every_kind_recipe())[name]
        files = own_files(ensemble, name)
        assert files == {file: member.files[file] for file in files}
        np.testing.assert_array_equal(
            load_forecaster(files, 1).forecast(data.test),
            load_forecaster(member.files, 1).forecast(data.test),
        )


def test_card_says_what_the_ensemble_is(ensemble: TrainedModel) -> None:
    card = ModelCard.model_validate_json(ensemble.files["model.json"])
    assert (card.model_type, card.window) == ("ENSEMBLE", every_kind_recipe().window)
    assert card.settings["members"] == list(FAMILIES)


def test_saved_ensemble_reproduces_its_example_and_altered_weights_do_not(
    ensemble: TrainedModel,
) -> None:
    example = ensemble.files["example.json"]
    check_example(load_forecaster(ensemble.files, 1), example, tolerance=1e-9)
    altered = json.dumps({"GRU": 0.2, "TREES": 0.1, "PROPHET": 0.7}).encode()
    with pytest.raises(ArtifactError, match="does not reproduce"):
        check_example(load_forecaster({**ensemble.files, "ensemble.json": altered}, 1), example)


def test_training_an_ensemble_again_gives_the_same_bytes(ensemble: TrainedModel) -> None:
    weights = json.loads(ensemble.files["model.json"])["settings"]["weights"]
    assert ensemble_of(FAMILIES, weights).model == ensemble.model


def test_recursion_feeds_back_the_ensembles_own_forecast_and_not_each_members(
    ensemble: TrainedModel,
) -> None:
    forecaster = load_forecaster(ensemble.files, 1)
    rows = demo_cell(*ROWS)[1]
    first = forecaster.forecast_next(rows, 3)
    following = pd.DataFrame(
        [rows.iloc[-1]] * 3,
        index=rows.index[-1] + (rows.index[1] - rows.index[0]) * np.arange(1, 4),
    )
    following[["down", "up"]] = first
    received = forecaster.forecast_next(rows, 6)
    expected = forecaster.forecast_next(pd.concat([rows, following]), 3)
    np.testing.assert_allclose(received[3:], expected, rtol=1e-9)
    members = {
        name: load_forecaster(own_files(ensemble, name), 1).forecast_next(rows, 6)
        for name in FAMILIES
    }
    apart = sum(weight * members[name] for name, weight in weights_of(ensemble).items())
    np.testing.assert_allclose(received[:3], np.asarray(apart)[:3], rtol=1e-9)
    assert not np.allclose(received[3:], np.asarray(apart)[3:], rtol=1e-9)


def test_ensemble_needs_as_many_rows_as_its_neediest_member() -> None:
    recipe = demo_recipe(
        window={"size": 4},
        lags={"enabled": True, "n_lags": 3},
        ensemble={"members": ["GRU", "PROPHET"]},
        models=["GRU", "PROPHET"],
    )
    models = demo_models(recipe)
    needed = {name: load_forecaster(one.files, 1).rows_needed for name, one in models.items()}
    assert needed == {"GRU": 7, "PROPHET": 4, "ENSEMBLE": 7}


def test_bands_of_later_steps_are_as_wide_as_the_members_mean(ensemble: TrainedModel) -> None:
    own = Intervals.model_validate_json(ensemble.files["intervals.json"])
    members = {
        name: Intervals.model_validate_json(
            demo_models(every_kind_recipe())[name].files["intervals.json"]
        )
        for name in FAMILIES
    }
    assert len(own.knots) == min(len(one.knots) for one in members.values()) > 3
    expected = sum(
        weight * np.array(members[name].knots[3:]) for name, weight in weights_of(ensemble).items()
    )
    np.testing.assert_allclose(own.knots[3:], expected, rtol=1e-12)
    assert all(one.floors == own.floors for one in members.values())
