"""What a recipe forecasts, and the models that do it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from flts_assets.recipe.section import (
    ModelType,
    ScalingMethod,
    Section,
    Share,
    Targets,
    each_once,
)

__all__ = ["Ensemble", "ProphetSettings", "Recurrent", "Trees", "Variant", "Window"]


class Window(Section):
    """A model sees `size` rows and forecasts `targets` for the `horizon` rows after them."""

    size: int = Field(default=10, ge=1)
    horizon: int = Field(default=1, ge=1)
    targets: Targets = ("down",)


class Variant(Section):
    """One of several kinds of nets that a GRU or LSTM is averaged from."""

    predict: Literal["level", "change"] = "level"
    change_decay: float = Field(default=0.0, ge=0, lt=1)
    scaling: ScalingMethod | None = None
    """what this net's columns are scaled by; None: as all others"""

    @model_validator(mode="after")
    def _decays_what_it_counts_from(self) -> Self:
        if self.change_decay and self.predict != "change":
            raise ValueError("change_decay has a meaning only with predict: change")
        return self


class Recurrent(Section):
    """GRU and LSTM: the net and how it is trained."""

    hidden_size: int = Field(default=128, ge=1)
    num_layers: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=1)
    max_epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1e30)
    validation_share: Share = 0.2
    """the last part of the train windows, never trained on; it picks the epoch that is kept"""
    validation_overlap: bool = True
    """validation windows may begin among the rows that are fitted on; else they begin after them"""
    shuffle: bool = True
    initial_weights: Literal["torch", "published"] = "torch"
    """torch's own, or those that the code of Perifanis et al. 2022 draws from the same seed"""
    predict: Literal["level", "change"] = "level"
    """the net's output: the scaled target itself, or its change from the window's last row"""
    change_decay: float = Field(default=0.0, ge=0, lt=1)
    """`change` counts from the window's mean with weights change_decay ** age; 0: the last row alone"""
    loss: Literal["mse", "score"] = "mse"
    """of a batch of scaled targets: mean squared error, or 0.5 RMSE + 0.3 MAE as the scores weigh them"""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """one_cycle: the learning rate rises to `learning_rate`, then falls to nearly 0 (Smith 2018)"""
    gradient_clip: float | None = Field(default=None, gt=0)
    """the largest norm of a step's gradient"""
    patience: int | None = Field(default=None, ge=1)
    """stop after so many epochs without a better validation loss; None: never early"""
    refit: bool = False
    """once validated, fit again on all train windows, for as many epochs as the best one took; of a
    one_cycle the last epoch counts, and all are run again"""
    members: int = Field(default=1, ge=1)
    """so many nets of different seeds, their forecasts averaged (Lakshminarayanan et al. 2017)"""
    variants: tuple[Variant, ...] = ()
    """so many nets of each of these kinds instead, all averaged"""

    @model_validator(mode="after")
    def _says_once_what_a_net_predicts(self) -> Self:
        if self.variants and (self.predict, self.change_decay) != ("level", 0.0):
            raise ValueError("give predict and change_decay to each of the variants")
        Variant(predict=self.predict, change_decay=self.change_decay)
        if len(set(self.variants)) != len(self.variants):
            raise ValueError("variants repeat one: averaging a net with itself changes nothing")
        object.__setattr__(self, "variants", tuple(sorted(self.variants, key=repr)))
        if len(self.variants) == 1 and self.variants[0].scaling is None:
            only = self.variants[0]
            object.__setattr__(self, "predict", only.predict)
            object.__setattr__(self, "change_decay", only.change_decay)
            object.__setattr__(self, "variants", ())
        return self

    @model_validator(mode="after")
    def _ends_its_cycle(self) -> Self:
        if self.keeps_last_epoch and self.patience is not None:
            raise ValueError(
                "a one_cycle that is fitted again cannot stop early: leave patience out"
            )
        return self

    @property
    def keeps_last_epoch(self) -> bool:
        """A refit cannot be validated, so what is validated must end where the refit will."""
        return self.refit and self.schedule == "one_cycle"

    @property
    def kinds(self) -> tuple[Variant, ...]:
        """What is averaged, one kind at least."""
        return self.variants or (Variant(predict=self.predict, change_decay=self.change_decay),)

    @property
    def nets(self) -> int:
        """How many nets are averaged."""
        return self.members * len(self.kinds)


class Trees(Section):
    """Gradient-boosted trees: scikit-learn's HistGradientBoostingRegressor, its names."""

    learning_rate: float = Field(default=0.03, gt=0, le=1)
    max_iter: int = Field(default=250, ge=1)
    max_leaf_nodes: int = Field(default=10, ge=2)
    min_samples_leaf: int = Field(default=60, ge=1)
    l2_regularization: float = Field(default=1.0, ge=0)
    max_features: float = Field(default=0.3, gt=0, le=1)


class ProphetSettings(Section):
    """Prophet, fitted on each target's train rows (Taylor & Letham 2018, "Forecasting at scale")."""

    n_changepoints: int = Field(default=25, ge=0)
    changepoint_prior_scale: float = Field(default=0.05, gt=0)
    seasonality_prior_scale: float = Field(default=10.0, gt=0)
    max_rows: int = Field(default=100_000, ge=100)
    """a longer history is fitted as the means of so many equal spans at most"""


class Ensemble(Section):
    """A further candidate: the weighted mean of trained models' forecasts."""

    members: tuple[ModelType, ...] = ()
    """none: no ensemble"""
    weights: Literal["equal", "validated"] = "equal"
    """validated: the convex weights with the least squared error on validation windows"""

    _sorted = field_validator("members")(each_once)

    @field_validator("members")
    @classmethod
    def _none_or_several(cls, members: tuple[ModelType, ...]) -> tuple[ModelType, ...]:
        if len(members) == 1:
            raise ValueError("an ensemble needs two models at least")
        return members

    @model_validator(mode="after")
    def _nobody_to_weigh(self) -> Self:
        """Weights of nothing are no other request."""
        if not self.members:
            object.__setattr__(self, "weights", "equal")
        return self
