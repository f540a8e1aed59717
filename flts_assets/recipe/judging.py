"""How a recipe's forecasts are judged: intervals, backtest, leaderboard, promotion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from flts_assets.recipe.section import Section, Share, Targets

__all__ = ["Backtest", "Evaluation", "Intervals", "Promotion"]


class Intervals(Section):
    """Conformal prediction intervals, calibrated on validation residuals."""

    levels: tuple[Annotated[float, Field(gt=0, le=0.999)], ...] = (0.9,)
    """the shares of future values that the bands shall cover"""

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(levels)))


class Backtest(Section):
    """Rolling origins on the train rows: an expanding window of rows to fit on, the next to forecast."""

    cutoffs: int = Field(default=0, ge=0)
    """0: no backtest"""
    step: int = Field(default=720, ge=1)
    """rows from one cutoff to the next; the last one stands so many rows before the end"""
    refit: bool = True
    """fit anew at every cutoff; else only at the first"""

    @model_validator(mode="after")
    def _nothing_to_step(self) -> Self:
        """Steps of no backtest are no other request."""
        if not self.cutoffs:
            object.__setattr__(self, "step", 720)
            object.__setattr__(self, "refit", True)
        return self


class Evaluation(Section):
    """How the leaderboard scores and ranks."""

    rank_by: Literal["score", "rmse", "mae", "mse", "nrmse"] = "score"
    """score = 0.5 RMSE + 0.3 MAE + 0.2 MSE, in units of each target's train range"""
    rank_on: Literal["test", "backtest"] = "test"
    targets: Targets | None = None
    """the targets that are averaged over; None: all"""


class Promotion(Section):
    """What a winner must show before the pointer moves."""

    must_beat_persistence: bool = False
    """refuse a winner whose interval against persistence does not lie above 0"""
    confidence: Share = 0.95
    """of the bootstrap intervals of differences between two models"""
    block: int | None = Field(default=None, ge=1)
    """windows that are drawn together; None: the square root of their number, the horizon at least"""
    tie: Literal["newest_start", "rank"] = "newest_start"
    """who wins among models without a significant difference from the first"""
