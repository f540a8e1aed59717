from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.forecasting.calendar import calendar_features
from flts_assets.recipe.columns import CALENDAR_COLUMNS, CYCLES, Cycle, calendar_columns

MOMENTS = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1))


def naive(moment: datetime) -> list[float]:
    cycles = (
        (60 * moment.hour + moment.minute, 1440),
        (moment.weekday(), 7),
        (moment.timetuple().tm_yday, 365.25),
    )
    return [
        wave(2 * math.pi * position / period)
        for position, period in cycles
        for wave in (math.sin, math.cos)
    ]


@given(moments=st.lists(MOMENTS, max_size=20))
@settings(max_examples=60, deadline=None)
def test_features_equal_a_naive_loop(moments: list[datetime]) -> None:
    features = calendar_features(pd.DatetimeIndex(moments))
    expected = np.array([naive(moment) for moment in moments]).reshape(len(moments), 6)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-12)


@given(moments=st.lists(MOMENTS, min_size=6, max_size=6), cycles=st.permutations(CYCLES))
@settings(max_examples=20, deadline=None)
def test_asked_cycles_come_in_their_order_at_times_of_any_shape(
    moments: list[datetime], cycles: list[Cycle]
) -> None:
    asked = cycles[:2]
    times = pd.DatetimeIndex(moments).to_numpy().reshape(2, 3)
    columns = [CALENDAR_COLUMNS.index(name) for name in calendar_columns(asked)]
    expected = calendar_features(pd.DatetimeIndex(moments))[:, columns].reshape(2, 3, 4)
    np.testing.assert_array_equal(calendar_features(times, asked), expected)


@pytest.mark.parametrize(
    ("moment", "column", "expected"),
    [
        ("2024-01-03 00:00", "min_of_day_cos", 1),
        ("2024-01-03 06:00", "min_of_day_sin", 1),
        ("2024-01-03 12:00:59", "min_of_day_cos", -1),
        ("2024-01-01 15:00", "day_of_week_cos", 1),
        ("2024-01-07 15:00", "day_of_week_sin", math.sin(2 * math.pi * 6 / 7)),
        ("2023-01-01 15:00", "day_of_year_sin", math.sin(2 * math.pi / 365.25)),
        ("2024-12-31 15:00", "day_of_year_sin", math.sin(2 * math.pi * 366 / 365.25)),
    ],
)
def test_known_moments_stand_where_they_should_in_their_cycles(
    moment: str, column: str, expected: float
) -> None:
    (features,) = calendar_features(pd.DatetimeIndex([moment]))
    assert features[CALENDAR_COLUMNS.index(column)] == pytest.approx(expected, abs=1e-12)
