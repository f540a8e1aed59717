"""Everything a model is made from and scored on: two splits and what was fitted on the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting.empty_cells import without_empty_cells
from flts_assets.forecasting.preprocessing import FittedPreprocessing, fit_preprocessing
from flts_assets.forecasting.sampling import sample
from flts_assets.forecasting.split import Split, least_windows, window_count
from flts_assets.recipe.model import Recipe

__all__ = ["Dataset", "PreparedRows", "dataset_at", "prepare", "split_of"]


@dataclass(frozen=True)
class PreparedRows:
    """One split as preprocessing leaves it, both frames indexed by time."""

    measured: pd.DataFrame
    """raw units, float64, NaN where a cell was empty [N, 11]"""
    processed: pd.DataFrame
    """scaled, float32 [N - rows lost to lags, F]: the last of the measured rows"""
    sampled: int | None = None
    """rows after sampling, before any were dropped; None once read back from files"""


@dataclass(frozen=True)
class Dataset:
    """What the stages after preprocessing work on."""

    train: Split
    test: Split
    preprocessing: FittedPreprocessing


def prepare(
    train: pd.DataFrame, test: pd.DataFrame, recipe: Recipe
) -> tuple[PreparedRows, PreparedRows, FittedPreprocessing]:
    """Sample, fill, fit on train rows, transform both. Frames as `read_raw` returns them.

    Raises RawDataError: test rows that do not follow the train rows, too few rows for the recipe's
    sampling or windows, or empty cells that may not be filled.
    """
    data = recipe.data
    _check_pair(train.index, test.index, data.test_file)
    file_rows = (train.index, test.index)
    train = sample(train, data.sample_train_rows, data, data.train_file)
    test = sample(test, data.sample_test_rows, data, data.test_file)
    full_train, full_test = without_empty_cells(train, test, recipe.handle_nans, data, file_rows)
    least = least_windows(recipe.window, recipe.recurrent)
    _check_enough_rows(len(full_train), recipe, data.train_file, windows=least)
    _check_enough_rows(len(full_test), recipe, data.test_file, windows=1)
    fitted = fit_preprocessing(full_train, recipe)
    return (
        _prepared(train, full_train, fitted),
        _prepared(test, full_test, fitted),
        fitted,
    )


def dataset_at(
    measured: pd.DataFrame, cutoff: int, rows: int, recipe: Recipe
) -> tuple[Dataset, pd.DataFrame]:
    """Fitted on the rows before `cutoff`; the test windows forecast the next `rows` rows, each its first.

    `measured`: raw rows [N, 11] in time order, sampled, NaN where a cell was empty. Also returns the
    rows that were fitted on. Raises RawDataError as `prepare` does.
    """
    window = recipe.window
    before = window.size + recipe.lags.rows_lost
    train = measured.iloc[:cutoff]
    least = least_windows(window, recipe.recurrent)
    _check_enough_rows(len(train), recipe, recipe.data.train_file, windows=least)
    test = measured.iloc[max(0, cutoff - before) : cutoff + rows + window.horizon - 1]
    full_train, full_test = without_empty_cells(train, test, recipe.handle_nans, recipe.data)
    fitted = fit_preprocessing(full_train, recipe)
    return (
        Dataset(
            split_of(_prepared(train, full_train, fitted), recipe),
            split_of(_prepared(test, full_test, fitted), recipe),
            fitted,
        ),
        train,
    )


def split_of(rows: PreparedRows, recipe: Recipe) -> Split:
    """The split that stands in these frames."""
    measured = rows.measured.loc[rows.processed.index, list(recipe.window.targets)]
    return Split(
        times=pd.DatetimeIndex(measured.index),
        measured=measured.to_numpy(dtype=np.float64),
        features=_float32(rows.processed),
        window=recipe.window,
    )


def _float32(frame: pd.DataFrame) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(frame.to_numpy(dtype=np.float32))


def _prepared(
    measured: pd.DataFrame, full: pd.DataFrame, fitted: FittedPreprocessing
) -> PreparedRows:
    return PreparedRows(
        measured=measured.loc[full.index],
        processed=pd.DataFrame(
            fitted.transform(full),
            index=full.index[fitted.rows_lost :],
            columns=list(fitted.columns),
        ),
        sampled=len(measured),
    )


def _check_pair(train: pd.Index, test: pd.Index, test_file: str) -> None:
    if len(train) > 1 and len(test) > 1 and test[1] - test[0] != train[1] - train[0]:
        raise RawDataError(
            test_file,
            "has another time step than the train file",
            received=str(test[1] - test[0]),
            allowed=str(train[1] - train[0]),
            remedy="resample one of the two files",
        )
    if test[0] <= train[-1]:
        raise RawDataError(
            test_file,
            "begins before the train file ends: a model would be scored on rows it has seen",
            row=1,
            received=str(test[0]),
            allowed=f"a time after {train[-1]}",
            remedy="cut the two files so that the test rows follow the train rows",
        )


def _check_enough_rows(rows: int, recipe: Recipe, file: str, *, windows: int) -> None:
    lost = recipe.lags.rows_lost
    if window_count(rows - lost, recipe.window) < windows:
        least = recipe.window.size + recipe.window.horizon + lost + windows - 1
        raise RawDataError(
            file,
            f"{rows} usable rows are fewer than the recipe's windows need",
            received=rows,
            allowed=(
                f"at least {least} (window {recipe.window.size}, horizon"
                f" {recipe.window.horizon}, lags {lost}, windows {windows})"
            ),
            remedy="give more rows, sample more of them, or shorten the window",
        )
