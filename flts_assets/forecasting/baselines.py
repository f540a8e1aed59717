"""Forecasts that cost nothing: what every model has to beat.

They see the same windows, targets, horizon and cutoffs as the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.calendar import calendar_features
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.split import Split

__all__ = ["BASELINES", "PERSISTENCE", "Baseline"]

Floats = npt.NDArray[np.float64]
Baseline = Callable[[Dataset], Floats]
"""Forecasts of the test windows in raw units [M, H, T], fitted on train rows."""

RIDGE_ALPHA: Final = 10.0


def persistence(data: Dataset) -> Floats:
    """The last measured value, whatever the step ahead."""
    return _repeated(_at_cutoffs(data.test, data.test.known()), data.test)


def window_mean(data: Dataset) -> Floats:
    """The mean of the window's rows."""
    test = data.test
    windows = np.lib.stride_tricks.sliding_window_view(test.known(), test.window.size, axis=0)
    return _repeated(windows[: test.windows].mean(axis=2), test)


def seasonal_naive(data: Dataset) -> Floats:
    """What was measured at the same time of the last whole day before; else the last measured value.

    Source: Hyndman & Athanasopoulos, "Forecasting: principles and practice", 3rd ed., section 5.2.
    """
    day = np.timedelta64(1, "D")
    wanted = data.test.target_times()
    cutoffs = _at_cutoffs(data.test, data.test.times.to_numpy()[:, None])
    season_ago = wanted - np.ceil((wanted - cutoffs) / day).astype(np.int64) * day
    known = pd.DataFrame(
        np.concatenate([data.train.measured, data.test.measured]),
        index=data.train.times.append(data.test.times),
    )
    seasonal = known.reindex(pd.DatetimeIndex(season_ago.ravel())).to_numpy()
    seasonal = seasonal.reshape(*wanted.shape, -1)
    return np.where(np.isfinite(seasonal), seasonal, persistence(data))


def linear_ar(data: Dataset) -> Floats:
    """Least squares on the window of each target itself, and the time of day of its row."""
    columns = data.preprocessing.target_places
    forecasts = np.empty((data.test.windows, data.test.window.horizon, len(columns)))
    for place, column in enumerate(columns):

        def design(split: Split, column: int = column) -> Floats:
            lags = split.inputs()[:, :, column].astype(np.float64)
            return np.concatenate([lags, _time_of_day(split), np.ones((len(lags), 1))], axis=1)

        solution, *_ = np.linalg.lstsq(
            design(data.train), _scaled_targets(data.train, column), rcond=None
        )
        forecasts[..., place] = design(data.test) @ solution
    return data.preprocessing.inverse_targets(forecasts)


def ridge(data: Dataset) -> Floats:
    """Ridge regression (alpha 10) on the window of all columns, for all steps and targets at once.

    Source: Hoerl & Kennard 1970; the intercept is not penalised.
    """
    places = data.preprocessing.target_places
    train = data.train
    x, y = _flat(train), train.ahead(train.features[:, places]).reshape(train.windows, -1)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0, dtype=np.float64)
    x -= x_mean
    penalised = x.T @ x + RIDGE_ALPHA * np.eye(x.shape[1])
    weights = np.linalg.solve(penalised, x.T @ (y - y_mean))
    forecasts = (_flat(data.test) - x_mean) @ weights + y_mean
    shape = (data.test.windows, data.test.window.horizon, len(places))
    return data.preprocessing.inverse_targets(forecasts.reshape(shape))


PERSISTENCE: Final = "persistence"
BASELINES: Final[Mapping[str, Baseline]] = {
    PERSISTENCE: persistence,
    "window_mean": window_mean,
    "seasonal_naive": seasonal_naive,
    "linear_ar": linear_ar,
    "ridge": ridge,
}


def _at_cutoffs(split: Split, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The row at each cutoff: [N, K] -> [M, K]."""
    first = split.window.size - 1
    return rows[first : first + split.windows]


def _repeated(values: Floats, split: Split) -> Floats:
    """[M, T] -> [M, H, T]"""
    return np.repeat(values[:, None, :], split.window.horizon, axis=1)


def _time_of_day(split: Split) -> Floats:
    """[M, 2] of the first forecast row."""
    return calendar_features(pd.DatetimeIndex(split.target_times()[:, 0]))[:, :2]


def _scaled_targets(split: Split, column: int) -> Floats:
    """[M, H]"""
    return np.asarray(split.ahead(split.features[:, [column]])[..., 0], dtype=np.float64)


def _flat(split: Split) -> Floats:
    return split.inputs().reshape(split.windows, -1).astype(np.float64)
