"""What a user asks for, as one frozen, validated value.

A recipe is data (files, sampling) + preprocessing + targets and window + models + evaluation. Its
`config_hash` names the partition of every asset made from it.

Every default here is frozen for ever: a field at its default is left out of the canonical JSON (see
`canonical.py`), so moving a default would give an old hash a new meaning. A new option therefore gets
a default that means "as before".
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from flts_assets.recipe.canonical import canonical_json, sha256_hex
from flts_assets.recipe.columns import CYCLES, RAW_COLUMNS, Cycle, RawColumn

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

ModelType = Literal["GRU", "LSTM", "PROPHET", "TREES"]
CandidateType = Literal["GRU", "LSTM", "PROPHET", "TREES", "ENSEMBLE"]
"""what may be promoted"""
ScalingMethod = Literal["MinMaxScaler", "StandardScaler", "LogMedianScaler", "SqrtScaler", "None"]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `yes` as True, which would silently count as 1."""
        assert info.field_name is not None
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be yes or no")
        return value


def _csv_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._=+-]{0,195}\.csv", name):
        raise ValueError("must be the name of a CSV in the dataset bucket, such as PobleSec.csv")
    return name


def _in_column_order(targets: tuple[RawColumn, ...]) -> tuple[RawColumn, ...]:
    """One order means one hash: the order of a request says nothing."""
    if len(set(targets)) != len(targets):
        raise ValueError(f"targets repeat a column: {', '.join(targets)}")
    return tuple(sorted(targets, key=RAW_COLUMNS.index))


def _each_once(models: tuple[ModelType, ...]) -> tuple[ModelType, ...]:
    if len(set(models)) != len(models):
        raise ValueError(f"models repeat one: {', '.join(models)}")
    return tuple(sorted(models))


def _in_cycle_order(cycles: tuple[Cycle, ...]) -> tuple[Cycle, ...]:
    return tuple(cycle for cycle in CYCLES if cycle in cycles)


Targets = Annotated[tuple[RawColumn, ...], Field(min_length=1), AfterValidator(_in_column_order)]


class Data(_Section):
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


class HandleNans(_Section):
    """What becomes of empty cells; everything is fitted on train rows."""

    enabled: bool = True
    """off: an empty cell is an error"""
    threshold: float = Field(default=0.33, ge=0, le=1)
    """a column with a larger share of empty train cells is an error"""
    drop_rows: bool = False
    """drop rows with an empty cell instead of filling it"""
    fill: Literal["knn", "zero"] = "knn"
    knn_neighbors: int = Field(default=2, ge=1)


class Outliers(_Section):
    """Clip to [Q1 - factor IQR, Q3 + factor IQR] of the train rows. Scores use unclipped values."""

    enabled: bool = False
    method: Literal["iqr"] = "iqr"
    factor: float = Field(default=1.5, gt=0)


class Scaling(_Section):
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


class TimeFeatures(_Section):
    """Sine and cosine of the row's place in each cycle."""

    enabled: bool = True
    cycles: Annotated[tuple[Cycle, ...], AfterValidator(_in_cycle_order)] = CYCLES
    """a cycle that the train rows do not span once is a clock without a return: leave it out"""


class Lags(_Section):
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


class Extra(_Section):
    hash_salt: str = ""
    """makes another partition of the same request"""


class Window(_Section):
    """A model sees `size` rows and forecasts `targets` for the `horizon` rows after them."""

    size: int = Field(default=10, ge=1)
    horizon: int = Field(default=1, ge=1)
    targets: Targets = ("down",)


class Variant(_Section):
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


class Recurrent(_Section):
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


class Trees(_Section):
    """Gradient-boosted trees: scikit-learn's HistGradientBoostingRegressor, its names."""

    learning_rate: float = Field(default=0.03, gt=0, le=1)
    max_iter: int = Field(default=250, ge=1)
    max_leaf_nodes: int = Field(default=10, ge=2)
    min_samples_leaf: int = Field(default=60, ge=1)
    l2_regularization: float = Field(default=1.0, ge=0)
    max_features: float = Field(default=0.3, gt=0, le=1)


class ProphetSettings(_Section):
    """Prophet, fitted on each target's train rows (Taylor & Letham 2018, "Forecasting at scale")."""

    n_changepoints: int = Field(default=25, ge=0)
    changepoint_prior_scale: float = Field(default=0.05, gt=0)
    seasonality_prior_scale: float = Field(default=10.0, gt=0)
    max_rows: int = Field(default=100_000, ge=100)
    """a longer history is fitted as the means of so many equal spans at most"""


class Ensemble(_Section):
    """A further candidate: the weighted mean of trained models' forecasts."""

    members: tuple[ModelType, ...] = ()
    """none: no ensemble"""
    weights: Literal["equal", "validated"] = "equal"
    """validated: the convex weights with the least squared error on validation windows"""

    _sorted = field_validator("members")(_each_once)

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


class Intervals(_Section):
    """Conformal prediction intervals, calibrated on validation residuals."""

    levels: tuple[Annotated[float, Field(gt=0, le=0.999)], ...] = (0.9,)
    """the shares of future values that the bands shall cover"""

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(levels)))


class Backtest(_Section):
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


class Evaluation(_Section):
    """How the leaderboard scores and ranks."""

    rank_by: Literal["score", "rmse", "mae", "mse", "nrmse"] = "score"
    """score = 0.5 RMSE + 0.3 MAE + 0.2 MSE, in units of each target's train range"""
    rank_on: Literal["test", "backtest"] = "test"
    targets: Targets | None = None
    """the targets that are averaged over; None: all"""


class Promotion(_Section):
    """What a winner must show before the pointer moves."""

    must_beat_persistence: bool = False
    """refuse a winner whose interval against persistence does not lie above 0"""
    confidence: Share = 0.95
    """of the bootstrap intervals of differences between two models"""
    block: int | None = Field(default=None, ge=1)
    """windows that are drawn together; None: the square root of their number, the horizon at least"""
    tie: Literal["newest_start", "rank"] = "newest_start"
    """who wins among models without a significant difference from the first"""


class Recipe(_Section):
    """One request. `name`, `description` and `auto` are labels and do not enter the hash."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    description: str = ""
    auto: bool = False
    """marks a template for new stations; nothing acts on it yet"""

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

    _sorted = field_validator("models")(_each_once)

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
        return self.updated(
            {
                "name": self.name if station == self.station else f"{self.name}-{station}"[:80],
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
