from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from flts_assets.errors import TrainingError
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.prophet_curve import ProphetCurve
from flts_assets.forecasting.prophet_model import train_prophet
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


def curves_of(models: bytes) -> dict[str, ProphetCurve]:
    return {
        target: ProphetCurve.model_validate(curve) for target, curve in json.loads(models).items()
    }


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return demo_recipe(window=WIDE, prophet={"n_changepoints": 7, "changepoint_prior_scale": 0.3})


def test_forecast_is_prophets_own_on_all_measured_rows(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    split.measured[[3, 50], 0] = np.nan
    curves = curves_of(train_prophet(split, recipe, silent).models)
    times = pd.date_range(split.times[-1], periods=31, freq="1h")[1:]
    assert set(curves) == {"down", "up"}
    for place, target in enumerate(("down", "up")):
        own = Prophet(n_changepoints=7, changepoint_prior_scale=0.3, uncertainty_samples=0)
        own.fit(pd.DataFrame({"ds": split.times, "y": split.measured[:, place]}).dropna(), seed=0)
        expected = own.predict(pd.DataFrame({"ds": times}))["yhat"].to_numpy()
        np.testing.assert_allclose(curves[target].at(times.to_numpy()), expected, rtol=1e-9)


def test_training_again_gives_the_same_bytes(recipe: Recipe) -> None:
    one, again = (train_prophet(hourly_split(recipe), recipe, silent) for _ in range(2))
    assert (again.models, again.validated) == (one.models, one.validated)


def test_validation_fit_never_sees_validation_rows_and_the_kept_one_does(recipe: Recipe) -> None:
    split = hourly_split(recipe)
    first = first_validation_window(split, recipe)
    one = train_prophet(split, recipe, silent)
    measured = split.measured.copy()
    measured[first + recipe.window.size :] *= 100
    other = train_prophet(replace(split, measured=measured), recipe, silent)
    assert other.validated == one.validated
    assert other.models != one.models


def test_validation_fit_sees_all_rows_before_those_that_validation_forecasts(
    recipe: Recipe,
) -> None:
    split = hourly_split(recipe)
    rows = first_validation_window(split, recipe) + recipe.window.size
    before = replace(
        split,
        times=split.times[:rows],
        measured=split.measured[:rows],
        features=split.features[:rows],
    )
    validated = train_prophet(split, recipe, silent).validated
    assert validated == train_prophet(before, recipe, silent).models


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
    (curve,) = curves_of(train_prophet(split, recipe, silent).models).values()
    assert len(curve.changepoints) == min(25, int(0.8 * rows) - 1)
    assert len(curve.rate_changes) == len(curve.changepoints)


def test_longer_history_is_fitted_as_the_means_of_its_spans() -> None:
    recipe = demo_recipe()
    split = hourly_split(recipe, rows=240)
    split.measured[[100, 101, 103]] = np.nan
    measured = pd.Series(split.measured[:, 0], index=split.times).dropna()
    spans = [measured.iloc[start : start + 3] for start in range(0, len(measured), 3)]
    means = replace(
        split,
        times=pd.DatetimeIndex([span.index.mean() for span in spans]),
        measured=np.array([[span.mean()] for span in spans]),
        features=split.features[: len(spans)],
    )
    shortened = train_prophet(split, recipe.updated({"prophet": {"max_rows": 100}}), silent)
    assert shortened.models == train_prophet(means, recipe, silent).models
    assert shortened.models != train_prophet(split, recipe, silent).models


def test_two_measured_rows_are_enough() -> None:
    recipe = demo_recipe()
    split = hourly_split(recipe)
    split.measured[2:] = np.nan
    trained = train_prophet(split, recipe, silent)
    for models in (trained.models, trained.validated):
        (curve,) = curves_of(models).values()
        assert np.isfinite(curve.at(split.times.to_numpy())).all()


def test_start_of_each_fit_and_the_end_of_all_are_reported(recipe: Recipe) -> None:
    told: list[Progress] = []
    trained = train_prophet(hourly_split(recipe), recipe, told.append)
    assert [progress.done for progress in told] == [0, 0.25, 0.5, 0.75, 1]
    assert [progress.epoch for progress in told] == [1, 2, 3, 4, 4]
    assert all(progress.remaining_s > 0 for progress in told[:-1])
    assert told[-1].remaining_s == 0
    assert trained.fit_s > 0
