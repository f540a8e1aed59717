"""Canonical JSON of a recipe: equal meaning gives equal text, for ever.

The sections below were hashed by the system FLTS succeeds and are always written, so that its hashes
stay valid. Every other field is written only when it differs from its frozen default, so that a new
option never moves an old hash. Keys are sorted, separators carry no space, and a float with an
integral value is written as an integer, as in RFC 8785 section 3.2.2.3 (JSON has one number type).
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from pydantic import BaseModel

__all__ = ["canonical_json", "sha256_hex"]

_LABELS: Final = {"name", "description", "auto"}

_ALWAYS: Final[dict[str, frozenset[str]]] = {
    "data": frozenset(
        {"train_file", "test_file", "sample_strategy", "sample_train_rows", "sample_test_rows"}
    ),
    "extra": frozenset({"hash_salt"}),
    "handle_nans": frozenset({"drop_rows", "enabled", "knn_neighbors", "threshold"}),
    "lags": frozenset({"enabled", "n_lags", "step"}),
    "outliers": frozenset({"enabled", "factor", "method"}),
    "scaling": frozenset({"add_constant", "method"}),
    "time_features": frozenset({"enabled"}),
}
_WRITTEN_AS: Final = {"data": "_data"}


def canonical_json(recipe: BaseModel) -> str:
    """The recipe's canonical text. `recipe` is a `Recipe`."""
    written: dict[str, object] = {}
    for name, field in type(recipe).model_fields.items():
        if name in _LABELS:
            continue
        value = getattr(recipe, name)
        key = _WRITTEN_AS.get(name, name)
        if isinstance(value, BaseModel):
            section = _section(value, _ALWAYS.get(name, frozenset()))
            if section:
                written[key] = section
        elif value != field.default:
            written[key] = _plain(value)
    return json.dumps(
        written, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def sha256_hex(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _section(section: BaseModel, always: frozenset[str]) -> dict[str, object]:
    return {
        name: _plain(getattr(section, name))
        for name, field in type(section).model_fields.items()
        if name in always or getattr(section, name) != field.default
    }


def _plain(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return _section(value, frozenset())
    return value
