"""Recipes as YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flts_assets.errors import RecipeError
from flts_assets.recipe.model import Recipe

__all__ = ["load_recipe", "parse_recipe"]


class _Loader(yaml.SafeLoader):
    """YAML without its trap: a key that stands twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"
        keys = [self.construct_object(key, True) for key, _ in node.value if key.tag != merge]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(map(str, twice))} stands twice{node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; without a `name` of its own it is called like the file.

    Raises RecipeError: no such file, not YAML, an unknown field, a value that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"recipe file {path} cannot be read: {error}",
            remedy="name a YAML file such as recipes/sample50.yaml",
        ) from error
    return parse_recipe(text, source=str(path), default_name=path.stem)


def parse_recipe(text: str, *, source: str, default_name: str | None = None) -> Recipe:
    """The recipe in a YAML (or JSON) text. `source` names it in errors. Raises RecipeError."""
    try:
        content = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:  # what PyYAML lets through for malformed tags and depths
        raise RecipeError(f"{source} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(
            f"{source} holds no recipe",
            received=content,
            allowed="a mapping with at least data: {train_file: …, test_file: …}",
        )
    if default_name is not None:
        content = {"name": default_name, **content}
    return validated(content, source)


def validated(content: object, source: str) -> Recipe:
    """`content` as a recipe; each fault is told with its field. Raises RecipeError."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {_message(fault)}"
            for fault in error.errors(include_url=False)
        )
        raise RecipeError(f"{source} is not a valid recipe: {faults}") from error


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "missing":
        return "is missing"
    received = f"(received {fault['input']!r})"
    if fault["type"] != "extra_forbidden":
        return f"{fault['msg']} {received}"
    section: Any = Recipe
    for name in fault["loc"][:-1]:
        section = section.model_fields[name].annotation
    return f"no such field {received}; allowed: {', '.join(section.model_fields)}"
