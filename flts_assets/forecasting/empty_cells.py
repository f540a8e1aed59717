"""Empty cells: refused, dropped or imputed, always with what train rows alone can tell."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flts_assets.errors import RawDataError
from flts_assets.forecasting.rows import FilledRows, Rows, spans
from flts_assets.forecasting.sampling import Sampled
from flts_assets.recipe.columns import RAW_COLUMNS
from flts_assets.recipe.model import Data, HandleNans

__all__ = ["without_empty_cells"]

Floats = npt.NDArray[np.float64]

DONORS: Final = 20_000


def without_empty_cells(
    train: Sampled, test: Sampled, settings: HandleNans, data: Data
) -> tuple[Rows, Rows]:
    """Both without NaN; complete rows are untouched, rows to drop were left out when they were sampled.

    Imputation takes the mean of the k nearest train rows (scikit-learn's KNNImputer, Troyanskaya et
    al. 2001; of more than DONORS rows a random sample) in columns standardised on train
    rows, so that no column's unit decides who is near.

    Raises RawDataError: empty cells though handling is off, or a train column emptier than allowed.
    """
    if not settings.enabled:
        _refuse_first(train, data.train_file)
        _refuse_first(test, data.test_file)
        return train.rows, test.rows
    _check_threshold(train, settings.threshold, data.train_file)
    if settings.drop_rows or (train.first_empty is None and test.first_empty is None):
        return train.rows, test.rows
    if settings.fill == "zero":
        return _filled(train.rows, np.zeros_like), _filled(test.rows, np.zeros_like)
    return _impute(train.rows, test.rows, settings.knn_neighbors)


def _refuse_first(sampled: Sampled, file: str) -> None:
    if sampled.first_empty is not None:
        row, column = sampled.first_empty
        raise RawDataError(
            file,
            "empty cell, and the recipe turns their handling off",
            column=column,
            row=row,
            remedy="set handle_nans.enabled to true, or fill the cell",
        )


def _check_threshold(train: Sampled, threshold: float, file: str) -> None:
    shares = {name: count / train.taken for name, count in train.empty_cells.items()}
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] > threshold or shares[worst] == 1:
        raise RawDataError(
            file,
            f"{shares[worst]:.0%} of the sampled rows are empty",
            column=worst,
            allowed=f"at most {threshold:.0%} (handle_nans.threshold)",
            remedy="give better data, sample other rows, or raise the threshold",
        )


def _impute(train: Rows, test: Rows, neighbors: int) -> tuple[Rows, Rows]:
    import pandas as pd
    from sklearn import config_context
    from sklearn.impute import KNNImputer

    columns = (pd.Series(train.column(name)) for name in RAW_COLUMNS)
    moments = np.array([(column.mean(), column.std(ddof=0)) for column in columns])
    centre, spread = moments[:, 0], np.where(moments[:, 1] == 0.0, 1.0, moments[:, 1])
    with config_context(working_memory=8):
        imputer = KNNImputer(n_neighbors=neighbors)
        imputer.fit((_donors(train, neighbors) - centre) / spread)

        def guesses(values: Floats) -> Floats:
            of_cells: Floats = imputer.transform((values - centre) / spread) * spread + centre
            return of_cells

        return _filled(train, guesses), _filled(test, guesses)


def _filled(rows: Rows, guesses: Any) -> Rows:
    """The empty cells filled from `guesses`, which is asked for all rows [L, 11] that have one."""
    places, values = _lacking(rows)
    if not len(places):
        return rows
    return FilledRows(rows, places, np.where(np.isnan(values), guesses(values), values))


def _lacking(rows: Rows) -> tuple[npt.NDArray[np.intp], Floats]:
    """Where rows with an empty cell stand [L], and those rows [L, 11]."""
    places, values = [], []
    for start, stop in spans(len(rows)):
        span = rows.span(start, stop).to_numpy()
        lacking = np.flatnonzero(np.isnan(span).any(axis=1))
        places.append(lacking + start)
        values.append(span[lacking])
    return np.concatenate(places), np.concatenate(values)


def _donors(rows: Rows, neighbors: int) -> Floats:
    """Rows to impute from: all, or DONORS of them and the first measured ones of every column.

    Every row with an empty cell is held against every donor.
    """
    if len(rows) <= DONORS:
        donors: Floats = rows.span(0, len(rows)).to_numpy()
        return donors
    drawn = np.random.default_rng(0).choice(len(rows), DONORS, replace=False)
    columns = (rows.column(name) for name in RAW_COLUMNS)
    # Copied: a slice would keep the places of all rows, of every column.
    first = [np.flatnonzero(np.isfinite(column))[:neighbors].copy() for column in columns]
    places = np.unique(np.concatenate([drawn, *first]))
    return np.column_stack([rows.column(name)[places] for name in RAW_COLUMNS])
