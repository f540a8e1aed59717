"""What a fitted Prophet says about a moment, from its parameters alone.

    y(t) = y_scale * (trend(t) + sum of Fourier series)      Taylor & Letham 2018, equations 1, 3 and 5

This is Prophet's own prediction for linear growth and additive seasons (a test holds both side by side),
without its training history, its import and its data frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = ["ProphetCurve", "Season"]

Floats = npt.NDArray[np.float64]

_DAY = np.timedelta64(1, "D")
_EPOCH = np.datetime64(0, "ns")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Season(_Frozen):
    """A Fourier series; `weights` are of sin and cos of each order in turn."""

    name: str
    period_days: float
    weights: tuple[float, ...]


class ProphetCurve(_Frozen):
    """One target's fitted Prophet. Time runs from 0 at `start` to 1 after `span_s` seconds."""

    start: str
    span_s: float
    y_scale: float
    rate: float
    offset: float
    changepoints: tuple[float, ...]
    rate_changes: tuple[float, ...]
    seasons: tuple[Season, ...]

    def at(self, times: npt.NDArray[np.datetime64]) -> Floats:
        """Raw units at any times, in the shape of `times`."""
        t = (times - np.datetime64(self.start)) / np.timedelta64(1, "s") / self.span_s
        # The rate changes at each changepoint, and the offset so that the line stays unbroken.
        changes = np.array(self.rate_changes)
        points = np.array(self.changepoints)
        passed = np.searchsorted(points, t, side="right")
        rate = self.rate + np.concatenate([[0.0], np.cumsum(changes)])[passed]
        offset = self.offset - np.concatenate([[0.0], np.cumsum(changes * points)])[passed]
        value = rate * t + offset
        days = (times - _EPOCH) / _DAY
        for season in self.seasons:
            for order in range(len(season.weights) // 2):
                angle = 2 * np.pi * (order + 1) / season.period_days * days
                sine, cosine = season.weights[2 * order : 2 * order + 2]
                value = value + sine * np.sin(angle) + cosine * np.cos(angle)
        scaled: Floats = value * self.y_scale
        return scaled
