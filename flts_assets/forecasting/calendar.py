"""Calendar features: where a moment stands in its day, week and year."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flts_assets.recipe.columns import CYCLES, Cycle

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["calendar_features"]


def calendar_features(
    times: npt.NDArray[np.datetime64] | pd.DatetimeIndex, cycles: Sequence[Cycle] = CYCLES
) -> npt.NDArray[np.float64]:
    """Sine and cosine of each cycle at times [...]: [..., 2 C] in the order of `calendar_columns`.

    minute of day (60 h + min, period 1440), day of week (Monday 0, period 7), day of year
    (January 1st is 1, period 365.25).
    """
    moments = np.asarray(times, dtype="datetime64[m]")
    days = moments.astype("datetime64[D]")
    features = np.empty((*moments.shape, 2 * len(cycles)))
    for place, cycle in enumerate(cycles):
        if cycle == "min_of_day":
            position, period = (moments - days).astype(np.int64), 1440.0
        elif cycle == "day_of_week":
            # 1970 began on a Thursday.
            position, period = (days.astype(np.int64) + 3) % 7, 7.0
        else:
            position = (days - days.astype("datetime64[Y]")).astype(np.int64) + 1
            period = 365.25
        angle = 2 * np.pi * position / period
        features[..., 2 * place] = np.sin(angle)
        features[..., 2 * place + 1] = np.cos(angle)
    return features
