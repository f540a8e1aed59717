"""Where forecasts end: a quantity that was never below 0 is not forecast below 0.

Clients, blocks and bits cannot be negative; a net, a Prophet or a linear model does not know it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flts_assets.forecasting.split import Split
from flts_assets.recipe.columns import RawColumn
from flts_assets.recipe.model import Recipe

__all__ = ["floored_targets", "floors"]


def floored_targets(train: Split, recipe: Recipe) -> tuple[RawColumn, ...]:
    """Targets of which no train row was below 0; none where the recipe takes forecasts as they come."""
    if not recipe.floor_at_zero:
        return ()
    below = np.atleast_1d((train.measured < 0).any(axis=0))
    return tuple(
        target for target, ever in zip(recipe.window.targets, below, strict=True) if not ever
    )


def floors(targets: Sequence[str], floored: Sequence[str]) -> npt.NDArray[np.float64]:
    """The least value of each target's forecasts [T]: 0, or none."""
    return np.array([0.0 if target in floored else -np.inf for target in targets])
