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

__all__ = ["Difference", "Errors", "difference"]

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


def difference(
    worse: Errors,
    better: Errors,
    targets: Sequence[str],
    ranges: Sequence[float],
    recipe: Recipe,
) -> Difference | None:
    """Of `recipe.evaluation.rank_by`: the measure of `worse` minus that of `better`.

    Both are of the same windows in time order. The draws depend on the recipe's seed alone.
    None where the measure is not defined (the nrmse of a target whose mean is 0).
    """
    averaged = [
        place
        for place, target in enumerate(targets)
        if target in (recipe.evaluation.targets or targets)
    ]
    unit = np.array(ranges)[averaged]
    pair = [
        sums_of(errors.actuals[..., averaged], errors.forecasts[..., averaged])
        for errors in (worse, better)
    ]
    drawn = _drawn(np.stack(pair), recipe)
    measure = recipe.evaluation.rank_by
    of_all = measures_of(np.stack(pair).sum(axis=1), unit)[measure]
    first, second = measures_of(drawn, unit)[measure]
    # A draw may hold no measured value.
    defined = np.isfinite(first) & np.isfinite(second)
    if not (np.isfinite(of_all).all() and defined.any()):
        return None
    tail = (1 - recipe.promotion.confidence) / 2
    low, high = np.quantile(first[defined] - second[defined], [tail, 1 - tail])
    return Difference(value=float(of_all[0] - of_all[1]), low=float(low), high=float(high))


def _drawn(sums: Floats, recipe: Recipe) -> Floats:
    """Sums over each draw of windows: [2, M, T, S] -> [2, draws, T, S]."""
    windows = sums.shape[1]
    block = recipe.promotion.block or max(recipe.window.horizon, round(windows ** (1 / 3)))
    block = min(block, windows)
    around = np.concatenate([sums, sums[:, : block - 1]], axis=1)
    before = np.concatenate([np.zeros_like(sums[:, :1]), np.cumsum(around, axis=1)], axis=1)
    of_block = before[:, block:] - before[:, :-block]
    draw = np.random.default_rng(recipe.seed)
    parts = [
        of_block[:, draw.integers(windows, size=(_DRAWS_AT_ONCE, -(-windows // block)))].sum(axis=2)
        for _ in range(DRAWS // _DRAWS_AT_ONCE)
    ]
    return np.concatenate(parts, axis=1)
