"""Errors of point forecasts, on one scale for every model and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from flts_assets.errors import TrainingError

__all__ = ["Scores", "measures_of", "score", "sums_of"]

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
    sums = sums_of(actuals, forecasts).sum(axis=0)
    unmeasured = [target for target, count in zip(targets, sums[:, 0], strict=True) if not count]
    if unmeasured:
        raise TrainingError(
            f"target {unmeasured[0]!r} has no measured value to compare with",
            remedy="sample other rows, or choose another target",
        )
    places = [targets.index(target) for target in averaged or targets]
    measures = measures_of(sums[places], np.array(ranges)[places])
    nrmse = float(measures.pop("nrmse"))
    raw_rmse = np.sqrt(sums[:, 3] / sums[:, 0])
    return Scores(
        **{name: float(value) for name, value in measures.items()},
        nrmse=nrmse if np.isfinite(nrmse) else None,
        raw_rmse=dict(zip(targets, raw_rmse.tolist(), strict=True)),
        forecasts=int(sums[:, 0].sum()),
    )


def sums_of(actuals: Floats, forecasts: Floats) -> Floats:
    """What all measures are made of, by window: [M, H, T] twice -> [M, T, 4].

    Number of measured values, and over them the sums of y, |e| and e^2.
    """
    measured = np.isfinite(actuals)
    y = np.where(measured, actuals, 0.0)
    e = np.where(measured, forecasts - y, 0.0)
    sums: Floats = np.stack([measured, y, np.abs(e), e**2], axis=-1).sum(axis=1)
    return sums


def measures_of(sums: Floats, ranges: Floats) -> dict[str, Floats]:
    """score, rmse, mae, mse, nrmse, each the mean over T targets, of sums [..., T, 4] over windows.

    nrmse is infinite where a target's mean is 0.
    """
    count, y, absolute, squared = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(squared / count)
        nrmse = np.where(y == 0, np.inf, root * count / y)
        means = {
            "rmse": (root / ranges).mean(axis=-1),
            "mae": (absolute / count / ranges).mean(axis=-1),
            "mse": (squared / count / ranges**2).mean(axis=-1),
        }
    score = np.sum([weight * means[name] for name, weight in SCORE_WEIGHTS.items()], axis=0)
    return {**means, "score": score, "nrmse": nrmse.mean(axis=-1)}
