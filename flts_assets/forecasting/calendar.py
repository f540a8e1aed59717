"""Calendar features: where a moment stands in its day, week and year."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from flts_assets.recipe.columns import CALENDAR_COLUMNS

__all__ = ["calendar_features"]


def calendar_features(times: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
    """Sine and cosine of three cycles, [N, 6] in the order of CALENDAR_COLUMNS.

    minute of day (60 h + min, period 1440), day of week (Monday 0, period 7), day of year
    (January 1st is 1, period 365.25).
    """
    cycles = (
        (times.hour * 60 + times.minute, 1440.0),
        (times.dayofweek, 7.0),
        (times.dayofyear, 365.25),
    )
    features = np.empty((len(times), len(CALENDAR_COLUMNS)))
    for place, (position, period) in enumerate(cycles):
        angle = 2 * np.pi * position.to_numpy(dtype=np.float64) / period
        features[:, 2 * place] = np.sin(angle)
        features[:, 2 * place + 1] = np.cos(angle)
    return features
