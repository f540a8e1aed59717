"""What gradient-boosted trees see of a window, laid out for splits along one feature at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flts_assets.recipe.columns import RAW_COLUMNS

__all__ = ["tree_features"]

Floats = npt.NDArray[np.float32]

_NEAR_ROWS = 5
_OTHER_ROWS = 3


def tree_features(windows: Floats, target_place: int) -> Floats:
    """What the trees of one target see of scaled windows [M, W, F]: [M, K].

    The target's last value, its earlier ones and its means relative to that, its deviations; the other
    raw columns in the last three rows; lagged and calendar columns in the last row.
    """
    target = windows[..., target_place]
    last = target[:, -1:]
    near = target[:, -_NEAR_ROWS:]
    others = [place for place in range(len(RAW_COLUMNS)) if place != target_place]
    of_target = [
        last,
        target[:, :-1] - last,
        near.mean(axis=1, keepdims=True) - last,
        target.mean(axis=1, keepdims=True) - last,
        near.std(axis=1, keepdims=True),
        target.std(axis=1, keepdims=True),
    ]
    of_others = windows[:, -_OTHER_ROWS:, others].reshape(len(windows), -1)
    return np.concatenate([*of_target, of_others, windows[:, -1, len(RAW_COLUMNS) :]], axis=1)
