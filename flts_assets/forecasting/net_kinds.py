"""What a net sees and says: the scales of its columns, and what its output counts from."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, TypeAdapter

from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.forecasting.split import Split
from flts_assets.recipe.model import Recipe

__all__ = ["NET_KINDS", "NetKind", "net_kinds"]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]


class NetKind(BaseModel):
    """One of the variants that a model's nets come in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predict: Literal["level", "change"]
    change_decay: float
    preprocessing: FittedPreprocessing

    def features(self, split: Split, scaled_by: FittedPreprocessing) -> Floats32:
        """The split's columns [N, F] on this kind's scales."""
        if self.preprocessing.scales == scaled_by.scales:
            return split.features
        return self.preprocessing.rescaled_like(scaled_by, split.features)

    def base(self, windows: Floats32) -> Floats32:
        """What an output is counted from: [M, W, F] -> [M, 1, T], scaled; 0 for a level.

        A change counts from the mean of the window's rows with weights change_decay ** age.
        """
        targets = windows[..., self.preprocessing.target_places]
        if self.predict == "level":
            return np.zeros_like(targets[:, :1])
        weights = np.float64(self.change_decay) ** np.arange(windows.shape[1])[::-1]
        weights = (weights / weights.sum()).astype(np.float32)
        mean: Floats32 = np.einsum("mwt,w->mt", targets, weights)[:, None]
        return mean

    def raw(self, outputs: Floats32, windows: Floats32) -> Floats:
        """Raw units [M, H, T] of a net's outputs for scaled windows [M, W, F]."""
        return self.preprocessing.inverse_targets(outputs + self.base(windows))


NET_KINDS: TypeAdapter[tuple[NetKind, ...]] = TypeAdapter(tuple[NetKind, ...])


def net_kinds(recipe: Recipe, train: Split, fitted: FittedPreprocessing) -> tuple[NetKind, ...]:
    """The kinds the recipe asks for; scales of their own are fitted on the train rows."""
    return tuple(
        NetKind(
            predict=kind.predict,
            change_decay=kind.change_decay,
            preprocessing=fitted
            if kind.scaling in (None, recipe.scaling.method)
            else fitted.with_scaling(kind.scaling, train.features, recipe.scaling.fit_share),
        )
        for kind in recipe.recurrent.kinds
    )
