from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.forecasting.dataset import prepare
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.preprocessing import FittedPreprocessing, fit_preprocessing
from flts_assets.recipe import RAW_COLUMNS, Recipe
from flts_assets.recipe.model import Scaling
from flts_assets_tests.forecasting.datasets import demo_recipe, real_dataset

SEVENTEEN = [
    "down",
    "up",
    "rnti_count",
    "mcs_down",
    "mcs_down_var",
    "mcs_up",
    "mcs_up_var",
    "rb_down",
    "rb_down_var",
    "rb_up",
    "rb_up_var",
    "min_of_day_sin",
    "min_of_day_cos",
    "day_of_week_sin",
    "day_of_week_cos",
    "day_of_year_sin",
    "day_of_year_cos",
]
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "standardised": {"scaling": {"method": "StandardScaler"}},
    "unscaled": {"scaling": {"method": "None"}},
    "clipped": {"outliers": {"enabled": True, "factor": 0.5}},
    "shifted": {"scaling": {"add_constant": 2.5}},
    "without calendar": {"time_features": {"enabled": False}},
    "lagged": {"lags": {"enabled": True, "n_lags": 2, "step": 3}},
    "without year and week": {"time_features": {"cycles": ["min_of_day"]}},
    "log space": {"scaling": {"method": "LogMedianScaler"}},
    "root space": {"scaling": {"method": "SqrtScaler"}, "time_features": {"cycles": []}},
    "fitted on a share": {"scaling": {"fit_share": 0.4}},
    "lagged, fitted on a share": {
        "scaling": {"method": "LogMedianScaler", "fit_share": 0.55},
        "lags": {"enabled": True, "n_lags": 2, "step": 3},
    },
    "log space, all at once": {
        "scaling": {"method": "LogMedianScaler", "fit_share": 0.7, "add_constant": 1.0},
        "outliers": {"enabled": True, "factor": 0.5},
        "lags": {"enabled": True, "n_lags": 3},
    },
    "all at once": {
        "scaling": {"method": "StandardScaler", "add_constant": 1.0},
        "outliers": {"enabled": True},
        "lags": {"enabled": True, "n_lags": 3},
    },
}
every_method = pytest.mark.parametrize(
    "method", get_args(Scaling.model_fields["method"].annotation)
)
every_recipe = pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)


def naive(train: pd.DataFrame, rows: pd.DataFrame, recipe: Recipe) -> list[list[float]]:
    """The processed rows, cell by cell, as REFERENCE.md section 2 tells them."""

    def expanded(frame: pd.DataFrame) -> list[list[float]]:
        cells = []
        for column in RAW_COLUMNS:
            low, high = np.percentile(train[column], [25, 75])
            reach = recipe.outliers.factor * (high - low)
            values = list(frame[column])
            if recipe.outliers.enabled:
                values = [min(max(value, low - reach), high + reach) for value in values]
            cells.append([value + (recipe.scaling.add_constant or 0) for value in values])
        shifts = [lag * recipe.lags.step for lag in range(1, recipe.lags.n_lags + 1)]
        result = []
        for row, moment in enumerate(frame.index):
            if row < max(shifts, default=0):
                continue
            line = [column[row] for column in cells]
            if recipe.time_features.enabled:
                for cycle, position, period in (
                    ("min_of_day", 60 * moment.hour + moment.minute, 1440),
                    ("day_of_week", moment.weekday(), 7),
                    ("day_of_year", moment.dayofyear, 365.25),
                ):
                    angle = 2 * math.pi * position / period
                    if cycle in recipe.time_features.cycles:
                        line += [math.sin(angle), math.cos(angle)]
            line += [column[row - shift] for shift in shifts for column in cells]
            result.append(line)
        return result

    scaled = [list(line) for line in expanded(rows)]
    fitted_on = expanded(train)
    fitted_on = fitted_on[: int(recipe.scaling.fit_share * len(fitted_on))]
    cycles = recipe.time_features.cycles if recipe.time_features.enabled else ()
    calendar = range(11, 11 + 2 * len(cycles))
    for place in range(len(scaled[0])):
        column = [line[place] for line in fitted_on]
        offset, scale = 0.0, 1.0
        if recipe.scaling.method == "LogMedianScaler" and place not in calendar:
            median = statistics.median(column) or statistics.mean(column) or 1.0
            for line in fitted_on + scaled:
                line[place] = math.log1p(max(line[place], 0) / median)
            column = [line[place] for line in fitted_on]
        if recipe.scaling.method == "SqrtScaler" and place not in calendar:
            for line in fitted_on + scaled:
                line[place] = math.sqrt(max(line[place], 0))
            column = [line[place] for line in fitted_on]
        if recipe.scaling.method == "MinMaxScaler":
            offset, scale = min(column), max(column) - min(column)
        bent = recipe.scaling.method in ("LogMedianScaler", "SqrtScaler")
        if recipe.scaling.method == "StandardScaler" or (bent and place not in calendar):
            offset, scale = float(np.mean(column)), float(np.std(column))
        for line in scaled:
            line[place] = (line[place] - offset) / scale
    return scaled


def test_real_rows_become_17_columns_in_the_stated_order(real_data: Path) -> None:
    data = real_dataset(real_data)
    assert list(data.preprocessing.columns) == SEVENTEEN
    assert data.train.features.shape == (15_927, 17)
    assert data.test.features.shape == (3_982, 17)
    assert data.train.features.dtype == np.float32
    assert data.train.features.min(axis=0).tolist() == [0] * 17
    assert data.train.features.max(axis=0).tolist() == [1] * 17
    assert data.test.features[:, SEVENTEEN.index("day_of_year_sin")].max() > 1, "later in the year"


@every_recipe
def test_processed_rows_equal_a_naive_loop(changes: dict[str, Any]) -> None:
    recipe = demo_recipe(**changes)
    train, test = demo_cell(70, 30)
    for frame in (train, test):
        frame.index = pd.date_range(frame.index[0], periods=len(frame), freq="13h7min")
    fitted = fit_preprocessing(train, recipe)
    for rows in (train, test):
        expected = np.array(naive(train, rows, recipe))
        np.testing.assert_allclose(fitted.transform(rows), expected, rtol=2e-6, atol=2e-6)


def test_lagged_columns_follow_the_others_and_are_named_by_rows_ago() -> None:
    recipe = demo_recipe(lags={"enabled": True, "n_lags": 2, "step": 3})
    fitted = fit_preprocessing(demo_cell(20, 1)[0], recipe)
    lagged = [f"{column}_lag{ago}" for ago in (3, 6) for column in RAW_COLUMNS]
    assert list(fitted.columns) == SEVENTEEN + lagged
    assert fitted.rows_lost == 6
    assert len(fitted.transform(demo_cell(20, 1)[0])) == 14


@every_recipe
def test_everything_is_fitted_on_train_rows_only(changes: dict[str, Any]) -> None:
    recipe = demo_recipe(**changes)
    train, test = demo_cell(60, 40)
    *_, fitted = prepare(train, test, recipe)
    *_, beside_other_rows = prepare(train, test.iloc[::-1].set_index(test.index) * 1e6, recipe)
    assert beside_other_rows.model_dump_json() == fitted.model_dump_json()
    *_, of_other_rows = prepare(train * 2, test, recipe)
    assert of_other_rows.target_ranges != fitted.target_ranges


@every_method
def test_constant_column_becomes_zero_and_divides_nothing_by_zero(method: str) -> None:
    train, test = demo_cell(60, 20)
    train["mcs_up"] = test["mcs_up"] = 3.0
    fitted = fit_preprocessing(train, demo_recipe(scaling={"method": method}))
    column = fitted.columns.index("mcs_up")
    assert fitted.scales[column].scale == 1
    for rows in (train, test):
        assert np.unique(fitted.transform(rows)[:, column]) == (3 if method == "None" else 0)


@pytest.mark.parametrize("value", [0.1, 1e-9, 1 / 3])
def test_standard_scaler_knows_a_constant_column_by_its_values(value: float) -> None:
    train, test = demo_cell(60, 20)
    train["mcs_up"] = test["mcs_up"] = value
    fitted = fit_preprocessing(train, demo_recipe(scaling={"method": "StandardScaler"}))
    assert not fitted.transform(test)[:, fitted.columns.index("mcs_up")].any()


def test_standard_scaler_fitted_within_a_day_keeps_the_next_day_in_bounds() -> None:
    train, test = demo_cell(720, 50)
    fitted = fit_preprocessing(train.ffill(), demo_recipe(scaling={"method": "StandardScaler"}))
    assert np.abs(fitted.transform(test)).max() < 100


def test_constant_target_has_a_range_of_one() -> None:
    train, _ = demo_cell(60, 20)
    train["down"] = 5.0
    assert fit_preprocessing(train, demo_recipe()).target_ranges == (1.0,)


def test_unit_of_the_scores_is_the_unclipped_train_range_of_each_target() -> None:
    recipe = demo_recipe(
        window={"targets": ["down", "rb_up"]}, outliers={"enabled": True, "factor": 0.1}
    )
    train, _ = demo_cell(60, 20)
    expected = [max(train[name]) - min(train[name]) for name in ("down", "rb_up")]
    assert fit_preprocessing(train, recipe).target_ranges == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "changes", [changes for changes in RECIPES.values() if "outliers" not in changes]
)
def test_inverse_gives_raw_units_back(changes: dict[str, Any]) -> None:
    targets = ("down", "up", "mcs_up_var")
    recipe = demo_recipe(window={"targets": targets}, **changes)
    train, test = demo_cell(60, 20)
    fitted = fit_preprocessing(train, recipe)
    scaled = fitted.transform(test)[:, fitted.target_places].reshape(-1, 2, 3)
    raw = test[list(targets)].iloc[fitted.rows_lost :].to_numpy().reshape(-1, 2, 3)
    np.testing.assert_allclose(
        fitted.inverse_targets(scaled), raw, rtol=2e-6, atol=2e-7 * np.ptp(raw)
    )


@given(
    values=st.lists(st.just(0.0) | st.floats(1e-6, 1e9), min_size=12, max_size=12),
    add_constant=st.sampled_from([None, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_inverse_of_log_space_holds_for_any_measured_values(
    values: list[float], add_constant: float | None
) -> None:
    scaling = {"method": "LogMedianScaler", "add_constant": add_constant}
    train, _ = demo_cell(12, 12)
    train["down"] = values
    fitted = fit_preprocessing(train, demo_recipe(scaling=scaling))
    scaled = fitted.transform(train)[:, fitted.target_places]
    added = [value + (add_constant or 0) for value in values]
    median = statistics.median(added) or statistics.mean(added) or 1.0
    np.testing.assert_allclose(
        fitted.inverse_targets(scaled)[:, 0], values, rtol=2e-5, atol=2e-5 * median
    )


@pytest.mark.parametrize("zeros", [40, 60])
def test_column_that_is_mostly_zero_is_told_by_its_mean_in_log_space(zeros: int) -> None:
    train, test = demo_cell(60, 20)
    train.iloc[:zeros, 0] = 0.0
    fitted = fit_preprocessing(train, demo_recipe(scaling={"method": "LogMedianScaler"}))
    mean = train["down"].mean() or 1.0
    assert fitted.scales[0].median == pytest.approx(mean)
    logs = np.log1p(train["down"].to_numpy() / mean)
    expected = (np.log1p(test["down"].to_numpy() / mean) - logs.mean()) / (logs.std() or 1.0)
    np.testing.assert_allclose(fitted.transform(test)[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["LogMedianScaler", "SqrtScaler"])
def test_inverse_from_log_and_root_space_is_never_below_zero(method: str) -> None:
    train, _ = demo_cell(60, 20)
    fitted = fit_preprocessing(train, demo_recipe(scaling={"method": method}))
    raw = fitted.inverse_targets(np.linspace(-50, 2, 200)[:, None])
    assert raw.min() == 0
    assert (np.diff(raw[:, 0]) >= 0).all()


@pytest.mark.parametrize("method", ["LogMedianScaler", "SqrtScaler"])
def test_log_and_root_space_leave_the_calendar_as_it_is(method: str) -> None:
    train, test = demo_cell(60, 20)
    bent, plain = (
        fit_preprocessing(train, demo_recipe(scaling={"method": name})) for name in (method, "None")
    )
    assert all(scale.root or scale.median is not None for scale in bent.scales[:11])
    assert bent.scales[11:] == plain.scales[11:]
    np.testing.assert_array_equal(bent.transform(test)[:, 11:], plain.transform(test)[:, 11:])


@pytest.mark.parametrize("method", ["LogMedianScaler", "SqrtScaler"])
def test_value_below_zero_counts_as_zero_in_log_and_root_space(method: str) -> None:
    train, test = demo_cell(60, 20)
    fitted = fit_preprocessing(train, demo_recipe(scaling={"method": method}))
    below, nothing = test.assign(down=-5.0), test.assign(down=0.0)
    np.testing.assert_array_equal(fitted.transform(below), fitted.transform(nothing))


@pytest.mark.parametrize(
    "method", ["MinMaxScaler", "StandardScaler", "LogMedianScaler", "SqrtScaler"]
)
@pytest.mark.parametrize(("lags", "rows"), [({}, 30), ({"enabled": True, "n_lags": 10}, 35)])
def test_rows_after_the_fitted_share_do_not_move_the_scales(
    method: str, lags: dict[str, Any], rows: int
) -> None:
    recipe = demo_recipe(scaling={"method": method, "fit_share": 0.5}, lags=lags)
    train, _ = demo_cell(60, 20)
    fitted = fit_preprocessing(train, recipe)
    other = train.copy()
    other.iloc[rows:] *= 1000
    assert fit_preprocessing(other, recipe).scales == fitted.scales
    other.iloc[rows - 1] *= 1000
    assert fit_preprocessing(other, recipe).scales != fitted.scales


@every_recipe
def test_last_rows_alone_are_transformed_as_among_all(changes: dict[str, Any]) -> None:
    train, test = demo_cell(60, 40)
    fitted = fit_preprocessing(train, demo_recipe(**changes))
    needed = 10 + fitted.rows_lost
    np.testing.assert_array_equal(
        fitted.transform(test.iloc[-needed:]), fitted.transform(test)[-10:]
    )


@every_recipe
def test_many_series_of_values_are_transformed_as_each_alone(changes: dict[str, Any]) -> None:
    train, test = demo_cell(60, 40)
    fitted = fit_preprocessing(train, demo_recipe(**changes))
    parts = [test.iloc[start : start + 15] for start in (0, 7, 25)]
    values = np.stack([part[list(RAW_COLUMNS)].to_numpy() for part in parts])
    times = np.stack([part.index.to_numpy() for part in parts])
    expected = np.stack([fitted.transform(part) for part in parts])
    np.testing.assert_array_equal(fitted.transform_values(values, times), expected)


@every_method
@every_recipe
def test_scales_fitted_on_scaled_rows_are_those_fitted_on_raw_ones(
    changes: dict[str, Any], method: str
) -> None:
    train, test = demo_cell(60, 40)
    recipe = demo_recipe(**changes)
    fitted = fit_preprocessing(train, recipe)
    expected = fit_preprocessing(train, recipe.updated({"scaling": {"method": method}}))
    share = recipe.scaling.fit_share
    found = fitted.with_scaling(method, fitted.transform(train), share)
    assert found.scaler_type == method
    scaled = expected.transform(test)
    np.testing.assert_allclose(found.transform(test), scaled, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        expected.rescaled_like(fitted, fitted.transform(test)), scaled, rtol=1e-5, atol=1e-5
    )


def test_order_of_the_columns_of_the_rows_is_irrelevant() -> None:
    train, test = demo_cell(60, 20)
    fitted = fit_preprocessing(train, demo_recipe())
    np.testing.assert_array_equal(
        fitted.transform(test[list(RAW_COLUMNS[::-1])]), fitted.transform(test)
    )


@given(
    values=st.lists(st.floats(1e-3, 1e18), min_size=12, max_size=12),
    changes=st.sampled_from(list(RECIPES.values())),
)
@settings(max_examples=30, deadline=None)
def test_json_gives_back_exactly_what_was_fitted(
    values: list[float], changes: dict[str, Any]
) -> None:
    train, test = demo_cell(12, 12)
    train["down"] = values
    fitted = fit_preprocessing(train, demo_recipe(**changes))
    read = FittedPreprocessing.model_validate_json(fitted.model_dump_json(indent=1))
    assert read == fitted
    np.testing.assert_array_equal(read.transform(test), fitted.transform(test))


def test_json_of_real_rows_is_exact_too(real_data: Path) -> None:
    fitted = real_dataset(real_data).preprocessing
    assert FittedPreprocessing.model_validate_json(fitted.model_dump_json()) == fitted
