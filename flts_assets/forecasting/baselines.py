"""Forecasts that cost nothing: what every model has to beat.

They see the same windows, targets, horizon and cutoffs as the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.forecasting.calendar import calendar_features
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.floors import floored_targets, floors
from flts_assets.forecasting.split import Split
from flts_assets.recipe.model import Recipe

__all__ = ["BASELINES", "PERSISTENCE", "Baseline", "Forecast", "fitted"]

Floats = npt.NDArray[np.float64]
Forecast = Callable[[Split], Floats]
"""Raw units [M, H, T], one for each window of a split."""
Baseline = Callable[[Dataset], Forecast]
"""Fits on the train rows."""

RIDGE_ALPHA: Final = 10.0
_AT_ONCE: Final = 50_000


def persistence(_data: Dataset) -> Forecast:
    """The last measured value, whatever the step ahead."""
    return _last_value


def window_mean(_data: Dataset) -> Forecast:
    """The mean of the window's rows."""

    def forecast(split: Split) -> Floats:
        windows = np.lib.stride_tricks.sliding_window_view(split.known(), split.window.size, axis=0)
        return _repeated(windows[: split.windows].mean(axis=2), split)

    return forecast


def seasonal_naive(data: Dataset) -> Forecast:
    """What was measured at the same time of the last whole day before; else the last measured value.

    Source: Hyndman & Athanasopoulos, "Forecasting: principles and practice", 3rd ed., section 5.2.
    """
    day = np.timedelta64(1, "D")
    train = pd.DataFrame(data.train.measured, index=data.train.times)

    def forecast(split: Split) -> Floats:
        wanted = split.target_times()
        cutoffs = _at_cutoffs(split, split.times.to_numpy()[:, None])
        season_ago = wanted - np.ceil((wanted - cutoffs) / day).astype(np.int64) * day
        known = pd.concat([train, pd.DataFrame(split.measured, index=split.times)])
        # A backtest's windows begin among the train rows.
        known = known[~known.index.duplicated()]
        seasonal = known.reindex(pd.DatetimeIndex(season_ago.ravel())).to_numpy()
        seasonal = seasonal.reshape(*wanted.shape, -1)
        return np.where(np.isfinite(seasonal), seasonal, _last_value(split))

    return forecast


def linear_ar(data: Dataset) -> Forecast:
    """Least squares on the window of each target itself, and the time of day of its row."""
    columns = data.preprocessing.target_places

    def design(split: Split, column: int) -> Floats:
        lags = split.inputs()[:, :, column].astype(np.float64)
        return np.concatenate([lags, _time_of_day(split), np.ones((len(lags), 1))], axis=1)

    weights = {
        column: np.linalg.lstsq(
            design(data.train, column), _scaled_targets(data.train, column), rcond=None
        )[0]
        for column in columns
    }

    def forecast(split: Split) -> Floats:
        scaled = [design(split, column) @ weights[column] for column in columns]
        return data.preprocessing.inverse_targets(np.stack(scaled, axis=-1))

    return forecast


def ridge(data: Dataset) -> Forecast:
    """Ridge regression (alpha 10) on the window of all columns, for all steps and targets at once.

    Source: Hoerl & Kennard 1970; the intercept is not penalised.
    """
    places = data.preprocessing.target_places
    train = data.train
    y = train.ahead(train.features[:, places]).reshape(train.windows, -1)
    y_mean = y.mean(axis=0, dtype=np.float64)
    x_mean = np.sum([part.sum(axis=0) for _, part in _flat(train)], axis=0) / train.windows
    size = len(x_mean)
    gram, moment = RIDGE_ALPHA * np.eye(size), np.zeros((size, y.shape[1]))
    for rows, part in _flat(train):
        centred = part - x_mean
        gram += centred.T @ centred
        moment += centred.T @ (y[rows] - y_mean)
    weights = np.linalg.solve(gram, moment)

    def forecast(split: Split) -> Floats:
        scaled = np.concatenate([(part - x_mean) @ weights + y_mean for _, part in _flat(split)])
        shape = (split.windows, split.window.horizon, len(places))
        return data.preprocessing.inverse_targets(scaled.reshape(shape))

    return forecast


PERSISTENCE: Final = "persistence"
BASELINES: Final[Mapping[str, Baseline]] = {
    PERSISTENCE: persistence,
    "window_mean": window_mean,
    "seasonal_naive": seasonal_naive,
    "linear_ar": linear_ar,
    "ridge": ridge,
}


def fitted(name: str, data: Dataset, recipe: Recipe) -> Forecast:
    """The baseline of this name, its forecasts floored as those of the recipe's models are."""
    forecast = BASELINES[name](data)
    least = floors(recipe.window.targets, floored_targets(data.train, recipe))
    return lambda split: np.maximum(forecast(split), least)


def _last_value(split: Split) -> Floats:
    return _repeated(_at_cutoffs(split, split.known()), split)


def _at_cutoffs(split: Split, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The row at each cutoff: [N, K] -> [M, K]."""
    first = split.window.size - 1
    return rows[first : first + split.windows]


def _repeated(values: Floats, split: Split) -> Floats:
    """[M, T] -> [M, H, T]"""
    return np.repeat(values[:, None, :], split.window.horizon, axis=1)


def _time_of_day(split: Split) -> Floats:
    """[M, 2] of the first forecast row."""
    return calendar_features(split.target_times()[:, 0], ["min_of_day"])


def _scaled_targets(split: Split, column: int) -> Floats:
    """[M, H]"""
    return np.asarray(split.ahead(split.features[:, [column]])[..., 0], dtype=np.float64)


def _flat(split: Split) -> Iterator[tuple[slice, Floats]]:
    """The windows' values side by side [m, W * F], a part at a time: they overlap, and are copied."""
    windows = split.inputs()
    for start in range(0, len(windows), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        yield rows, windows[rows].reshape(len(windows[rows]), -1).astype(np.float64)
