from __future__ import annotations

from pathlib import Path

import pytest

from flts_assets.errors import RecipeError, UnknownRecipeError
from flts_assets.recipe import Recipe
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import RECIPES
from flts_assets.stores.recipes import RecipeRegistry


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def registry(store: DirectoryStore) -> RecipeRegistry:
    return RecipeRegistry(store)


def recipe(name: str = "mine", rows: int = 0) -> Recipe:
    return Recipe.model_validate(
        {
            "name": name,
            "data": {
                "train_file": "Cell.csv",
                "test_file": "Cell_test.csv",
                "sample_train_rows": rows,
            },
        }
    )


def test_registered_recipe_is_known_by_its_hash(registry: RecipeRegistry) -> None:
    registry.register(recipe())
    assert registry.get(recipe().config_hash) == recipe()


def test_record_is_created_once_and_the_first_name_stays(
    registry: RecipeRegistry, store: DirectoryStore
) -> None:
    registry.register(recipe("first"))
    written = store.head(RECIPES, f"{recipe().config_hash}.json")
    registry.register(recipe("second"))
    assert registry.get(recipe().config_hash).name == "first"
    assert store.head(RECIPES, f"{recipe().config_hash}.json") == written


def test_unknown_hash_is_refused_with_the_command_that_registers_it(
    registry: RecipeRegistry,
) -> None:
    with pytest.raises(UnknownRecipeError, match=r"received: 'f{64}'.*flts recipe add FILE"):
        registry.get("f" * 64)


def test_record_that_was_altered_is_refused(
    registry: RecipeRegistry, store: DirectoryStore
) -> None:
    registry.register(recipe())
    other = recipe(rows=50)
    key = f"{recipe().config_hash}.json"
    store.put(RECIPES, key, other.model_dump_json().encode())
    with pytest.raises(RecipeError, match=rf"{key} was altered.*{other.config_hash}.*register"):
        registry.get(recipe().config_hash)


def test_record_that_is_no_recipe_is_told_with_its_key(
    registry: RecipeRegistry, store: DirectoryStore
) -> None:
    store.put(RECIPES, f"{'f' * 64}.json", b'{"name": "x", "dta": {}}')
    with pytest.raises(RecipeError, match=rf"{RECIPES}/f+\.json is not a valid recipe.*dta"):
        registry.get("f" * 64)


def test_all_registered_recipes_are_listed_in_the_order_of_their_hashes(
    registry: RecipeRegistry,
) -> None:
    recipes = [recipe(rows=rows) for rows in range(20, 30)]
    for one in recipes:
        registry.register(one)
    assert list(registry.list()) == sorted(recipes, key=lambda one: one.config_hash)


def test_other_objects_in_the_bucket_are_no_records(
    registry: RecipeRegistry, store: DirectoryStore
) -> None:
    registry.register(recipe())
    for key in ("notes.json", "folder/x.json", f"{'0' * 63}.json", f"{'0' * 64}.yaml"):
        store.put(RECIPES, key, b"?")
    assert list(registry.hashes()) == [recipe().config_hash]
    assert list(registry.list()) == [recipe()]


def test_empty_registry_lists_nothing(registry: RecipeRegistry) -> None:
    assert list(registry.list()) == []
