"""Empty cells: refused, dropped or imputed, always with what train rows alone can tell."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.errors import RawDataError
from flts_assets.recipe.model import Data, HandleNans

__all__ = ["without_empty_cells"]

DONORS: Final = 20_000


def without_empty_cells(
    train: pd.DataFrame,
    test: pd.DataFrame,
    settings: HandleNans,
    data: Data,
    file_rows: tuple[pd.Index, pd.Index] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames without NaN; complete rows are untouched.

    Imputation takes the mean of the k nearest train rows (scikit-learn's KNNImputer, Troyanskaya et
    al. 2001; of more than DONORS rows a random sample) in columns standardised on train
    rows, so that no column's unit decides who is near.

    `file_rows` are the times of all rows of both files, for errors to count rows in (None: the frames
    are the files).

    Raises RawDataError: empty cells though handling is off, or a train column emptier than allowed.
    """
    files = (data.train_file, data.test_file)
    if not settings.enabled:
        rows = file_rows or (train.index, test.index)
        for frame, file, times in zip((train, test), files, rows, strict=True):
            _refuse_first(frame, file, times)
        return train, test
    _check_threshold(train, settings.threshold, data.train_file)
    if settings.drop_rows:
        return train.dropna(), test.dropna()
    if settings.fill == "zero":
        return train.fillna(0.0), test.fillna(0.0)
    if not (train.isna().any(axis=None) or test.isna().any(axis=None)):
        return train, test
    return _impute(train, test, settings.knn_neighbors)


def _refuse_first(frame: pd.DataFrame, file: str, file_rows: pd.Index) -> None:
    empty = frame.isna().to_numpy()
    if empty.any():
        row, column = np.argwhere(empty)[0]
        raise RawDataError(
            file,
            "empty cell, and the recipe turns their handling off",
            column=str(frame.columns[column]),
            row=int(file_rows.get_loc(frame.index[row])) + 1,
            remedy="set handle_nans.enabled to true, or fill the cell",
        )


def _check_threshold(train: pd.DataFrame, threshold: float, file: str) -> None:
    shares = train.isna().mean()
    worst = str(shares.idxmax())
    if shares[worst] > threshold or shares[worst] == 1:
        raise RawDataError(
            file,
            f"{shares[worst]:.0%} of the sampled rows are empty",
            column=worst,
            allowed=f"at most {threshold:.0%} (handle_nans.threshold)",
            remedy="give better data, sample other rows, or raise the threshold",
        )


def _impute(
    train: pd.DataFrame, test: pd.DataFrame, neighbors: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    from sklearn import config_context
    from sklearn.impute import KNNImputer

    centre = train.mean().to_numpy()
    spread = train.std(ddof=0).replace(0.0, 1.0).to_numpy()
    donors = _donors(train.to_numpy(), neighbors)
    with config_context(working_memory=64):
        imputer = KNNImputer(n_neighbors=neighbors).fit((donors - centre) / spread)

        def filled(frame: pd.DataFrame) -> pd.DataFrame:
            values: npt.NDArray[np.float64] = frame.to_numpy(dtype=np.float64, copy=True)
            lacking = np.isnan(values).any(axis=1)
            if lacking.any():
                guesses = imputer.transform((values[lacking] - centre) / spread) * spread + centre
                values[lacking] = np.where(np.isnan(values[lacking]), guesses, values[lacking])
            return pd.DataFrame(values, index=frame.index, columns=frame.columns)

        return filled(train), filled(test)


def _donors(rows: npt.NDArray[np.float64], neighbors: int) -> npt.NDArray[np.float64]:
    """Rows to impute from: all, or DONORS of them and the first measured ones of every column.

    Every row with an empty cell is held against every donor.
    """
    if len(rows) <= DONORS:
        return rows
    drawn = np.random.default_rng(0).choice(len(rows), DONORS, replace=False)
    first = [np.flatnonzero(np.isfinite(column))[:neighbors] for column in rows.T]
    donors: npt.NDArray[np.float64] = rows[np.unique(np.concatenate([drawn, *first]))]
    return donors
