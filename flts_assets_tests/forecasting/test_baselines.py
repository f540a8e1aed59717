from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.calendar import calendar_features
from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.split import Split
from flts_assets.recipe import RAW_COLUMNS, Recipe
from flts_assets_tests.forecasting.datasets import baseline_forecasts, demo_recipe, real_dataset

Floats = npt.NDArray[np.float64]
HORIZON = 30
"""hours: longer than a day, so that the last whole day before depends on the step"""


def hourly_recipe() -> Recipe:
    return demo_recipe(window={"size": 6, "horizon": HORIZON, "targets": ["down", "up"]})


def hourly_frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    """150 train and 70 test rows on a grid of one hour, some targets not measured."""
    train, test = demo_cell(150, 70)
    both = pd.concat([train, test])
    both.index = pd.date_range("2024-01-01", periods=len(both), freq="1h", name="time")
    empty = np.random.default_rng(5).random((len(both), 2)) < 0.1
    empty[150:153, 1] = True
    both[["down", "up"]] = both[["down", "up"]].mask(empty)
    return both.iloc[:150].copy(), both.iloc[150:].copy()


def dataset(train: pd.DataFrame, test: pd.DataFrame) -> Dataset:
    recipe = hourly_recipe()
    train_rows, test_rows, fitted = prepare(train, test, recipe)
    return Dataset(split_of(train_rows, recipe), split_of(test_rows, recipe), fitted)


@pytest.fixture(scope="module")
def hourly() -> Dataset:
    return dataset(*hourly_frames())


def cutoffs(split: Split) -> range:
    return range(split.window.size - 1, len(split) - split.window.horizon)


def last_known(split: Split, row: int, target: int) -> float:
    for back in range(row, -1, -1):
        if np.isfinite(split.measured[back, target]):
            return float(split.measured[back, target])
    return 0.0


def naive_persistence(data: Dataset, cutoff: int, step: int, target: int) -> float:
    return last_known(data.test, cutoff, target)


def naive_window_mean(data: Dataset, cutoff: int, step: int, target: int) -> float:
    window = range(cutoff - data.test.window.size + 1, cutoff + 1)
    return float(np.mean([last_known(data.test, row, target) for row in window]))


def naive_seasonal(data: Dataset, cutoff: int, step: int, target: int) -> float:
    moment = data.test.times[cutoff + step]
    while moment > data.test.times[cutoff]:
        moment -= pd.Timedelta(days=1)
    for split in (data.train, data.test):
        for row in np.flatnonzero(split.times == moment):
            if np.isfinite(split.measured[row, target]):
                return float(split.measured[row, target])
    return last_known(data.test, cutoff, target)


@pytest.mark.parametrize(
    ("name", "naive"),
    [
        ("persistence", naive_persistence),
        ("window_mean", naive_window_mean),
        ("seasonal_naive", naive_seasonal),
    ],
)
def test_baseline_without_a_fit_equals_a_naive_loop(
    hourly: Dataset, name: str, naive: Callable[[Dataset, int, int, int], float]
) -> None:
    expected = [
        [[naive(hourly, cutoff, step, target) for target in (0, 1)] for step in range(1, 31)]
        for cutoff in cutoffs(hourly.test)
    ]
    np.testing.assert_allclose(baseline_forecasts(name, hourly), np.array(expected), rtol=1e-12)


def test_linear_autoregression_sees_a_targets_own_window_and_the_time_of_day(
    hourly: Dataset,
) -> None:
    def inputs(split: Split, column: int) -> list[list[float]]:
        rows = []
        for cutoff in cutoffs(split):
            window = range(cutoff - split.window.size + 1, cutoff + 1)
            clock = calendar_features(split.times[[cutoff + 1]])[0, :2]
            rows.append([*(float(split.features[row, column]) for row in window), *clock])
        return rows

    expected = np.empty((hourly.test.windows, HORIZON, 2))
    for place, column in enumerate((0, 1)):
        following = [
            [hourly.train.features[cutoff + step, column] for step in range(1, HORIZON + 1)]
            for cutoff in cutoffs(hourly.train)
        ]
        fit = LinearRegression().fit(inputs(hourly.train, column), np.array(following, float))
        expected[..., place] = fit.predict(inputs(hourly.test, column))
    np.testing.assert_allclose(
        baseline_forecasts("linear_ar", hourly),
        hourly.preprocessing.inverse_targets(expected),
        rtol=1e-6,
        atol=1e-6 * max(hourly.preprocessing.target_ranges),
    )


def test_ridge_sees_the_window_of_all_columns_and_pays_for_weights_but_not_for_the_intercept(
    hourly: Dataset,
) -> None:
    def inputs(split: Split) -> list[Floats]:
        size = split.window.size
        return [
            np.concatenate([split.features[row] for row in range(cutoff - size + 1, cutoff + 1)])
            for cutoff in cutoffs(split)
        ]

    following = [
        np.concatenate([hourly.train.features[cutoff + step, :2] for step in range(1, 31)])
        for cutoff in cutoffs(hourly.train)
    ]
    fit = Ridge(alpha=10).fit(np.array(inputs(hourly.train), float), np.array(following, float))
    scaled = fit.predict(np.array(inputs(hourly.test), float)).reshape(-1, HORIZON, 2)
    np.testing.assert_allclose(
        baseline_forecasts("ridge", hourly),
        hourly.preprocessing.inverse_targets(scaled),
        rtol=1e-6,
        atol=1e-6 * max(hourly.preprocessing.target_ranges),
    )


@pytest.mark.parametrize("garbage", [np.nan, 0.0, 1e12], ids=["empty", "zero", "huge"])
@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_uses_anything_after_its_cutoff(
    hourly: Dataset, name: str, garbage: float
) -> None:
    train, test = hourly_frames()
    cutoff = 25
    test.iloc[cutoff + 1 :] = garbage
    earlier = cutoff - hourly.test.window.size + 2
    forecasts = baseline_forecasts(name, dataset(train, test))
    expected = baseline_forecasts(name, hourly)
    assert forecasts.shape == expected.shape == (hourly.test.windows, HORIZON, 2)
    np.testing.assert_allclose(forecasts[:earlier], expected[:earlier], rtol=1e-9, atol=1e-3)
    if np.isfinite(garbage) and name != "seasonal_naive":
        assert not np.allclose(forecasts[earlier], expected[earlier], rtol=1e-9, atol=1e-3)


@pytest.mark.parametrize("name", BASELINES)
def test_test_rows_are_not_fitted(hourly: Dataset, name: str) -> None:
    """The first window's forecast is the same whatever follows, and so are those of fewer rows."""
    train, test = hourly_frames()
    few = dataset(train, test.iloc[: hourly.test.window.size + HORIZON])
    forecasts = baseline_forecasts(name, few)
    assert forecasts.shape == (1, HORIZON, 2)
    np.testing.assert_allclose(forecasts[0], baseline_forecasts(name, hourly)[0], rtol=1e-9)


@pytest.mark.parametrize("name", BASELINES)
def test_forecasts_are_finite_where_nothing_was_ever_measured_before(name: str) -> None:
    train, test = hourly_frames()
    test.iloc[:40, RAW_COLUMNS.index("up")] = np.nan
    assert np.isfinite(baseline_forecasts(name, dataset(train, test))).all()


@pytest.mark.parametrize(
    ("name", "rmse"),
    [
        ("persistence", 0.04025),
        ("window_mean", 0.04131),
        ("seasonal_naive", 0.07166),
        ("linear_ar", 0.03602),  # REFERENCE.md section 5: .03600
        ("ridge", 0.03538),  # REFERENCE.md section 5: .03520
    ],
)
def test_baselines_are_as_good_on_real_rows_as_they_were(
    real_data: Path, name: str, rmse: float
) -> None:
    data = real_dataset(real_data)
    fitted = data.preprocessing
    forecasts = baseline_forecasts(name, data)
    scores = score(data.test.actuals(), forecasts, fitted.targets, fitted.target_ranges)
    assert scores.rmse == pytest.approx(rmse, abs=1e-5)
