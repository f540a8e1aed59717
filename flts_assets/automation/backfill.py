"""Every registered recipe of a station, run again: as queued runs of the main job, one a recipe.

The runs are put into Dagster's queue, as the web UI's button would do; the daemon (`dagster dev`) starts
them.
"""

from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from flts_assets.assets.platform import Platform
from flts_assets.automation.known_recipes import registered_recipes
from flts_assets.automation.launch import create_run
from flts_assets.automation.registration import register
from flts_assets.automation.under_way import partitions_under_way
from flts_assets.errors import InstanceError, UnknownRecipeError
from flts_assets.logs import event_log
from flts_assets.recipe import Recipe

__all__ = ["BACKFILL_TAG", "Requested", "request_runs", "station_backfill"]

BACKFILL_TAG = "flts/backfill"


@dataclass(frozen=True)
class Requested:
    """What became of one recipe."""

    recipe: Recipe
    run_id: str | None
    """None: it is being run already"""


def request_runs(
    station: str,
    platform: Platform,
    instance: dg.DagsterInstance,
    asked_by: dg.DagsterRun | None = None,
) -> list[Requested]:
    """Queue a run for each registered recipe of the station that is not being run.

    `asked_by`: the run that asks, whose code server they are for; None where a command asks.
    Raises UnknownRecipeError if there is none, and InstanceError where a command asks on Kubernetes.
    """
    from dagster._core.utils import make_new_run_id

    if asked_by is None and platform.settings.executor == "k8s":
        raise InstanceError(
            "a run that a terminal queues names no image, so that Kubernetes could not start it",
            received="FLTS_EXECUTOR=k8s",
            remedy="start the job station_backfill in Dagster's web UI: its runs have its own image",
        )
    complaints: list[str] = []  # a record that cannot be read names no station
    known = registered_recipes(platform.registry, complaints.append)
    recipes = sorted((one for one in known if one.station == station), key=lambda one: one.name)
    if not recipes:
        raise UnknownRecipeError(
            "no recipe is registered for this station",
            received=station,
            allowed=", ".join(sorted({one.station for one in known})) or None,
            remedy=f"flts run recipes/full.yaml --station {station}, or flts recipe add",
        )
    busy = partitions_under_way(instance, [one.config_hash for one in recipes])
    requested = []
    for recipe in recipes:
        if recipe.config_hash in busy:
            requested.append(Requested(recipe, None))
            continue
        register(recipe, platform.registry, instance)  # a record alone is no partition yet
        run = create_run(
            make_new_run_id(),
            recipe,
            instance,
            force=platform.force,
            identifier=platform.identifier,
            tags={BACKFILL_TAG: station},
            asked_by=asked_by,
        )
        _enqueue(run, instance)
        requested.append(Requested(recipe, run.run_id))
    return requested


def _enqueue(run: dg.DagsterRun, instance: dg.DagsterInstance) -> None:
    # What `QueuedRunCoordinator.submit_run` does, which asks for a workspace that it never uses.
    from dagster._core.events import DagsterEvent

    instance.report_dagster_event(DagsterEvent.job_enqueue(run), run_id=run.run_id)


class StationBackfill(dg.Config):
    """Which station, and whether to compute again what is complete."""

    station: str = Field(description="as in STATION.csv, such as PobleSec")
    force: bool = Field(default=False, description="Compute again what is complete")


@dg.op
def request_station_runs(
    context: dg.OpExecutionContext, config: StationBackfill, platform: Platform
) -> None:
    """Queue them; a recipe that is being run is left alone."""
    log = event_log(context.log, station=config.station)
    platform = Platform(force=config.force or platform.force, identifier=platform.identifier)
    for one in request_runs(config.station, platform, context.instance, context.run):
        log.info(
            "run_requested" if one.run_id else "run_under_way_already",
            recipe=one.recipe.name,
            config_hash=one.recipe.config_hash,
            run_id=one.run_id,
        )


@dg.job(description="Queues a run of the job pipeline for every registered recipe of a station.")
def station_backfill() -> None:
    request_station_runs()
