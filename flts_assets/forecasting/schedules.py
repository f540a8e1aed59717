"""Learning rate and momentum over the course of a training."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["learning_rate", "momentum"]

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
    return _cycle(start, highest, end, step, steps)


def momentum(schedule: str, step: int, steps: int) -> float:
    """Adam's first beta at that step: 0.9, or in one_cycle 0.95, down to 0.85 and back, as torch does."""
    if schedule == "constant":
        return 0.9
    return _cycle(0.95, 0.85, 0.95, step, steps)


def _cycle(start: float, peak: float, end: float, step: int, steps: int) -> float:
    last_of_rise = RISE * steps - 1
    if step <= last_of_rise:
        return _between(start, peak, step / last_of_rise)
    return _between(peak, end, (step - last_of_rise) / (steps - 1 - last_of_rise))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
