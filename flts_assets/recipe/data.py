"""Which rows a recipe takes, and what becomes of them before a model sees them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from typing_extensions import Self

from flts_assets.recipe.columns import CYCLES, Cycle
from flts_assets.recipe.section import ScalingMethod, Section

__all__ = ["Data", "Extra", "HandleNans", "Lags", "Outliers", "Scaling", "TimeFeatures"]


def _csv_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._=+-]{0,195}\.csv", name):
        raise ValueError("must be the name of a CSV in the dataset bucket, such as PobleSec.csv")
    return name


def _in_cycle_order(cycles: tuple[Cycle, ...]) -> tuple[Cycle, ...]:
    return tuple(cycle for cycle in CYCLES if cycle in cycles)


class Data(Section):
    """Which files, and how many of their rows."""

    train_file: str
    test_file: str
    sample_strategy: Literal["head", "tail", "random"] = "head"
    """first rows, last rows, or rows drawn without replacement and kept in time order"""
    sample_train_rows: int = Field(default=0, ge=0)
    """0 keeps all rows"""
    sample_test_rows: int = Field(default=0, ge=0)
    sample_seed: int = Field(default=0, ge=0)
    """only `random` draws from it"""

    _check_names = field_validator("train_file", "test_file")(_csv_name)

    @model_validator(mode="after")
    def _only_random_draws(self) -> Self:
        """A seed that nobody draws from is no other request."""
        if self.sample_strategy != "random":
            object.__setattr__(self, "sample_seed", 0)
        return self

    @model_validator(mode="after")
    def _files_differ(self) -> Self:
        if self.train_file == self.test_file:
            raise ValueError(
                f"train_file and test_file are both {self.train_file!r}: a model scored on its"
                " training rows says nothing"
            )
        return self


class HandleNans(Section):
    """What becomes of empty cells; everything is fitted on train rows."""

    enabled: bool = True
    """off: an empty cell is an error"""
    threshold: float = Field(default=0.33, ge=0, le=1)
    """a column with a larger share of empty train cells is an error"""
    drop_rows: bool = False
    """drop rows with an empty cell instead of filling it"""
    fill: Literal["knn", "zero"] = "knn"
    knn_neighbors: int = Field(default=2, ge=1)

    @property
    def drops_rows(self) -> bool:
        return self.enabled and self.drop_rows


class Outliers(Section):
    """Clip to [Q1 - factor IQR, Q3 + factor IQR] of the train rows. Scores use unclipped values."""

    enabled: bool = False
    method: Literal["iqr"] = "iqr"
    factor: float = Field(default=1.5, gt=0)


class Scaling(Section):
    """Fitted on train rows, column by column."""

    method: ScalingMethod = "MinMaxScaler"
    """LogMedianScaler standardises log1p(x / median), SqrtScaler the square root: bursts do not crush
    quiet hours. These two leave calendar columns as they are, the others scale them too"""
    fit_share: float = Field(default=1.0, gt=0, le=1)
    """fit on this first part of the train rows"""
    add_constant: float | None = None
    """added to every raw column before anything is fitted; 0 is the same as none"""

    @field_validator("add_constant")
    @classmethod
    def _zero_is_none(cls, constant: float | None) -> float | None:
        return constant or None


class TimeFeatures(Section):
    """Sine and cosine of the row's place in each cycle."""

    enabled: bool = True
    cycles: Annotated[tuple[Cycle, ...], AfterValidator(_in_cycle_order)] = CYCLES
    """a cycle that the train rows do not span once is a clock without a return: leave it out"""


class Lags(Section):
    """Append each raw column as it was 1..n_lags times `step` rows ago."""

    enabled: bool = False
    n_lags: int = Field(default=0, ge=0)
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _enabled_means_some(self) -> Self:
        if self.enabled and self.n_lags == 0:
            raise ValueError("enabled lags need n_lags of at least 1")
        return self

    @property
    def rows_lost(self) -> int:
        """Leading rows that only serve as lags of later ones."""
        return self.n_lags * self.step if self.enabled else 0


class Extra(Section):
    hash_salt: str = ""
    """makes another partition of the same request"""
