from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from flts_assets.errors import TrainingError
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.prophet_model import prophet_forecasts, train_prophet
from flts_assets.forecasting.split import Split
from flts_assets.recipe import Recipe
from flts_assets_tests.forecasting.datasets import (
    demo_dataset,
    demo_recipe,
    first_validation_window,
    silent,
)

WIDE = {"size": 6, "horizon": 3, "targets": ["down", "up"]}


def hourly_split(recipe: Recipe, rows: int = 120) -> Split:
    """The train split on a grid of one hour: long enough for Prophet's daily season."""
    split = demo_dataset(recipe, train_rows=rows, test_rows=40).train
    return replace(split, times=pd.date_range("2024-01-01", periods=rows, freq="1h"))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return demo_recipe(window=WIDE, prophet={"n_changepoints": 7, "changepoint_prior_scale": 0.3})


def test_forecast_is_prophets_own_on_all_measured_rows(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    split.measured[[3, 50], 0] = np.nan
    models = json.loads(train_prophet(split, recipe, silent).models)
    times = pd.date_range(split.times[-1], periods=31, freq="1h")[1:]
    forecasts = prophet_forecasts(
        {target: models[target] for target in ("down", "up")}, times.to_numpy().reshape(10, 3)
    )
    for place in (0, 1):
        own = Prophet(n_changepoints=7, changepoint_prior_scale=0.3, uncertainty_samples=0)
        own.fit(pd.DataFrame({"ds": split.times, "y": split.measured[:, place]}).dropna(), seed=0)
        expected = own.predict(pd.DataFrame({"ds": times}))["yhat"].to_numpy()
        np.testing.assert_allclose(forecasts[..., place].ravel(), expected, rtol=1e-9)


def test_forecast_of_a_moment_is_the_same_from_every_cutoff(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    forecasts = train_prophet(split, recipe, silent).validation_forecasts
    np.testing.assert_array_equal(forecasts[1:, 0], forecasts[:-1, 1])
    np.testing.assert_array_equal(forecasts[1:, 1], forecasts[:-1, 2])


def test_training_again_gives_the_same_bytes_and_forecasts(recipe: Recipe) -> None:
    one, again = (train_prophet(hourly_split(recipe), recipe, silent) for _ in range(2))
    assert again.models == one.models
    np.testing.assert_array_equal(again.validation_forecasts, one.validation_forecasts)


def test_validation_fit_never_sees_validation_rows_and_the_kept_one_does(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    first = first_validation_window(split, recipe)
    one = train_prophet(split, recipe, silent)
    measured = split.measured.copy()
    measured[first + recipe.window.size :] *= 100
    other = train_prophet(replace(split, measured=measured), recipe, silent)
    assert one.validation_forecasts.shape == (split.windows - first, 3, 2)
    np.testing.assert_array_equal(other.validation_forecasts, one.validation_forecasts)
    assert other.models != one.models


def test_fewer_than_two_measured_rows_are_refused_by_target(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    split.measured[:, 1] = np.nan
    split.measured[5, 1] = 1.0
    with pytest.raises(TrainingError, match="two measured rows of target 'up'") as caught:
        train_prophet(split, recipe, silent)
    assert caught.value.received == 1


@pytest.mark.parametrize("rows", [9, 12, 30])
def test_changepoints_are_clamped_to_what_a_short_history_can_hold(rows: int) -> None:
    recipe = demo_recipe(window={"size": 2})
    split = hourly_split(recipe, rows)
    (model,) = json.loads(train_prophet(split, recipe, silent).models).values()
    assert model["n_changepoints"] == min(25, int(0.8 * rows) - 1)


def test_two_measured_rows_are_enough() -> None:
    recipe = demo_recipe()
    split = hourly_split(recipe)
    split.measured[2:] = np.nan
    assert np.isfinite(train_prophet(split, recipe, silent).validation_forecasts).all()


def test_each_fit_is_reported(recipe: Recipe) -> None:
    told: list[Progress] = []
    trained = train_prophet(hourly_split(recipe), recipe, told.append)
    assert [progress.done for progress in told] == [0.25, 0.5, 0.75, 1]
    assert [progress.epoch for progress in told] == [1, 2, 3, 4]
    assert told[-1].remaining_s == 0
    assert trained.fit_s > 0
