"""The columns of a base station's series, in the order every frame keeps."""

from __future__ import annotations

from typing import Literal, get_args

TIME_COLUMN = "time"

RawColumn = Literal[
    "down",
    "up",
    "rnti_count",
    "mcs_down",
    "mcs_down_var",
    "mcs_up",
    "mcs_up_var",
    "rb_down",
    "rb_down_var",
    "rb_up",
    "rb_up_var",
]

RAW_COLUMNS: tuple[str, ...] = get_args(RawColumn)
"""down, up: bits in a grid step; rnti_count: users seen; mcs: modulation and coding scheme index;
rb: share of resource blocks; var: variance within the step"""

CALENDAR_COLUMNS: tuple[str, ...] = (
    "min_of_day_sin",
    "min_of_day_cos",
    "day_of_week_sin",
    "day_of_week_cos",
    "day_of_year_sin",
    "day_of_year_cos",
)
