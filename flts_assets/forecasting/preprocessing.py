"""From raw rows to what a net sees, by numbers fitted on train rows only.

    sample -> empty cells -> clip -> add constant -> calendar -> lags -> scale

`fit` looks at train rows and returns a `FittedPreprocessing`: plain numbers, saved as JSON beside the
data and inside every model, so that evaluation and serving transform exactly as training did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting.calendar import calendar_features
from flts_assets.forecasting.rows import Rows, as_rows, spans
from flts_assets.recipe.columns import CALENDAR_COLUMNS, RAW_COLUMNS, Cycle, calendar_columns
from flts_assets.recipe.model import Recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnScale", "FittedPreprocessing", "fit_preprocessing", "transformed"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
BLOCK = 65_536
"""rows (or, of a batch, windows) that are scaled at once"""


class ColumnScale(BaseModel):
    """scaled = (value - offset) / scale, of log1p(value / median) where there is a median, of the
    square root where `root` is set"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: float
    scale: float
    median: float | None = None
    """or the mean, where the median is 0"""
    root: bool = False


class FittedPreprocessing(BaseModel):
    """Everything fitted on the train rows, in the order of the processed frame's columns."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    scaler_type: str
    columns: tuple[str, ...]
    """the processed frame's columns: raw, calendar, lagged"""
    targets: tuple[str, ...]
    clip: dict[str, tuple[float, float]]
    add_constant: float
    cycles: tuple[Cycle, ...]
    """calendar columns: sine and cosine of each"""
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
        return self.transform_values(
            rows[list(RAW_COLUMNS)].to_numpy(dtype=np.float64),
            rows.index.to_numpy(),
        )

    def transform_values(
        self, raw: Floats, times: npt.NDArray[np.datetime64]
    ) -> npt.NDArray[np.float32]:
        """`transform` of raw values [..., N, 11], in the order of RAW_COLUMNS, at times [..., N]."""
        return self._scaled(_expanded(raw, times, self))

    def rescaled_like(self, other: FittedPreprocessing, features: Floats32) -> Floats32:
        """Features [..., F] that `other` scaled, scaled by this one; the two differ in scales alone."""
        return self._scaled(other._unscaled(features))

    def with_scaling(self, method: str, train: Floats32, fit_share: float) -> FittedPreprocessing:
        """The same with other scales, fitted on the first share of scaled train rows [N, F]."""
        values = self._unscaled(train[: max(1, int(len(train) * fit_share))])
        scales = _fit_scales(values.T, self.columns, method)
        return self.model_copy(update={"scaler_type": method, "scales": scales})

    def _scaled(self, values: Floats) -> Floats32:
        offset, scale = self._offset_and_scale
        scaled = np.empty(values.shape, dtype=np.float32)
        # Block by block along the first axis: a million rows need no second and third copy in float64.
        for start in range(0, len(values), BLOCK):
            part = slice(start, start + BLOCK)
            scaled[part] = (_bent(values[part], self.scales) - offset) / scale
        return scaled

    def _unscaled(self, features: Floats32) -> Floats:
        offset, scale = self._offset_and_scale
        return _straightened(features.astype(np.float64) * scale + offset, self.scales)

    def inverse_targets(self, scaled: npt.NDArray[np.floating]) -> Floats:
        """Raw units of scaled targets, whatever stands before the last axis [..., T]."""
        offset, scale = self._offset_and_scale
        places = self.target_places
        values = np.asarray(scaled, dtype=np.float64) * scale[places] + offset[places]
        return _straightened(values, [self.scales[place] for place in places]) - self.add_constant

    @property
    def _offset_and_scale(self) -> tuple[Floats, Floats]:
        return (
            np.array([column.offset for column in self.scales]),
            np.array([column.scale for column in self.scales]),
        )


def fit_preprocessing(train: pd.DataFrame | Rows, recipe: Recipe) -> FittedPreprocessing:
    """Fit on raw train rows [N] without empty cells, already sampled; one column is held at a time."""
    rows = as_rows(train)
    unscaled = FittedPreprocessing(
        scaler_type=recipe.scaling.method,
        columns=_columns(recipe),
        targets=recipe.window.targets,
        clip=_clip_bounds(rows, recipe),
        add_constant=recipe.scaling.add_constant or 0.0,
        cycles=recipe.time_features.cycles if recipe.time_features.enabled else (),
        n_lags=recipe.lags.n_lags if recipe.lags.enabled else 0,
        lag_step=recipe.lags.step,
        scales=(),
        target_ranges=tuple(
            _positive(float(np.ptp(rows.column(target)))) for target in recipe.window.targets
        ),
    )
    fitted_on = max(1, int((len(rows) - unscaled.rows_lost) * recipe.scaling.fit_share))
    columns = (column[:fitted_on] for column in _expanded_columns(rows, unscaled))
    scales = _fit_scales(columns, unscaled.columns, recipe.scaling.method)
    return unscaled.model_copy(update={"scales": scales})


def transformed(rows: Rows, fitted: FittedPreprocessing) -> Iterator[Floats32]:
    """`transform` of all rows, a span after the other: consecutive features [n, F]."""
    for start, stop in spans(len(rows), fitted.rows_lost):
        yield fitted.transform(rows.span(start, stop))


def _columns(recipe: Recipe) -> tuple[str, ...]:
    columns = RAW_COLUMNS
    if recipe.time_features.enabled:
        columns += calendar_columns(recipe.time_features.cycles)
    if recipe.lags.enabled:
        columns += tuple(
            f"{column}_lag{lag * recipe.lags.step}"
            for lag in range(1, recipe.lags.n_lags + 1)
            for column in RAW_COLUMNS
        )
    return columns


def _clip_bounds(train: Rows, recipe: Recipe) -> dict[str, tuple[float, float]]:
    if not recipe.outliers.enabled:
        return {}
    bounds = {}
    for column in RAW_COLUMNS:
        low, high = np.quantile(train.column(column), (0.25, 0.75))
        reach = recipe.outliers.factor * (high - low)
        bounds[column] = (float(low - reach), float(high + reach))
    return bounds


def _expanded_columns(rows: Rows, fitted: FittedPreprocessing) -> Iterator[Floats]:
    """`_expanded`, column by column: [N - rows_lost] each."""
    lost = fitted.rows_lost

    def lagged(lag: int) -> Iterator[Floats]:
        for name in RAW_COLUMNS:
            values = rows.column(name)[lost - lag : len(rows) - lag]
            if fitted.clip:
                values = np.clip(values, *fitted.clip[name])
            yield values + fitted.add_constant

    yield from lagged(0)
    times = rows.index.to_numpy()[lost:]
    for cycle in fitted.cycles:
        wave = np.empty((2, len(times)))
        for start in range(0, len(times), BLOCK):
            part = slice(start, start + BLOCK)
            wave[:, part] = calendar_features(times[part], (cycle,)).T
        yield from wave
    for lag in range(1, fitted.n_lags + 1):
        yield from lagged(lag * fitted.lag_step)


def _expanded(
    raw: Floats, times: npt.NDArray[np.datetime64], fitted: FittedPreprocessing
) -> Floats:
    """Every step but the scaling: [..., N - rows_lost, F]."""
    if fitted.clip:
        bounds = np.array([fitted.clip[column] for column in RAW_COLUMNS])
        raw = np.clip(raw, bounds[:, 0], bounds[:, 1])
    raw = raw + fitted.add_constant
    lost = fitted.rows_lost
    rows = raw.shape[-2]
    blocks = [raw[..., lost:, :], calendar_features(times[..., lost:], fitted.cycles)]
    blocks.extend(
        raw[..., lost - lag * fitted.lag_step : rows - lag * fitted.lag_step, :]
        for lag in range(1, fitted.n_lags + 1)
    )
    return np.concatenate(blocks, axis=-1)


def _fit_scales(
    values: Iterable[Floats], columns: Sequence[str], method: str
) -> tuple[ColumnScale, ...]:
    """From one array [N] for each of the columns."""
    return tuple(
        _fit_scale(column, method, plain=name in CALENDAR_COLUMNS)
        for column, name in zip(values, columns, strict=True)
    )


def _fit_scale(values: Floats, method: str, *, plain: bool) -> ColumnScale:
    """A constant column keeps the scale 1: it becomes 0 everywhere and divides nothing by zero.

    `plain`: sines and cosines, which are neither bent nor, where others are, scaled.
    """
    bends = method in ("LogMedianScaler", "SqrtScaler")
    if method == "None" or (plain and bends):
        return ColumnScale(offset=0.0, scale=1.0)
    bend = ColumnScale(
        offset=0.0,
        scale=1.0,
        median=_typical(values) if method == "LogMedianScaler" else None,
        root=method == "SqrtScaler",
    )
    values = _bent(values[:, None], [bend])[:, 0]
    if method == "MinMaxScaler":
        offset, scale = float(values.min()), float(np.ptp(values))
    elif np.ptp(values) == 0:
        # Mean and deviation of n equal floats are off by 1e-17.
        offset, scale = float(values[0]), 0.0
    else:
        offset = _sum(values) / len(values)
        scale = float(np.sqrt(_sum(np.square(values - offset)) / len(values)))
    return bend.model_copy(update={"offset": offset, "scale": _positive(scale)})


def _sum(values: Floats) -> float:
    """Of [N], one value after the other.

    Recipes hold scales that were fitted on rows, over which NumPy sums so; its sum of a single column
    adds in another order and differs in the last bit.
    """
    total = np.zeros(0)
    for start in range(0, len(values), BLOCK):
        total = np.add.accumulate(np.concatenate([total, values[start : start + BLOCK]]))[-1:]
    return float(total[0])


def _bent(values: Floats, scales: Sequence[ColumnScale]) -> Floats:
    """log1p(value / median) or the square root, column by column; values below 0 count as 0."""
    logs = np.array([scale.median is not None for scale in scales])
    roots = np.array([scale.root for scale in scales])
    if not (logs.any() or roots.any()):
        return values
    result: Floats = values.copy()
    if logs.any():
        medians = np.array([scale.median for scale in scales if scale.median is not None])
        result[..., logs] = np.log1p(np.maximum(values[..., logs], 0.0) / medians)
    if roots.any():
        result[..., roots] = np.sqrt(np.maximum(values[..., roots], 0.0))
    return result


def _straightened(values: Floats, scales: Sequence[ColumnScale]) -> Floats:
    """The inverse of `_bent`, never below 0."""
    result: Floats = values.copy()
    for place, scale in enumerate(scales):
        if scale.median is not None:
            result[..., place] = np.expm1(np.maximum(values[..., place], 0.0)) * scale.median
        elif scale.root:
            result[..., place] = np.maximum(values[..., place], 0.0) ** 2
    return result


def _typical(values: Floats) -> float:
    """The median; the mean of a column that is mostly 0."""
    median = float(np.median(values))
    return median if median > 0 else _positive(float(values.mean()))


def _positive(width: float) -> float:
    return width if width > 0 else 1.0
