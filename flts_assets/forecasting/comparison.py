"""Is one model better than another, or is it the luck of these test rows?

Both are scored on the same windows, drawn again and again in blocks of consecutive windows: errors of
neighbours resemble each other, and a block keeps that (circular block bootstrap: Politis & Romano 1992;
paired, as in Diebold & Mariano 1995, because both models face the same draw).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.forecasting.metrics import measures_of, sums_of
from flts_assets.recipe.model import Recipe

__all__ = ["Difference", "Drawn", "Errors", "difference", "drawn"]

Floats = npt.NDArray[np.float64]

DRAWS = 2000
_DRAWS_AT_ONCE = 200


class Difference(BaseModel):
    """How much lower one model's measure is than another's, and its percentile bootstrap interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """The whole interval says so."""
        return self.low > 0

    @property
    def significant(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.5f} [{self.low:+.5f}, {self.high:+.5f}]"


@dataclass(frozen=True)
class Errors:
    """Forecasts [M, H, T] of one model beside what was measured, in raw units."""

    actuals: Floats
    forecasts: Floats


@dataclass(frozen=True)
class Drawn:
    """`recipe.evaluation.rank_by` of one model on all windows, and on each draw of them [draws]."""

    value: float
    draws: Floats

    def minus(self, other: Drawn, confidence: float) -> Difference | None:
        """None where the measure is not defined (the nrmse of a target whose mean is 0)."""
        # A draw may hold no measured value.
        defined = np.isfinite(self.draws) & np.isfinite(other.draws)
        value = self.value - other.value
        if not (np.isfinite(value) and defined.any()):
            return None
        tail = (1 - confidence) / 2
        apart = self.draws[defined] - other.draws[defined]
        low, high = np.quantile(apart, [tail, 1 - tail])
        return Difference(value=value, low=float(low), high=float(high))


def drawn(errors: Errors, targets: Sequence[str], ranges: Sequence[float], recipe: Recipe) -> Drawn:
    """Measured on windows in time order. Every model of a recipe meets the same draws."""
    averaged = [
        place
        for place, target in enumerate(targets)
        if target in (recipe.evaluation.targets or targets)
    ]
    unit = np.array(ranges)[averaged]
    sums = sums_of(errors.actuals[..., averaged], errors.forecasts[..., averaged])
    measure = recipe.evaluation.rank_by
    with np.errstate(invalid="ignore"):
        return Drawn(
            value=float(measures_of(sums.sum(axis=0), unit)[measure]),
            draws=measures_of(_sums_of_draws(sums, recipe), unit)[measure],
        )


def difference(
    worse: Errors,
    better: Errors,
    targets: Sequence[str],
    ranges: Sequence[float],
    recipe: Recipe,
) -> Difference | None:
    """The measure of `worse` minus that of `better`, on the same windows."""
    pair = [drawn(errors, targets, ranges, recipe) for errors in (worse, better)]
    return pair[0].minus(pair[1], recipe.promotion.confidence)


def _sums_of_draws(sums: Floats, recipe: Recipe) -> Floats:
    """Sums over each draw of windows: [M, T, S] -> [draws, T, S]."""
    windows = len(sums)
    block = recipe.promotion.block or max(recipe.window.horizon, round(windows**0.5))
    block = min(block, windows)
    around = np.concatenate([sums, sums[: block - 1]])
    before = np.concatenate([np.zeros_like(sums[:1]), np.cumsum(around, axis=0)])
    of_block = before[block:] - before[:-block]
    draw = np.random.default_rng(recipe.seed)
    blocks = -(-windows // block)
    parts = [
        of_block[draw.integers(windows, size=(_DRAWS_AT_ONCE, blocks))].sum(axis=1)
        for _ in range(DRAWS // _DRAWS_AT_ONCE)
    ]
    return np.concatenate(parts)
