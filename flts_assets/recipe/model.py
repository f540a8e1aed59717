"""What a user asks for, as one frozen, validated value.

A recipe is data (files, sampling) + preprocessing + targets and window + models + evaluation. Its
`config_hash` names the partition of every asset made from it.

Every default here is frozen for ever: a field at its default is left out of the canonical JSON (see
`canonical.py`), so moving a default would give an old hash a new meaning. A new option therefore gets
a default that means "as before".
"""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from flts_assets.recipe.canonical import canonical_json, sha256_hex
from flts_assets.recipe.data import (
    Data,
    Extra,
    HandleNans,
    Lags,
    Outliers,
    Scaling,
    TimeFeatures,
)
from flts_assets.recipe.forecasters import (
    Ensemble,
    ProphetSettings,
    Recurrent,
    Trees,
    Variant,
    Window,
)
from flts_assets.recipe.judging import Backtest, Evaluation, Intervals, Promotion
from flts_assets.recipe.section import CandidateType, ModelType, Section, each_once

__all__ = [
    "Backtest",
    "CandidateType",
    "Data",
    "Ensemble",
    "Evaluation",
    "Extra",
    "HandleNans",
    "Intervals",
    "Lags",
    "ModelType",
    "Outliers",
    "Promotion",
    "ProphetSettings",
    "Recipe",
    "Recurrent",
    "Scaling",
    "TimeFeatures",
    "Trees",
    "Variant",
    "Window",
    "overlaid",
]


class Recipe(Section):
    """One request. `name`, `description` and `auto` are labels and do not enter the hash."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    description: str = ""
    auto: bool = False
    """marks a template: the raw-data sensor asks for it for every new or changed station"""

    data: Data
    handle_nans: HandleNans = HandleNans()
    outliers: Outliers = Outliers()
    scaling: Scaling = Scaling()
    time_features: TimeFeatures = TimeFeatures()
    lags: Lags = Lags()
    extra: Extra = Extra()
    window: Window = Window()
    models: tuple[ModelType, ...] = Field(default=("GRU", "LSTM", "PROPHET"), min_length=1)
    seed: int = Field(default=0, ge=0)
    """of weights, shuffling and whatever else draws numbers, sampling apart"""
    recurrent: Recurrent = Recurrent()
    trees: Trees = Trees()
    prophet: ProphetSettings = ProphetSettings()
    ensemble: Ensemble = Ensemble()
    floor_at_zero: bool = True
    """forecasts of a target that no train row has below 0 end at 0; off: as the model says"""
    intervals: Intervals = Intervals()
    backtest: Backtest = Backtest()
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _evaluates_what_it_forecasts(self) -> Self:
        unknown = set(self.evaluation.targets or ()) - set(self.window.targets)
        if unknown:
            raise ValueError(f"evaluation.targets are not forecast: {', '.join(sorted(unknown))}")
        return self

    @model_validator(mode="after")
    def _ranks_by_what_it_makes(self) -> Self:
        if self.evaluation.rank_on == "backtest" and not self.backtest.cutoffs:
            raise ValueError("evaluation.rank_on is backtest: backtest.cutoffs must be 1 or more")
        if self.backtest.cutoffs and self.backtest.step < self.window.horizon:
            raise ValueError("backtest.step must be window.horizon or more")
        for variant in self.recurrent.variants:
            if variant.scaling == self.scaling.method:
                raise ValueError(
                    f"recurrent.variants: {variant.scaling} is the scaling of all: leave it out"
                )
            if variant.scaling is not None and (self.scaling.add_constant or 0.0) < 0:
                raise ValueError("variants with a scaling need scaling.add_constant of 0 or more")
        untrained = set(self.ensemble.members) - set(self.models)
        if untrained:
            raise ValueError(f"ensemble.members are not trained: {', '.join(sorted(untrained))}")
        return self

    _sorted = field_validator("models")(each_once)

    @property
    def canonical_json(self) -> str:
        """The text that is hashed and stored in every parquet file's metadata."""
        return canonical_json(self)

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits: the partition key."""
        return sha256_hex(self.canonical_json)

    @property
    def station(self) -> str:
        """The train file's name without its ending."""
        return self.data.train_file.removesuffix(".csv")

    def for_station(self, station: str) -> Recipe:
        """The same request for the files `<station>.csv` and `<station>_test.csv`."""
        label = re.sub(r"[^A-Za-z0-9._-]", "-", f"{self.name}-{station}")[:80]
        return self.updated(
            {
                "name": self.name if station == self.station else label,
                "data": {"train_file": f"{station}.csv", "test_file": f"{station}_test.csv"},
            }
        )

    def updated(self, changes: dict[str, object]) -> Recipe:
        """A validated copy with nested `changes` laid over it."""
        return Recipe.model_validate(overlaid(self.model_dump(), changes))


def overlaid(base: dict[str, object], changes: dict[str, object]) -> dict[str, object]:
    """`base` with nested `changes` laid over it."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = (
            overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return result
