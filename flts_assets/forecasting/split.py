"""The rows of one split, and the windows over them.

    rows      0 1 2 3 4 5 6 7 8 9          window size W = 4, horizon H = 2
    window 0  ■ ■ ■ ■ □ □                  ■ what the model sees, □ what it forecasts
    window 1    ■ ■ ■ ■ □ □                cutoff of window i: row i + W - 1
      ⋮
    window M-1        ■ ■ ■ ■ □ □          M = N - W - H + 1

Windows are views: a split of a million rows is held once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flts_assets.errors import TrainingError
from flts_assets.recipe.model import Recurrent, Window

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FitAndValidation",
    "Split",
    "first_validation_window",
    "least_windows",
    "validation_windows",
    "window_count",
]

Floats = npt.NDArray[np.float64]


def window_count(rows: int, window: Window) -> int:
    """How many windows fit over so many rows (0 if none)."""
    return max(0, rows - window.size - window.horizon + 1)


def first_validation_window(windows: int, share: float) -> int:
    """The chronological split of train windows: fit before this one, validate from it on.

    At least one window stands on either side of it, given two windows.
    """
    return min(max(round(windows * (1 - share)), 1), windows - 1)


def validation_windows(train: Split, settings: Recurrent) -> Split:
    """The last part of the train split: what every kind of model is validated on."""
    parts = FitAndValidation.of(train.windows, train.window, settings)
    return train.windows_in(slice(parts.validation_start, None))


@dataclass(frozen=True)
class FitAndValidation:
    """The chronological split of train windows: fit before `fit_end`, validate from
    `validation_start` on. No row is forecast on both sides.

        overlap        last fit window  ■ ■ ■ ■ □
                       first validation   ■ ■ ■ ■ □
        no overlap     last fit window  ■ ■ ■ ■ □
                       first validation           ■ ■ ■ ■ □
    """

    fit_end: int
    validation_start: int

    @classmethod
    def of(cls, windows: int, window: Window, settings: Recurrent) -> FitAndValidation:
        """Raises TrainingError for fewer than `least_windows`."""
        if settings.validation_overlap:
            first = first_validation_window(windows, settings.validation_share)
            # The last rows that fit windows forecast come before those of validation windows.
            parts = cls(first - window.horizon + 1, first)
        else:
            before = window.size + window.horizon - 1
            rows = int((windows + before) * (1 - settings.validation_share))
            start = min(max(rows, before + 1), windows - 1)
            parts = cls(start - before, start)
        if parts.fit_end < 1 or not 0 < parts.validation_start < windows:
            raise TrainingError(
                "too few train windows to fit on some and validate on others",
                received=windows,
                allowed=f"at least {least_windows(window, settings)}",
                remedy="give more rows, or shorten the window or the horizon",
            )
        return parts


def least_windows(window: Window, settings: Recurrent) -> int:
    """The fewest train windows of which some fit, others validate and none forecast the same row."""
    apart = window.horizon if settings.validation_overlap else window.size + window.horizon
    return next(
        windows
        for windows in count(apart + 1)
        if not settings.validation_overlap
        or first_validation_window(windows, settings.validation_share) >= window.horizon
    )


@dataclass(frozen=True)
class Split:
    """Rows in time order. N rows, F features, T targets."""

    times: pd.DatetimeIndex
    measured: Floats
    """[N, T] targets in raw units, NaN where the cell was empty"""
    features: npt.NDArray[np.float32]
    """[N, F] scaled"""
    window: Window

    def __len__(self) -> int:
        return len(self.times)

    @property
    def windows(self) -> int:
        """How many windows there are, M."""
        return window_count(len(self), self.window)

    def windows_in(self, places: slice) -> Split:
        """The split that holds just these windows (a slice without a step)."""
        first, last, _ = places.indices(self.windows)
        rows = slice(first, last + self.window.size + self.window.horizon - 1)
        return Split(self.times[rows], self.measured[rows], self.features[rows], self.window)

    def inputs(self) -> npt.NDArray[np.float32]:
        """What a model sees: a view [M, W, F]."""
        view: npt.NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(
            self.features, self.window.size, axis=0
        )[: self.windows].transpose(0, 2, 1)
        return view

    def target_windows(self) -> Floats:
        """What was last known of the targets at each row of each window, raw units: a view [M, W, T]."""
        view = np.lib.stride_tricks.sliding_window_view(self.known(), self.window.size, axis=0)
        windows: Floats = view[: self.windows].transpose(0, 2, 1)
        return windows

    def ahead(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The H rows after each cutoff, of any array of rows [N, K]: a view [M, H, K]."""
        ahead: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(
            rows[self.window.size :], self.window.horizon, axis=0
        ).transpose(0, 2, 1)
        return ahead

    def actuals(self) -> Floats:
        """What was measured after each cutoff, raw units [M, H, T]; NaN where nothing was."""
        measured: Floats = self.ahead(self.measured)
        return measured

    def target_times(self) -> npt.NDArray[np.datetime64]:
        """When: [M, H]."""
        times = self.times.to_numpy()[self.window.size :]
        return np.lib.stride_tricks.sliding_window_view(times, self.window.horizon)

    def known(self) -> Floats:
        """[N, T] the last measured value at each row, raw units; 0 before the first measurement."""
        rows = np.arange(len(self))[:, None]
        last = np.maximum.accumulate(np.where(np.isfinite(self.measured), rows, 0), axis=0)
        return np.nan_to_num(np.take_along_axis(self.measured, last, axis=0), nan=0.0)
