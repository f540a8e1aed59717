from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import Forecaster, load_forecaster
from flts_assets.forecasting.intervals import Intervals, scores
from flts_assets.forecasting.prophet_curve import ProphetCurve
from flts_assets.forecasting.split import validation_windows
from flts_assets.recipe import RAW_COLUMNS, CandidateType, Recipe
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe
from flts_assets_tests.forecasting.trained import (
    ROWS,
    demo_models,
    every_kind_recipe,
    train_all,
)

Floats = npt.NDArray[np.float64]

EVERY_KIND = every_kind_recipe(3)
LONG_HORIZON = demo_recipe(
    window={"size": 4, "horizon": 7, "targets": ["down", "up"]}, models=["GRU"]
)
LAGS = demo_recipe(
    window={"size": 6, "horizon": 2, "targets": ["up", "rb_up"]},
    lags={"enabled": True, "n_lags": 2, "step": 3},
    scaling={"method": "LogMedianScaler", "add_constant": 1.0},
    recurrent={"predict": "change"},
    models=["LSTM"],
)
CASES: dict[str, tuple[CandidateType, Recipe]] = {
    "GRU": ("GRU", EVERY_KIND),
    "LSTM": ("LSTM", EVERY_KIND),
    "PROPHET": ("PROPHET", EVERY_KIND),
    "TREES": ("TREES", EVERY_KIND),
    "ENSEMBLE": ("ENSEMBLE", EVERY_KIND),
    "one step": ("TREES", every_kind_recipe(1)),
    "horizon longer than the window": ("GRU", LONG_HORIZON),
    "lags": ("LSTM", LAGS),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Forecaster, Recipe]:
    kind, recipe = CASES[request.param]
    return load_forecaster(demo_models(recipe)[kind].files, 1), recipe


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return demo_cell(*ROWS)[1]


def naive_recursion(forecaster: Forecaster, rows: pd.DataFrame, steps: int) -> Floats:
    """One horizon after another, each appended to the rows by hand."""
    step = rows.index[-1] - rows.index[-2]
    forecasts: list[list[float]] = []
    while len(forecasts) < steps:
        following = forecaster.forecast_next(rows).tolist()
        forecasts += following
        for values in following:
            row: dict[str, Any] = dict(rows.iloc[-1])
            row.update(zip(forecaster.card.window.targets, values, strict=True))
            rows = pd.concat([rows, pd.DataFrame(row, index=[rows.index[-1] + step])])
    return np.array(forecasts[:steps])


def steps_of(recipe: Recipe) -> tuple[int, ...]:
    """Fewer than the horizon, as many, more, and no multiple of it."""
    horizon = recipe.window.horizon
    return (max(1, horizon - 1), horizon, 2 * horizon, 4 * horizon + max(1, horizon // 2))


def test_recursive_forecast_is_that_of_a_naive_loop(
    case: tuple[Forecaster, Recipe], rows: pd.DataFrame
) -> None:
    forecaster, recipe = case
    for steps in steps_of(recipe):
        forecasts = forecaster.forecast_next(rows, steps)
        assert forecasts.shape == (steps, 2)
        np.testing.assert_allclose(
            forecasts, naive_recursion(forecaster, rows, steps), rtol=1e-9, err_msg=f"{steps} steps"
        )
    direct = forecaster.forecast_next(rows)
    np.testing.assert_array_equal(forecaster.forecast_next(rows, recipe.window.horizon), direct)


def test_first_steps_do_not_depend_on_how_many_are_asked_for(
    case: tuple[Forecaster, Recipe], rows: pd.DataFrame
) -> None:
    forecaster, _ = case
    many = forecaster.forecast_next(rows, 23)
    for steps in (1, 2, 5, 22):
        np.testing.assert_array_equal(forecaster.forecast_next(rows, steps), many[:steps])


def test_batch_of_recursive_forecasts_is_that_of_one_by_one(
    case: tuple[Forecaster, Recipe], rows: pd.DataFrame
) -> None:
    forecaster, recipe = case
    needed = forecaster.rows_needed
    ranges = demo_dataset(recipe, *ROWS).preprocessing.target_ranges
    for history in (needed, needed + 4):
        seen = [rows.iloc[start : start + history] for start in (0, 1, 50, 90)]
        batch = forecaster.forecast_after(
            np.stack([part[list(RAW_COLUMNS)].to_numpy() for part in seen]),
            np.stack([part.index.to_numpy() for part in seen]),
            11,
        )
        assert batch.shape == (4, 11, 2)
        for forecasts, part in zip(batch, seen, strict=True):
            alone = forecaster.forecast_next(part, 11)
            np.testing.assert_allclose(forecasts / ranges, alone / ranges, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["GRU", "lags"])
def test_time_of_the_future_rows_counts_in_a_recursive_forecast(
    name: str, rows: pd.DataFrame
) -> None:
    kind, recipe = CASES[name]
    forecaster = load_forecaster(demo_models(recipe)[kind].files, 1)
    slower = rows.copy()
    slower.index = rows.index[-1] + 60 * (rows.index - rows.index[-1])
    forecasts = forecaster.forecast_next(slower, 20)
    np.testing.assert_allclose(forecasts, naive_recursion(forecaster, slower, 20), rtol=1e-9)
    assert not np.allclose(forecasts, forecaster.forecast_next(rows, 20), rtol=1e-4)


def test_prophet_says_what_its_curve_says_of_the_future_whatever_the_rows(
    rows: pd.DataFrame,
) -> None:
    files = demo_models(EVERY_KIND)["PROPHET"].files
    forecaster = load_forecaster(files, 1)
    curves = json.loads(files["prophet.json"])
    forecasts = forecaster.forecast_next(rows, 8)
    future = pd.date_range(rows.index[-1], periods=9, freq=rows.index[1] - rows.index[0])[1:]
    for place, target in enumerate(EVERY_KIND.window.targets):
        expected = ProphetCurve.model_validate(curves[target]).at(future.to_numpy())
        np.testing.assert_array_equal(forecasts[:, place], np.maximum(expected, 0))
    np.testing.assert_array_equal(forecaster.forecast_next(rows * 100, 8), forecasts)


@pytest.mark.parametrize("name", ["GRU", "ENSEMBLE", "lags"])
def test_other_columns_than_targets_keep_their_last_value(name: str, rows: pd.DataFrame) -> None:
    kind, recipe = CASES[name]
    forecaster = load_forecaster(demo_models(recipe)[kind].files, 1)
    needed, horizon = forecaster.rows_needed, recipe.window.horizon
    later = naive_recursion(forecaster, rows, needed + horizon)
    # By then all rows that a forecast sees were made up: only the last row's other columns are left.
    others = [column for column in RAW_COLUMNS if column not in recipe.window.targets]
    moved = rows.copy()
    moved.iloc[-1, [RAW_COLUMNS.index(column) for column in others]] *= 1.5
    assert not np.allclose(
        forecaster.forecast_next(moved, needed + horizon)[-1], later[-1], rtol=1e-6
    )


def test_intervals_of_later_steps_are_calibrated_on_recursion_from_validation_windows() -> None:
    recipe = demo_recipe(window={"size": 6, "targets": ["down", "up"]}, models=["GRU"])
    data, measured = demo_dataset(recipe, 800, 20), demo_cell(800, 20)[0]
    assert measured.isna().any(axis=None)
    files = train_all(data, measured, recipe)["GRU"].files
    forecaster = load_forecaster(files, 1)
    intervals = Intervals.model_validate_json(files["intervals.json"])
    assert len(intervals.knots) == 60
    held_out = validation_windows(data.train, recipe.recurrent)
    first = measured.index.get_loc(held_out.times[5])
    known = measured.ffill()
    of_cutoffs = []
    for cutoff in range(first, 800 - 60):
        seen, ahead = known.iloc[: cutoff + 1], measured.iloc[cutoff + 1 : cutoff + 61]
        windows, actuals = (part[["down", "up"]].to_numpy()[None] for part in (seen[-6:], ahead))
        forecasts = forecaster.forecast_next(seen, 60)[None]
        of_cutoffs.append(scores(windows, actuals, forecasts, np.array(intervals.floors))[0])
    expected = Intervals.calibrated(
        intervals.levels, np.array(intervals.floors), list(np.stack(of_cutoffs, axis=1))
    )
    np.testing.assert_allclose(intervals.knots[1:], expected.knots[1:], rtol=1e-4, atol=1e-6)
