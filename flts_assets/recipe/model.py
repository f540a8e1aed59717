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
from flts_assets.recipe.columns import RAW_COLUMNS, RawColumn

__all__ = [
    "Data",
    "Evaluation",
    "Extra",
    "HandleNans",
    "Lags",
    "ModelType",
    "Outliers",
    "Promotion",
    "ProphetSettings",
    "Recipe",
    "Recurrent",
    "Scaling",
    "TimeFeatures",
    "Window",
    "overlaid",
]

ModelType = Literal["GRU", "LSTM", "PROPHET"]
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
    """Fitted on train rows, column by column, calendar columns included."""

    method: Literal["MinMaxScaler", "StandardScaler", "LogMedianScaler", "None"] = "MinMaxScaler"
    """LogMedianScaler standardises log1p(x / median): bursts do not crush quiet hours"""
    fit_share: float = Field(default=1.0, gt=0, le=1)
    """fit on this first part of the train rows"""
    add_constant: float | None = None
    """added to every raw column before anything is fitted; 0 is the same as none"""

    @field_validator("add_constant")
    @classmethod
    def _zero_is_none(cls, constant: float | None) -> float | None:
        return constant or None


class TimeFeatures(_Section):
    """Sine and cosine of minute of day, day of week and day of year."""

    enabled: bool = True


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


class Extra(_Section):
    hash_salt: str = ""
    """makes another partition of the same request"""


class Window(_Section):
    """A model sees `size` rows and forecasts `targets` for the `horizon` rows after them."""

    size: int = Field(default=10, ge=1)
    horizon: int = Field(default=1, ge=1)
    targets: Targets = ("down",)


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
    predict: Literal["level", "change"] = "level"
    """the net's output: the scaled target itself, or its change from the window's last row"""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """one_cycle: the learning rate rises to `learning_rate`, then falls to nearly 0 (Smith 2018)"""
    gradient_clip: float | None = Field(default=None, gt=0)
    """the largest norm of a step's gradient"""
    patience: int | None = Field(default=None, ge=1)
    """stop after so many epochs without a better validation loss; None: never early"""


class ProphetSettings(_Section):
    """Prophet, fitted on each target's train rows (Taylor & Letham 2018, "Forecasting at scale")."""

    n_changepoints: int = Field(default=25, ge=0)
    changepoint_prior_scale: float = Field(default=0.05, gt=0)
    seasonality_prior_scale: float = Field(default=10.0, gt=0)


class Evaluation(_Section):
    """How the leaderboard scores."""

    rank_by: Literal["score", "rmse", "mae", "mse", "nrmse"] = "score"
    """score = 0.5 RMSE + 0.3 MAE + 0.2 MSE, in units of each target's train range"""
    targets: Targets | None = None
    """the targets that are averaged over; None: all"""


class Promotion(_Section):
    """What a winner must show before the pointer moves."""

    must_beat_persistence: bool = False


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
    prophet: ProphetSettings = ProphetSettings()
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _evaluates_what_it_forecasts(self) -> Self:
        unknown = set(self.evaluation.targets or ()) - set(self.window.targets)
        if unknown:
            raise ValueError(f"evaluation.targets are not forecast: {', '.join(sorted(unknown))}")
        return self

    @field_validator("models")
    @classmethod
    def _sorted_models(cls, models: tuple[ModelType, ...]) -> tuple[ModelType, ...]:
        if len(set(models)) != len(models):
            raise ValueError(f"models repeat one: {', '.join(models)}")
        return tuple(sorted(models))

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
