"""`flts recipe`: what can be asked for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flts_assets.errors import UnknownRecipeError
from flts_assets.recipe import Recipe, load_recipe
from flts_assets.recipe.environment import recipe_from

if TYPE_CHECKING:
    from flts_assets.assets.platform import Platform

__all__ = ["app", "find_recipe"]

app = typer.Typer(no_args_is_help=True, help="Register recipes and look at them.")

Station = Annotated[
    str | None,
    typer.Option(
        help="Ask for the files STATION.csv and STATION_test.csv instead of the recipe's."
    ),
]


def find_recipe(name: str, platform: Platform, station: str | None = None) -> Recipe:
    """The recipe in file `name`, or registered under this hash, start of a hash, or name.

    A recipe from a file takes the environment's overrides. Raises RecipeError, UnknownRecipeError.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        recipe = load_recipe(path)
    elif (packaged := platform.settings.recipes_folder / f"{name}.yaml").exists():
        recipe = load_recipe(packaged)
    else:
        return _registered(name, platform)
    return recipe_from(recipe.for_station(station) if station else recipe, os.environ)


@app.command()
def add(file: Path, station: Station = None) -> None:
    """Register a recipe: its hash becomes a partition of every asset."""
    from flts_assets.automation.registration import register
    from flts_assets.cli.platform import open_instance, open_platform

    platform = open_platform()
    recipe = find_recipe(str(file), platform, station)
    with open_instance(platform) as instance:
        register(recipe, platform.registry, instance)
    typer.echo(f"{recipe.config_hash}  {recipe.name}")


@app.command("list")
def list_recipes() -> None:
    """All registered recipes: hash, name, files."""
    from flts_assets.cli.platform import open_platform

    for recipe in _readable(open_platform()):
        typer.echo(
            f"{recipe.config_hash}  {recipe.name:<20}"
            f"  {recipe.data.train_file} -> {recipe.data.test_file}"
        )


@app.command()
def show(recipe: str) -> None:
    """A recipe in full, every default written out, as YAML."""
    import yaml

    from flts_assets.cli.platform import open_platform

    found = find_recipe(recipe, open_platform())
    typer.echo(f"# config_hash: {found.config_hash}\n# canonical: {found.canonical_json}")
    typer.echo(yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False), nl=False)


@app.command("hash")
def print_hash(recipe: str, station: Station = None) -> None:
    """The config hash alone."""
    from flts_assets.cli.platform import open_platform

    typer.echo(find_recipe(recipe, open_platform(), station).config_hash)


def _readable(platform: Platform) -> list[Recipe]:
    """All registered recipes but those whose record was altered, of which stderr tells."""
    from flts_assets.automation.known_recipes import registered_recipes

    return registered_recipes(
        platform.registry, lambda fault: typer.echo(f"flts: passed over: {fault}", err=True)
    )


def _registered(name: str, platform: Platform) -> Recipe:
    if re.fullmatch("[0-9a-f]{64}", name):
        return platform.registry.get(name)
    matches = [
        recipe
        for recipe in _readable(platform)
        if recipe.name == name or recipe.config_hash.startswith(name)
    ]
    if len(matches) != 1:
        raise UnknownRecipeError(
            "no such recipe" if not matches else "several recipes match",
            received=name
            if not matches
            else f"{name}: {', '.join(one.config_hash[:12] for one in matches)}",
            allowed="a YAML file, or one registered recipe's name, hash or start of its hash",
            remedy="flts recipe list shows what is registered",
        )
    return matches[0]
