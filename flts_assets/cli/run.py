"""`flts run`: one recipe from raw data to the promoted model, watched while it happens."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from flts_assets.automation.launch import warm_up
from flts_assets.cli.recipes import find_recipe
from flts_assets.cli.terminal import own_terminal
from flts_assets.errors import TrackingError
from flts_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console

    from flts_assets.assets.platform import Platform
    from flts_assets.recipe import Recipe

__all__ = ["run"]


def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or a registered name or hash.")],
    force: Annotated[bool, typer.Option(help="Compute again what is complete.")] = False,
    station: Annotated[
        str | None, typer.Option(help="Ask for STATION.csv and STATION_test.csv.")
    ] = None,
) -> None:
    """Register the recipe and materialise all its assets; ends with leaderboard and pointer."""
    with own_terminal(Settings.from_environment().step_log) as console:
        warm_up()  # before this process begins its own imports
        from flts_assets.automation.registration import register
        from flts_assets.cli.platform import open_instance, open_platform

        platform = open_platform(force=force)
        found = find_recipe(recipe, platform, station)

        with open_instance(platform) as instance:
            register(found, platform.registry, instance)
            succeeded = _watched(found, platform, instance, console)
    if not succeeded:
        raise typer.Exit(1)


def _watched(
    recipe: Recipe, platform: Platform, instance: dg.DagsterInstance, console: Console
) -> bool:
    from flts_assets.automation.closing import close_abandoned_runs
    from flts_assets.automation.launch import execute, new_run, stages_of
    from flts_assets.cli.run_view import watch
    from flts_assets.cli.summary import print_failures, print_summary

    closed = close_abandoned_runs(instance, platform.settings.home)
    if closed:
        console.print(f"closed {len(closed)} run(s) whose process is gone")
    with new_run(
        recipe,
        instance,
        platform.settings.home,
        force=platform.force,
        identifier=platform.identifier,
    ) as dagster_run:
        console.print(f"{recipe.name}  {recipe.config_hash}  run {dagster_run.run_id}")
        # While the fork server still imports, this process has time to open the MLflow store.
        threading.Thread(target=_tidy_tracking, args=(platform, instance), daemon=True).start()
        with watch(instance, dagster_run.run_id, stages_of(recipe), console) as view:
            succeeded = execute(dagster_run, instance)
    if succeeded:
        print_summary(recipe, platform, instance, console)
    else:
        print_failures(view, dagster_run.run_id, instance, platform.settings.step_log, console)
    return succeeded


def _tidy_tracking(platform: Platform, instance: dg.DagsterInstance) -> None:
    """Create a fresh MLflow store, and end the runs that a killed step left RUNNING."""

    from flts_assets.automation.closing import has_ended

    with suppress(TrackingError):  # the steps that need MLflow say so
        platform.tracking.prepare()
        platform.tracking.close_abandoned(partial(has_ended, instance))
