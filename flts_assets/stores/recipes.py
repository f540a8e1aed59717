"""The registry of recipes: which config hashes are known, and what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress

from flts_assets.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    RecipeError,
    UnknownRecipeError,
)
from flts_assets.recipe import Recipe, parse_recipe
from flts_assets.recipe.files import validated
from flts_assets.stores.object_store import RECIPES, ObjectStore

__all__ = ["RecipeRegistry"]

_RECORD = re.compile(r"[0-9a-f]{64}\.json")


class RecipeRegistry:
    """`recipes/<config_hash>.json`, each written once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def register(self, recipe: Recipe) -> None:
        """Make the hash known. The first name it was registered under stays."""
        text = recipe.model_dump_json(indent=1)
        with suppress(ObjectExistsError):
            self._store.create(RECIPES, f"{recipe.config_hash}.json", text.encode())

    def get(self, config_hash: str) -> Recipe:
        """Raises UnknownRecipeError, and RecipeError if the record does not hash to its own name."""
        key = f"{config_hash}.json"
        try:
            text = self._store.get(RECIPES, key).decode()
        except ObjectNotFoundError as error:
            raise UnknownRecipeError(
                "no recipe is registered under this config hash",
                received=config_hash,
                remedy="register it: flts recipe add FILE (flts recipe list shows what is known)",
            ) from error
        recipe = _parsed(text, f"{RECIPES}/{key}")
        if recipe.config_hash != config_hash:
            raise RecipeError(
                f"{RECIPES}/{key} was altered: its content hashes to {recipe.config_hash}",
                remedy=f"delete {RECIPES}/{key} and register the recipe again",
            )
        return recipe

    def hashes(self) -> Iterator[str]:
        """All registered config hashes, in order; nothing is read. Other objects are no records."""
        for head in self._store.list(RECIPES):
            if _RECORD.fullmatch(head.key):
                yield head.key.removesuffix(".json")

    def list(self) -> Iterator[Recipe]:
        """All registered recipes, in the order of their hashes."""
        for config_hash in self.hashes():
            yield self.get(config_hash)


def _parsed(text: str, source: str) -> Recipe:
    """Records are JSON, read fifty times faster as such; of what is none, YAML tells the fault."""
    try:
        content = json.loads(text)
    except ValueError:
        return parse_recipe(text, source=source)
    return validated(content, source)
