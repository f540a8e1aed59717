"""Everything a model is made from and scored on: two splits and what was fitted on the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.forecasting.empty_cells import without_empty_cells
from flts_assets.forecasting.parquet import StoredFrame, StoredRows
from flts_assets.forecasting.preprocessing import FittedPreprocessing, fit_preprocessing
from flts_assets.forecasting.rows import Rows
from flts_assets.forecasting.sampling import Sampled, sampled_places
from flts_assets.forecasting.split import Split, least_windows, window_count
from flts_assets.recipe.model import Recipe

__all__ = [
    "Dataset",
    "Fitted",
    "PreparedRows",
    "dataset_at",
    "fit",
    "missing_between",
    "prepare",
    "split_of",
    "stored_split",
]


@dataclass(frozen=True)
class Fitted:
    """What was fitted on the train rows, and the rows of both splits without empty cells."""

    train: Rows
    test: Rows
    preprocessing: FittedPreprocessing


@dataclass(frozen=True)
class PreparedRows:
    """One split as preprocessing leaves it, both frames indexed by time and in memory."""

    measured: pd.DataFrame
    """raw units, float64, NaN where a cell was empty [N, 11]"""
    processed: pd.DataFrame
    """scaled, float32 [N - rows lost to lags, F]: the last of the measured rows"""


@dataclass(frozen=True)
class Dataset:
    """What the stages after preprocessing work on."""

    train: Split
    test: Split
    preprocessing: FittedPreprocessing


def fit(train: Sampled, test: Sampled, recipe: Recipe) -> Fitted:
    """Fill and fit on train rows; nothing is held of the rows but a column or a span at a time.

    Raises RawDataError: too few rows for the recipe's windows, or empty cells that may not be filled.
    """
    data = recipe.data
    full_train, full_test = without_empty_cells(train, test, recipe.handle_nans, data)
    least = least_windows(recipe.window, recipe.recurrent)
    _check_enough_rows(len(full_train), recipe, data.train_file, windows=least)
    _check_enough_rows(len(full_test), recipe, data.test_file, windows=1)
    return Fitted(full_train, full_test, fit_preprocessing(full_train, recipe))


def prepare(
    train: pd.DataFrame, test: pd.DataFrame, recipe: Recipe
) -> tuple[PreparedRows, PreparedRows, FittedPreprocessing]:
    """Sample, `fit`, transform both, in memory. Frames as `read_raw` returns them.

    Raises RawDataError as `fit` does, and: test rows that do not follow the train rows, or fewer rows
    than the recipe samples.
    """
    data = recipe.data
    missing_between(train.index, test.index, data.test_file)
    train_places = sampled_places(len(train), data.sample_train_rows, data, data.train_file)
    test_places = sampled_places(len(test), data.sample_test_rows, data, data.test_file)
    drop = recipe.handle_nans.drops_rows
    sampled_train = Sampled.of_frame(train, train_places, drop_empty=drop)
    sampled_test = Sampled.of_frame(test, test_places, drop_empty=drop)
    fitted = fit(sampled_train, sampled_test, recipe)
    return (
        _prepared(sampled_train, fitted.train, fitted.preprocessing),
        _prepared(sampled_test, fitted.test, fitted.preprocessing),
        fitted.preprocessing,
    )


def dataset_at(
    measured: pd.DataFrame, cutoff: int, rows: int, recipe: Recipe
) -> tuple[Dataset, pd.DataFrame]:
    """Fitted on the rows before `cutoff`; the test windows forecast the next `rows` rows, each its first.

    `measured`: raw rows [N, 11] in time order, sampled, NaN where a cell was empty. Also returns the
    rows that were fitted on. Raises RawDataError as `fit` does.
    """
    window = recipe.window
    before = window.size + recipe.lags.rows_lost
    train = measured.iloc[:cutoff]
    least = least_windows(window, recipe.recurrent)
    _check_enough_rows(len(train), recipe, recipe.data.train_file, windows=least)
    test = measured.iloc[max(0, cutoff - before) : cutoff + rows + window.horizon - 1]
    sampled_train, sampled_test = (
        Sampled.of_frame(frame, range(len(frame)), drop_empty=recipe.handle_nans.drops_rows)
        for frame in (train, test)
    )
    full_train, full_test = without_empty_cells(
        sampled_train, sampled_test, recipe.handle_nans, recipe.data
    )
    fitted = fit_preprocessing(full_train, recipe)
    return (
        Dataset(
            split_of(_prepared(sampled_train, full_train, fitted), recipe),
            split_of(_prepared(sampled_test, full_test, fitted), recipe),
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


def stored_split(measured: StoredRows, processed: StoredFrame, recipe: Recipe) -> Split:
    """The split that stands in these files."""
    lost = len(measured) - len(processed)
    targets = np.empty((len(recipe.window.targets), len(processed)))
    for place, target in enumerate(recipe.window.targets):
        targets[place] = measured.column(target)[lost:]
    return Split(measured.index[lost:], targets.T, processed.values(), recipe.window)


def _float32(frame: pd.DataFrame) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(frame.to_numpy(dtype=np.float32))


def _prepared(sampled: Sampled, full: Rows, fitted: FittedPreprocessing) -> PreparedRows:
    measured = sampled.rows.span(0, len(full))
    return PreparedRows(
        measured=measured,
        processed=pd.DataFrame(
            fitted.transform(full.span(0, len(full))),
            index=measured.index[fitted.rows_lost :],
            columns=list(fitted.columns),
        ),
    )


def missing_between(train: pd.Index, test: pd.Index, test_file: str) -> int:
    """How many rows of the grid are missing between the last train and the first test row.

    Raises RawDataError where the test rows have another time step or do not follow the train rows.
    """
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
    longer = next((index for index in (train, test) if len(index) > 1), None)
    return 0 if longer is None else int((test[0] - train[-1]) / (longer[1] - longer[0])) - 1


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
