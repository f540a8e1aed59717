"""Making a recipe known: its record in the object store, its partition in Dagster."""

from __future__ import annotations

import dagster as dg

from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.recipe import Recipe
from flts_assets.stores.recipes import RecipeRegistry

__all__ = ["register"]


def register(recipe: Recipe, registry: RecipeRegistry, instance: dg.DagsterInstance) -> str:
    """Register once or again; returns the config hash, which is now a partition key."""
    registry.register(recipe)
    assert CONFIG_HASH.name is not None
    instance.add_dynamic_partitions(CONFIG_HASH.name, [recipe.config_hash])
    return recipe.config_hash
