"""`flts backfill`: every recipe of a station, run again in the background."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["backfill"]


def backfill(
    station: Annotated[str, typer.Argument(help="As in STATION.csv, such as PobleSec.")],
    force: Annotated[bool, typer.Option(help="Compute again what is complete.")] = False,
) -> None:
    """Queue a run for each registered recipe of a station; `flts dev` shows and runs them."""
    from flts_assets.automation.backfill import request_runs
    from flts_assets.cli.platform import open_instance, open_platform

    platform = open_platform(force=force)
    with open_instance(platform) as instance:
        for one in request_runs(station, platform, instance):
            what = f"run {one.run_id} queued" if one.run_id else "is being run already"
            typer.echo(f"{one.recipe.config_hash}  {one.recipe.name:<20}  {what}")
        if not instance.get_daemon_statuses()["QUEUED_RUN_COORDINATOR"].healthy:
            typer.echo("They start as soon as Dagster's daemon runs: flts dev")
