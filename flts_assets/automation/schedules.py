"""What happens by the clock."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from flts_assets.assets.platform import Platform
from flts_assets.assets.promotion_event import PROMOTION
from flts_assets.assets.stage import run_tags
from flts_assets.automation.jobs import champions_look, monitoring
from flts_assets.automation.known_recipes import registered_recipes
from flts_assets.stores.pointer import GLOBAL, champions_of
from flts_assets.stores.prediction_records import answered_since

__all__ = ["daily_champions_look", "hourly_monitoring"]

LOOKS_BACK = timedelta(hours=1, minutes=5)
"""The hour, and the minutes by which the service's log may lag; a run too many only repeats a look."""


@dg.schedule(
    job=monitoring,
    cron_schedule="7 * * * *",  # past the hour, when its last records are written
    execution_timezone="UTC",
    # It starts nothing until a service has answered somebody, and one short run a champion then.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks at each champion that answered within the hour: live error, input drift.",
)
def hourly_monitoring(
    context: dg.ScheduleEvaluationContext, platform: Platform
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    since = context.scheduled_execution_time - LOOKS_BACK
    answered = answered_since(platform.store, platform.identifier or GLOBAL, since)
    serving = {one.config_hash for one in champions_of(platform.store, platform.identifier)}
    recipes = [
        recipe
        for recipe in registered_recipes(platform.registry, context.log.error)
        if recipe.config_hash in answered & serving
    ]
    if not recipes:
        yield dg.SkipReason("no champion has answered within the hour")
    for recipe in recipes:
        yield dg.RunRequest(
            run_key=f"{recipe.config_hash}:{context.scheduled_execution_time:%Y-%m-%dT%H}",
            partition_key=recipe.config_hash,
            tags=run_tags(recipe),
        )


@dg.schedule(
    job=champions_look,
    cron_schedule="23 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks at all champions once a day, whether or not anything ran.",
)
def daily_champions_look(
    context: dg.ScheduleEvaluationContext,
) -> dg.RunRequest | dg.SkipReason:
    if not context.instance.get_materialized_partitions(dg.AssetKey(PROMOTION.name)):
        return dg.SkipReason("nothing was promoted yet")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")
