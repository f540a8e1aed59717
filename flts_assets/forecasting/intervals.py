"""Conformal prediction intervals, calibrated on validation windows and kept honest by recent errors.

An error is counted on the square-root scale, in units of how restless the target was in its window:

    s = |sqrt(y) - sqrt(y_hat)| / (V + 0.5 m)     V = mean |sqrt(y_t) - sqrt(y_t-1)| over the window
                                                  m = median of V over the train rows

so a band is wide where traffic is high or restless and narrow at night (locally weighted split conformal
prediction: Lei et al. 2018, "Distribution-free predictive inference for regression", section 5.2).
Of the validation scores their quantiles at i / (K + 1) are kept, i = 1..K. A band takes the level's
quantile among these K knots and the scores of up to 100 forecasts whose outcome is known by then: without
any it is the split conformal one, with them it follows a series whose errors change from day to day.
benchmarks/RESULTS.md tells what was compared with this.

    lower = max(0, sqrt(y_hat) - q (V + 0.5 m)) ** 2         upper = (sqrt(y_hat) + q (V + 0.5 m)) ** 2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = ["RECENT", "Band", "Intervals", "combined", "floors_of", "known_scores", "scores"]

Floats = npt.NDArray[np.float64]

RECENT: Final = 100
"""so many known outcomes are looked back on"""
_LEAST_KNOTS: Final = 19
_AT_ONCE: Final = 10_000
_ROUNDING: Final = 1e-9
"""0.9 * 10 is a little more than 9 to a computer"""


@dataclass(frozen=True)
class Band:
    """Lower and upper ends in raw units, in the shape of the forecasts."""

    lower: Floats
    upper: Floats

    def coverage(self, actuals: Floats) -> float:
        """The share of the measured values that lie inside; NaN if nothing was measured."""
        measured = np.isfinite(actuals)
        inside = (actuals >= self.lower) & (actuals <= self.upper)
        return float(inside[measured].mean()) if measured.any() else math.nan


class Intervals(BaseModel):
    """What bands are made of: L leads, T targets, K knots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[float, ...]
    floors: tuple[float, ...]
    """0.5 m of each target"""
    knots: tuple[tuple[tuple[float, ...], ...], ...]
    """[L][T][K] quantiles of s; leads after the last are as wide as it"""

    @classmethod
    def calibrated(
        cls, levels: Sequence[float], floors: Floats, leads: Sequence[Floats]
    ) -> Intervals:
        """From scores [n, T] of each lead; NaN is left out."""
        return cls(levels=tuple(levels), floors=tuple(floors.tolist()), knots=()).with_leads(leads)

    def with_leads(self, leads: Sequence[Floats]) -> Intervals:
        """The same, with later leads calibrated on their scores [n, T]."""
        # The highest level asks for its knots.
        highest = max(self.levels, default=0.0)
        count = max(_LEAST_KNOTS, math.ceil(1 / (1 - highest) - _ROUNDING) - 1)
        added = tuple(tuple(tuple(_knots(one, count).tolist()) for one in lead.T) for lead in leads)
        return self.model_copy(update={"knots": self.knots + added})

    def scores(self, windows: Floats, actuals: Floats, forecasts: Floats) -> Floats:
        """s of forecasts [M, H, T] after windows of the targets [M, W, T], raw units; NaN: unmeasured."""
        return scores(windows, actuals, forecasts, np.array(self.floors))

    def bands(
        self, windows: Floats, forecasts: Floats, recent: Floats | None = None
    ) -> dict[float, Band]:
        """Level -> band around forecasts [M, L, T] after windows of the targets [M, W, T], raw units.

        `recent`: [M, H, R, T] scores that were known when the forecasts were made, NaN for none; leads
        after the first H are without.
        """
        leads = np.minimum(np.arange(forecasts.shape[1]), len(self.knots) - 1)
        # [L, K, T]
        knots = np.moveaxis(np.array(self.knots)[leads], -1, 1)
        near = 0 if recent is None else min(recent.shape[1], forecasts.shape[1])
        factors = self._factors(knots[None, near:])
        factors = np.repeat(factors, len(forecasts), axis=1)
        if recent is not None:
            pool = _pooled(knots[:near], recent[:, :near])
            factors = np.concatenate([self._factors(pool), factors], axis=2)
        centre = _root(forecasts)
        unit = (_restlessness(windows) + np.array(self.floors))[:, None]
        bands = {}
        for level, factor in zip(self.levels, factors, strict=True):
            reach = factor * unit
            bands[level] = Band(np.maximum(centre - reach, 0.0) ** 2, (centre + reach) ** 2)
        return bands

    def _factors(self, pool: Floats) -> Floats:
        """The quantile of scores [M, L, R, T] for each level, NaN left out: [levels, M, L, T]."""
        ordered = np.sort(pool, axis=2)
        count = np.isfinite(ordered).sum(axis=2)
        return np.array(
            [
                np.take_along_axis(ordered, _rank(count, level)[:, :, None] - 1, axis=2)[:, :, 0]
                for level in self.levels
            ]
        ).reshape(len(self.levels), *count.shape)


def _pooled(knots: Floats, recent: Floats) -> Floats:
    """Knots [L, K, T] beside the recent scores of each window [M, L, R, T]: [M, L, K + R, T]."""
    return np.concatenate([np.broadcast_to(knots, (len(recent), *knots.shape)), recent], axis=2)


def floors_of(train_windows: Floats) -> Floats:
    """0.5 m of each target: [T] from windows [M, W, T]; never 0."""
    restlessness = _restlessness(train_windows)
    middle = np.median(restlessness, axis=0)
    middle = np.where(middle > 0, middle, restlessness.mean(axis=0))
    return 0.5 * np.where(middle > 0, middle, 1.0)


def scores(windows: Floats, actuals: Floats, forecasts: Floats, floors: Floats) -> Floats:
    """s as above: [M, H, T], NaN where nothing was measured."""
    unit = (_restlessness(windows) + floors)[:, None]
    return np.abs(_root(actuals) - _root(forecasts)) / unit


def known_scores(scores: Floats, first: int = 0, last: int | None = None) -> Floats:
    """What was known at the cutoffs of the windows from `first` to before `last`: [m, H, RECENT, T].

    `scores` [M, H, T] are of consecutive windows. What window i forecast for step h is known from
    window i + h on. NaN before the first.
    """
    windows, horizon, targets = scores.shape
    last = windows if last is None else last
    known = np.empty((last - first, horizon, RECENT, targets))
    for lead in range(horizon):
        # The newest score that window `first` knows is that of window first - lead - 1.
        begin = first - lead - RECENT
        newest = max(last - lead - 1, 0)
        part = scores[max(begin, 0) : newest, lead]
        padding = np.full((last - first - 1 + RECENT - len(part), targets), np.nan)
        view = np.lib.stride_tricks.sliding_window_view(
            np.concatenate([padding, part]), RECENT, axis=0
        )
        known[:, lead] = view.transpose(0, 2, 1)
    return known


def combined(own: Intervals, members: Sequence[tuple[float, Intervals]]) -> Intervals:
    """An ensemble's own intervals, with later leads as wide as its members' (weight, intervals) mean."""
    direct = len(own.knots)
    later = [
        np.sum([weight * np.array(one.knots[lead]) for weight, one in members], axis=0)
        for lead in range(direct, min(len(one.knots) for _, one in members))
    ]
    added = tuple(tuple(tuple(target) for target in lead.tolist()) for lead in later)
    return own.model_copy(update={"knots": own.knots + added})


def _knots(scores: Floats, count: int) -> Floats:
    """The quantiles at i / (count + 1), i = 1..count, with the finite-sample correction."""
    ordered = np.sort(scores[np.isfinite(scores)])
    if not len(ordered):
        return np.zeros(count)
    shares = np.arange(1, count + 1) / (count + 1)
    places: Floats = ordered[
        np.array([_rank(np.array(len(ordered)), share) - 1 for share in shares])
    ]
    return places


def _rank(count: npt.NDArray[np.intp], share: float) -> npt.NDArray[np.intp]:
    """Which of so many ordered scores, from 1, the quantile at `share` is: ceil((n + 1) share)."""
    rank = np.ceil((count + 1) * share - _ROUNDING).astype(np.intp)
    within: npt.NDArray[np.intp] = np.minimum(np.maximum(rank, 1), count)
    return within


def _root(values: Floats) -> Floats:
    root: Floats = np.sqrt(np.maximum(values, 0.0))
    return root


def _restlessness(windows: Floats) -> Floats:
    """V: [M, W, T] -> [M, T]; 0 of a single row."""
    if windows.shape[1] < 2:
        return np.zeros((windows.shape[0], windows.shape[2]))
    # `windows` is a view that overlaps itself: a part at a time is laid out.
    parts = [
        np.abs(np.diff(_root(windows[start : start + _AT_ONCE]), axis=1)).mean(axis=1)
        for start in range(0, len(windows), _AT_ONCE)
    ]
    return np.concatenate(parts)
