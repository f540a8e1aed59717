"""The one edge at which environment variables change what is asked for.

    SAMPLE_TRAIN_ROWS, SAMPLE_TEST_ROWS   rows kept, 0 = all
    SAMPLE_STRATEGY                       head | tail | random
    SAMPLE_SEED                           seed of `random`
    EXTRA_HASH_SALT                       makes another partition of the same request
    EXPECTED_MODEL_TYPES                  comma-separated: GRU,LSTM,PROPHET
    FORCE_REPROCESS                       recompute although complete outputs exist
    IDENTIFIER                            whose pointer the promotion moves

They change a recipe when it is registered (`flts run`, `flts recipe add`, `flts recipe hash`) and are
not read anywhere else. An empty value is an error: it never silently means "default".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, get_args

from flts_assets.errors import EnvironmentValueError
from flts_assets.recipe.files import validated
from flts_assets.recipe.model import ModelType, Recipe, overlaid

__all__ = ["force_from", "identifier_from", "recipe_from"]

T = TypeVar("T")

_STRATEGIES: Final = ("head", "tail", "random")
_FLAGS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def recipe_from(recipe: Recipe, environ: Mapping[str, str]) -> Recipe:
    """The recipe with the environment's overrides. Raises EnvironmentValueError."""
    data = {
        field: value
        for field, value in {
            "sample_train_rows": _read(environ, "SAMPLE_TRAIN_ROWS", _count, "a whole number >= 0"),
            "sample_test_rows": _read(environ, "SAMPLE_TEST_ROWS", _count, "a whole number >= 0"),
            "sample_strategy": _read(
                environ, "SAMPLE_STRATEGY", _one_of(_STRATEGIES), ", ".join(_STRATEGIES)
            ),
            "sample_seed": _read(environ, "SAMPLE_SEED", _count, "a whole number >= 0"),
        }.items()
        if value is not None
    }
    changes: dict[str, object] = {"data": data} if data else {}
    salt = _read(environ, "EXTRA_HASH_SALT", str, "any text; unset it for the recipe's own salt")
    if salt is not None:
        changes["extra"] = {"hash_salt": salt}
    kinds = get_args(ModelType)
    models = _read(
        environ, "EXPECTED_MODEL_TYPES", _models, f"a comma-separated list of {', '.join(kinds)}"
    )
    if models is not None:
        changes["models"] = models
    if not changes:
        return recipe
    return validated(overlaid(recipe.model_dump(), changes), "recipe with environment overrides")


def force_from(environ: Mapping[str, str]) -> bool:
    """FORCE_REPROCESS, False where unset. Raises EnvironmentValueError."""
    return bool(_read(environ, "FORCE_REPROCESS", _flag, ", ".join(_FLAGS)))


def identifier_from(environ: Mapping[str, str]) -> str | None:
    """IDENTIFIER, None where unset. Raises EnvironmentValueError."""
    return _read(environ, "IDENTIFIER", _identifier, "letters, digits and . _ - (at most 80)")


def _read(
    environ: Mapping[str, str], name: str, parse: Callable[[str], T], allowed: str
) -> T | None:
    text = environ.get(name)
    if text is None:
        return None
    try:
        if not text.strip():
            raise ValueError("empty")
        return parse(text.strip())
    except ValueError as error:
        raise EnvironmentValueError(
            f"environment variable {name} is not usable",
            received=text,
            allowed=allowed,
            remedy=f"correct it, or unset {name}",
        ) from error


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise ValueError(text)
    return int(text)


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return parse


def _models(text: str) -> tuple[str, ...]:
    models = tuple(part.strip().upper() for part in text.split(","))
    if not set(models) <= set(get_args(ModelType)) or len(set(models)) != len(models):
        raise ValueError(text)
    return models


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError(text)
    return _FLAGS[text.lower()]


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text):
        raise ValueError(text)
    return text
