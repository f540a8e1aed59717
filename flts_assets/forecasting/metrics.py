"""Errors of point forecasts, on one scale for every model and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.errors import TrainingError

__all__ = ["Scores", "score"]

Floats = npt.NDArray[np.float64]

SCORE_WEIGHTS: Final[Mapping[str, float]] = {"rmse": 0.5, "mae": 0.3, "mse": 0.2}


class Scores(BaseModel):
    """Lower is better. rmse, mae, mse: mean over the targets, in units of each train range.

    `score` is their weighted sum, `nrmse` the mean over the targets of RMSE / mean(y), and `raw_rmse`
    each target's RMSE in its own unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rmse: float
    mae: float
    mse: float
    score: float
    nrmse: float | None
    """None where a target's mean is 0"""
    raw_rmse: dict[str, float]
    forecasts: int
    """how many single values were compared"""

    def measures(self) -> dict[str, float]:
        """score, rmse, mae, mse and, where it is defined, nrmse."""
        named = {"score": self.score, "rmse": self.rmse, "mae": self.mae, "mse": self.mse}
        return named if self.nrmse is None else {**named, "nrmse": self.nrmse}

    def by(self, measure: str) -> float:
        """The measure to rank by; infinite where it is not defined."""
        return self.measures().get(measure, float("inf"))


def score(
    actuals: Floats,
    forecasts: Floats,
    targets: Sequence[str],
    ranges: Sequence[float],
    averaged: Sequence[str] | None = None,
) -> Scores:
    """Compare forecasts with what was measured, both [M, H, T] in raw units.

    Where nothing was measured (NaN) nothing is compared. `ranges` are max - min of each target's
    train rows; `averaged` are the targets that the means are taken over (None: all).
    RMSE = sqrt(mean e^2), MAE = mean |e|, MSE = mean e^2, with e = (y_hat - y) / range;
    NRMSE as in Perifanis et al. 2022 (arXiv 2211.15220).

    Raises TrainingError: a forecast that is not finite, or a target without any measurement.
    """
    if not np.isfinite(forecasts).all():
        raise TrainingError(
            "a model's forecasts are not all finite",
            received=f"{int((~np.isfinite(forecasts)).sum())} of {forecasts.size} values",
            remedy="lower the learning rate, or look at the training data for extreme values",
        )
    each = {
        target: _one_target(actuals[..., place], forecasts[..., place], target, ranges[place])
        for place, target in enumerate(targets)
    }
    rmse, mae, mse, nrmse = (
        float(np.mean([each[target][name] for target in averaged or targets])) for name in _NAMES
    )
    return Scores(
        rmse=rmse,
        mae=mae,
        mse=mse,
        score=sum(
            weight * value
            for weight, value in zip(SCORE_WEIGHTS.values(), (rmse, mae, mse), strict=True)
        ),
        nrmse=nrmse if np.isfinite(nrmse) else None,
        raw_rmse={target: part["raw_rmse"] for target, part in each.items()},
        forecasts=int(np.isfinite(actuals).sum()),
    )


_NAMES: Final = ("rmse", "mae", "mse", "nrmse")


def _one_target(actuals: Floats, forecasts: Floats, target: str, unit: float) -> dict[str, float]:
    measured = np.isfinite(actuals)
    if not measured.any():
        raise TrainingError(
            f"target {target!r} has no measured value to compare with",
            remedy="sample other rows, or choose another target",
        )
    error = forecasts[measured] - actuals[measured]
    raw_rmse = float(np.sqrt(np.mean(error**2)))
    mean = float(np.mean(actuals[measured]))
    return {
        "rmse": raw_rmse / unit,
        "mae": float(np.mean(np.abs(error))) / unit,
        "mse": float(np.mean(error**2)) / unit**2,
        "nrmse": raw_rmse / mean if mean else float("inf"),
        "raw_rmse": raw_rmse,
    }
