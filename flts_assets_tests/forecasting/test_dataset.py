from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from flts_assets.errors import RawDataError
from flts_assets.forecasting.dataset import prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.split import least_windows
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe

LAGGED = {"enabled": True, "n_lags": 3, "step": 2}


@pytest.mark.parametrize(
    ("changes", "train_rows", "test_rows", "file", "allowed"),
    [
        ({}, 11, 40, "DemoCell.csv", "at least 12 (window 10, horizon 1, lags 0, windows 2)"),
        ({}, 40, 10, "DemoCell_test.csv", "at least 11 (window 10, horizon 1, lags 0, windows 1)"),
        ({"window": {"size": 5, "horizon": 4}}, 12, 40, "DemoCell.csv", "at least 13 (window 5,"),
        ({"lags": LAGGED}, 17, 40, "DemoCell.csv", "at least 18 (window 10, horizon 1, lags 6,"),
        ({"lags": LAGGED}, 40, 16, "DemoCell_test.csv", "at least 17 (window 10, horizon 1,"),
    ],
)
def test_too_few_rows_for_the_windows_are_refused_and_one_more_is_enough(
    changes: dict[str, Any], train_rows: int, test_rows: int, file: str, allowed: str
) -> None:
    recipe = demo_recipe(**changes)
    with pytest.raises(RawDataError) as caught:
        prepare(*demo_cell(train_rows, test_rows), recipe)
    assert caught.value.file == file
    assert caught.value.received == min(train_rows, test_rows)
    assert (caught.value.allowed or "").startswith(allowed)
    short_train = train_rows < test_rows
    data = demo_dataset(recipe, train_rows + short_train, test_rows + (not short_train))
    fewest = least_windows(recipe.window, recipe.recurrent)
    assert data.train.windows == fewest if short_train else data.test.windows == 1


def test_sampled_and_complete_rows_are_the_ones_that_are_counted() -> None:
    train, test = demo_cell(100, 100)
    with pytest.raises(RawDataError, match=r"DemoCell\.csv: 11 usable rows"):
        prepare(train, test, demo_recipe(data={"sample_train_rows": 11}))
    test.iloc[10:, 0] = np.nan
    with pytest.raises(RawDataError, match=r"DemoCell_test\.csv: 10 usable rows"):
        prepare(train, test, demo_recipe(handle_nans={"drop_rows": True}))


def test_rows_that_only_serve_as_lags_are_measured_but_neither_processed_nor_forecast() -> None:
    recipe = demo_recipe(lags=LAGGED)
    train, test = demo_cell(60, 30)
    *both, _ = prepare(train, test, recipe)
    for given, rows in zip((train, test), both, strict=True):
        pd.testing.assert_frame_equal(rows.measured, given)
        assert rows.processed.index.equals(given.index[6:])
        assert rows.processed.shape == (len(given) - 6, 17 + 33)
        split = split_of(rows, recipe)
        assert split.times.equals(given.index[6:])
        np.testing.assert_array_equal(split.measured, given[["down"]].iloc[6:])


def test_measured_rows_keep_their_empty_cells_and_bursts_and_processed_ones_do_not() -> None:
    train, test = demo_cell(60, 30)
    train.iloc[3, 1] = np.nan
    train.iloc[4, 0] = 1e12
    rows, _, fitted = prepare(train, test, demo_recipe(outliers={"enabled": True}))
    pd.testing.assert_frame_equal(rows.measured, train)
    assert np.isfinite(rows.processed.to_numpy()).all()
    assert rows.processed.iloc[4, 0] == 1
    assert fitted.clip["down"][1] < 1e12


def test_rows_that_were_not_sampled_leave_no_trace() -> None:
    train, test = demo_cell(60, 60)
    recipe = demo_recipe(data={"sample_train_rows": 30, "sample_test_rows": 20})
    first, second, fitted = prepare(train, test, recipe)
    train.iloc[30:] = np.nan
    test.iloc[20:] *= 1e9
    again_first, again_second, again_fitted = prepare(train, test, recipe)
    pd.testing.assert_frame_equal(again_first.processed, first.processed)
    pd.testing.assert_frame_equal(again_second.processed, second.processed)
    assert again_fitted == fitted


def test_split_holds_the_targets_as_measured_and_all_columns_scaled() -> None:
    recipe = demo_recipe(window={"targets": ["rb_up", "down"], "size": 4})
    train, test = demo_cell(60, 30)
    train.iloc[5, 0] = np.nan
    rows, *_ = prepare(train, test, recipe)
    split = split_of(rows, recipe)
    np.testing.assert_array_equal(split.measured, train[["down", "rb_up"]])
    np.testing.assert_array_equal(split.features, rows.processed)
    assert split.features.flags.c_contiguous
    assert split.times.equals(train.index)
    assert split.window.size == 4


@pytest.mark.parametrize("moved_back", [1, 30, 90, 500])
def test_test_file_that_does_not_begin_after_the_train_file_ends_is_named(moved_back: int) -> None:
    train, test = demo_cell(60, 30)
    step = train.index[1] - train.index[0]
    test.index = pd.date_range(
        train.index[-1] - (moved_back - 1) * step, periods=len(test), freq=step
    )
    recipe = demo_recipe(data={"sample_strategy": "head", "sample_train_rows": 20})
    with pytest.raises(RawDataError, match="begins before the train file ends") as caught:
        prepare(train, test, recipe)
    assert (caught.value.file, caught.value.row) == ("DemoCell_test.csv", 1)
    assert caught.value.received == str(test.index[0])
    assert str(train.index[-1]) in (caught.value.allowed or "")
    assert caught.value.remedy is not None


def test_test_file_on_another_grid_than_the_train_file_is_named() -> None:
    train, test = demo_cell(60, 30)
    step = train.index[1] - train.index[0]
    test.index = pd.date_range(train.index[-1] + step, periods=len(test), freq=2 * step)
    with pytest.raises(RawDataError, match="another time step than the train file") as caught:
        prepare(train, test, demo_recipe())
    assert caught.value.file == "DemoCell_test.csv"
    assert (caught.value.received, caught.value.allowed) == (str(2 * step), str(step))


def test_pause_between_train_and_test_file_is_allowed() -> None:
    train, test = demo_cell(60, 30)
    test.index += pd.Timedelta("3D")
    *_, fitted = prepare(train, test, demo_recipe())
    assert fitted.targets == ("down",)


@pytest.mark.parametrize("strategy", ["tail", "random"])
def test_row_of_an_empty_cell_is_counted_in_the_file(strategy: str) -> None:
    train, test = demo_cell(60, 30)
    train.iloc[50:] = np.nan
    data = {"sample_strategy": strategy, "sample_train_rows": 20}
    with pytest.raises(RawDataError) as caught:
        prepare(train, test, demo_recipe(data=data, handle_nans={"enabled": False}))
    assert caught.value.row is not None
    assert caught.value.row > 50
