"""Learning rates over the course of a training."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["learning_rate"]

RISE: Final = 0.3
START_DIVISOR: Final = 25.0
END_DIVISOR: Final = 1e4


def learning_rate(schedule: str, highest: float, step: int, steps: int) -> float:
    """The rate of step 0 <= `step` < `steps`.

    one_cycle (Smith & Topin 2018, "Super-convergence"; shape and constants of torch's OneCycleLR):
    half a cosine from highest / 25 up to `highest` over the first 30 % of the steps, half a cosine
    down to highest / 250,000 over the rest.
    """
    if schedule == "constant":
        return highest
    start, end = highest / START_DIVISOR, highest / START_DIVISOR / END_DIVISOR
    peak = RISE * steps - 1
    if step <= peak:
        return _between(start, highest, step / peak)
    return _between(highest, end, (step - peak) / (steps - 1 - peak))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
