"""What all sections of a recipe share: frozen, closed to unknown fields, one spelling a meaning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from flts_assets.recipe.columns import RAW_COLUMNS, RawColumn

__all__ = [
    "CandidateType",
    "ModelType",
    "ScalingMethod",
    "Section",
    "Share",
    "Targets",
    "each_once",
]

ModelType = Literal["GRU", "LSTM", "PROPHET", "TREES"]
CandidateType = Literal["GRU", "LSTM", "PROPHET", "TREES", "ENSEMBLE"]
"""what may be promoted"""
ScalingMethod = Literal["MinMaxScaler", "StandardScaler", "LogMedianScaler", "SqrtScaler", "None"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `yes` as True, which would silently count as 1."""
        assert info.field_name is not None
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("must not be yes or no")
        return value


def _in_column_order(targets: tuple[RawColumn, ...]) -> tuple[RawColumn, ...]:
    """One order means one hash: the order of a request says nothing."""
    if len(set(targets)) != len(targets):
        raise ValueError(f"targets repeat a column: {', '.join(targets)}")
    return tuple(sorted(targets, key=RAW_COLUMNS.index))


def each_once(models: tuple[ModelType, ...]) -> tuple[ModelType, ...]:
    if len(set(models)) != len(models):
        raise ValueError(f"models repeat one: {', '.join(models)}")
    return tuple(sorted(models))


Targets = Annotated[tuple[RawColumn, ...], Field(min_length=1), AfterValidator(_in_column_order)]
