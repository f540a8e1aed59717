"""From raw rows to what a net sees, by numbers fitted on train rows only.

    sample -> empty cells -> clip -> add constant -> calendar -> lags -> scale

`fit` looks at train rows and returns a `FittedPreprocessing`: plain numbers, saved as JSON beside the
data and inside every model, so that evaluation and serving transform exactly as training did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting.calendar import calendar_features
from flts_assets.recipe.columns import CALENDAR_COLUMNS, RAW_COLUMNS
from flts_assets.recipe.model import Recipe

__all__ = ["ColumnScale", "FittedPreprocessing", "fit_preprocessing"]

Floats = npt.NDArray[np.float64]


class ColumnScale(BaseModel):
    """scaled = (value - offset) / scale, of log1p(value / median) where there is a median"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: float
    scale: float
    median: float | None = None


class FittedPreprocessing(BaseModel):
    """Everything fitted on the train rows, in the order of the processed frame's columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    scaler_type: str
    columns: tuple[str, ...]
    """the processed frame's columns: raw, calendar, lagged"""
    targets: tuple[str, ...]
    clip: dict[str, tuple[float, float]]
    add_constant: float
    time_features: bool
    n_lags: int
    lag_step: int
    scales: tuple[ColumnScale, ...]
    """one for each of `columns`"""
    target_ranges: tuple[float, ...]
    """max - min of each target's train rows in raw units: the unit of the scores"""

    @property
    def rows_lost(self) -> int:
        """Leading rows that only serve as lags of later ones."""
        return self.n_lags * self.lag_step

    @property
    def target_places(self) -> list[int]:
        """Where the targets stand among `columns`."""
        return [self.columns.index(target) for target in self.targets]

    def transform(self, rows: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Scaled features [N - rows_lost, F] of raw rows [N] without empty cells, in time order."""
        values = _bent(_expanded(rows, self), self._medians)
        offset, scale = self._offset_and_scale
        return ((values - offset) / scale).astype(np.float32)

    def inverse_targets(self, scaled: npt.NDArray[np.floating]) -> Floats:
        """Raw units of scaled targets, whatever stands before the last axis [..., T]."""
        offset, scale = self._offset_and_scale
        places = self.target_places
        values = np.asarray(scaled, dtype=np.float64) * scale[places] + offset[places]
        return _straightened(values, self._medians[places]) - self.add_constant

    @property
    def _medians(self) -> Floats:
        """NaN where a column is scaled as it is."""
        return np.array([np.nan if c.median is None else c.median for c in self.scales])

    @property
    def _offset_and_scale(self) -> tuple[Floats, Floats]:
        return (
            np.array([column.offset for column in self.scales]),
            np.array([column.scale for column in self.scales]),
        )


def fit_preprocessing(train: pd.DataFrame, recipe: Recipe) -> FittedPreprocessing:
    """Fit on raw train rows [N] without empty cells, already sampled."""
    unscaled = FittedPreprocessing(
        scaler_type=recipe.scaling.method,
        columns=_columns(recipe),
        targets=recipe.window.targets,
        clip=_clip_bounds(train, recipe),
        add_constant=recipe.scaling.add_constant or 0.0,
        time_features=recipe.time_features.enabled,
        n_lags=recipe.lags.n_lags if recipe.lags.enabled else 0,
        lag_step=recipe.lags.step,
        scales=(),
        target_ranges=tuple(
            _positive(float(train[target].max() - train[target].min()))
            for target in recipe.window.targets
        ),
    )
    values = _expanded(train, unscaled)
    values = values[: max(1, int(len(values) * recipe.scaling.fit_share))]
    return unscaled.model_copy(
        update={"scales": _fit_scales(values, unscaled.columns, recipe.scaling.method)}
    )


def _columns(recipe: Recipe) -> tuple[str, ...]:
    columns = RAW_COLUMNS
    if recipe.time_features.enabled:
        columns += CALENDAR_COLUMNS
    if recipe.lags.enabled:
        columns += tuple(
            f"{column}_lag{lag * recipe.lags.step}"
            for lag in range(1, recipe.lags.n_lags + 1)
            for column in RAW_COLUMNS
        )
    return columns


def _clip_bounds(train: pd.DataFrame, recipe: Recipe) -> dict[str, tuple[float, float]]:
    if not recipe.outliers.enabled:
        return {}
    low, high = train.quantile(0.25), train.quantile(0.75)
    reach = recipe.outliers.factor * (high - low)
    return {
        column: (float(low[column] - reach[column]), float(high[column] + reach[column]))
        for column in RAW_COLUMNS
    }


def _expanded(rows: pd.DataFrame, fitted: FittedPreprocessing) -> Floats:
    """Every step but the scaling: [N - rows_lost, F]."""
    raw = rows[list(RAW_COLUMNS)].to_numpy(dtype=np.float64)
    if fitted.clip:
        bounds = np.array([fitted.clip[column] for column in RAW_COLUMNS])
        raw = np.clip(raw, bounds[:, 0], bounds[:, 1])
    raw = raw + fitted.add_constant
    lost = fitted.rows_lost
    blocks = [raw[lost:]]
    if fitted.time_features:
        blocks.append(calendar_features(pd.DatetimeIndex(rows.index))[lost:])
    blocks.extend(
        raw[lost - lag * fitted.lag_step : len(raw) - lag * fitted.lag_step]
        for lag in range(1, fitted.n_lags + 1)
    )
    return np.concatenate(blocks, axis=1)


def _fit_scales(values: Floats, columns: Sequence[str], method: str) -> tuple[ColumnScale, ...]:
    """A constant column keeps the scale 1: it becomes 0 everywhere and divides nothing by zero."""
    medians = np.full(len(columns), np.nan)
    if method == "LogMedianScaler":
        for place, column in enumerate(columns):
            if column not in CALENDAR_COLUMNS:
                medians[place] = _positive(float(np.median(values[:, place])))
        values = _bent(values, medians)
    if method == "MinMaxScaler":
        offset, scale = values.min(axis=0), np.ptp(values, axis=0)
    elif method in ("StandardScaler", "LogMedianScaler"):
        # Mean and deviation of n equal floats are off by 1e-17.
        constant = np.ptp(values, axis=0) == 0
        offset = np.where(constant, values[0], values.mean(axis=0))
        scale = np.where(constant, 0.0, values.std(axis=0))
    else:
        offset, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    return tuple(
        ColumnScale(
            offset=float(o), scale=_positive(float(s)), median=None if np.isnan(m) else float(m)
        )
        for o, s, m in zip(offset, scale, medians, strict=True)
    )


def _bent(values: Floats, medians: Floats) -> Floats:
    """log1p(value / median) in the columns that have a median; values below 0 count as 0."""
    bent = ~np.isnan(medians)
    if not bent.any():
        return values
    result: Floats = values.copy()
    result[..., bent] = np.log1p(np.maximum(values[..., bent], 0.0) / medians[bent])
    return result


def _straightened(values: Floats, medians: Floats) -> Floats:
    """The inverse of `_bent`."""
    bent = ~np.isnan(medians)
    result: Floats = values.copy()
    result[..., bent] = np.expm1(values[..., bent]) * medians[bent]
    return result


def _positive(width: float) -> float:
    return width if width > 0 else 1.0
