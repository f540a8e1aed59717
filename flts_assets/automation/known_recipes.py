"""Recipes as sensors see them: a folder of files, and the registry. One bad one stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from flts_assets.automation.dataset_watch import short_digest
from flts_assets.errors import RecipeError
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.stores.recipes import RecipeRegistry

__all__ = ["AutoTemplates", "recipe_files", "registered_recipes"]

Complain = Callable[[str], None]

_READ: dict[str, Recipe] = {}
"""Records are written once, so each is read once in the life of the code server."""


def recipe_files(folder: Path) -> list[Path]:
    """The YAML files of a recipes folder, sorted; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in (".yaml", ".yml") and not path.name.startswith(".")
    )


class AutoTemplates:
    """The recipes of a folder marked `auto: true` that two looks found the same: none half-written."""

    def __init__(self, folder: Path, complain: Complain, before: Mapping[str, bool]) -> None:
        found = {short_digest(one.config_hash): one for one in _auto_templates(folder, complain)}
        self.seen = {digest: digest in before for digest in found}
        """digest -> whether it is usable; the next look's `before`"""
        self.usable = [template for digest, template in found.items() if self.seen[digest]]
        self.is_any_new = any(still and not before[digest] for digest, still in self.seen.items())
        """one was not usable at the last look"""


def _auto_templates(folder: Path, complain: Complain) -> list[Recipe]:
    templates = []
    for path in recipe_files(folder):
        try:
            template = load_recipe(path)
        except RecipeError as error:
            complain(str(error))
        else:
            if template.auto:
                templates.append(template)
    return templates


def registered_recipes(registry: RecipeRegistry, complain: Complain) -> list[Recipe]:
    """All recipes of the registry that can be read."""
    recipes = []
    for config_hash in registry.hashes():
        if config_hash not in _READ:
            try:
                _READ[config_hash] = registry.get(config_hash)
            except RecipeError as error:
                complain(str(error))
                continue
        recipes.append(_READ[config_hash])
    return recipes
