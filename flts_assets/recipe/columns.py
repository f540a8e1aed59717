"""The columns of a base station's series, in the order every frame keeps."""

from __future__ import annotations

from collections.abc import Sequence
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

UNITS: dict[str, str] = {
    "down": "bits per step",
    "up": "bits per step",
    "rnti_count": "users",
    "mcs_down": "MCS index",
    "mcs_down_var": "MCS index²",
    "mcs_up": "MCS index",
    "mcs_up_var": "MCS index²",
    "rb_down": "share of blocks",
    "rb_down_var": "share of blocks²",
    "rb_up": "share of blocks",
    "rb_up_var": "share of blocks²",
}
"""column -> the unit of its values"""

Cycle = Literal["min_of_day", "day_of_week", "day_of_year"]

CYCLES: tuple[Cycle, ...] = get_args(Cycle)


def calendar_columns(cycles: Sequence[Cycle]) -> tuple[str, ...]:
    """Two columns a cycle: its sine and cosine."""
    return tuple(f"{cycle}_{part}" for cycle in cycles for part in ("sin", "cos"))


CALENDAR_COLUMNS: tuple[str, ...] = calendar_columns(CYCLES)
