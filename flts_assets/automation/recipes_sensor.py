"""Recipes become partitions while everything runs: files in the recipes folder, records in the registry.

A file is registered as it stands, without the environment's overrides, once two looks found the same in
it: a half-written one may be a valid recipe, and a partition is for ever. Another machine, or a copied
bucket, may have left records (`recipes/<config_hash>.json`) that this Dagster has no partition for: they
are added. A partition is never removed, and neither is a record: what was made from it stays explained.
"""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from flts_assets.assets.partitions import CONFIG_HASH
from flts_assets.assets.platform import Platform
from flts_assets.automation.dataset_watch import short_digest
from flts_assets.automation.known_recipes import recipe_files
from flts_assets.errors import RecipeError
from flts_assets.logs import EventLog, event_log
from flts_assets.recipe import load_recipe

__all__ = ["look_for_recipes", "recipes_sensor"]

INTERVAL_S = 15
RECORDS_A_TICK = 500
"""read and checked; about a second"""


@dg.sensor(
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes partitions of the recipes folder's files and of registered recipes.",
)
def recipes_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    log = event_log(context.log, sensor="recipes_sensor")
    return look_for_recipes(platform, context.instance, context.cursor, log)


def look_for_recipes(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None, log: EventLog
) -> dg.SensorResult:
    """One look: a partition for every new or changed file and for every record that has none."""
    before = _parsed(cursor)
    files, growing = _look_at_files(platform, before, log)
    assert CONFIG_HASH.name is not None
    partitions = set(instance.get_dynamic_partitions(CONFIG_HASH.name))
    missing = [one for one in platform.registry.hashes() if one not in partitions]
    told = set(before.get("told", ()))
    # Known bad ones come last, so that however many there are, others are reached.
    looked_at = sorted(missing, key=lambda one: one in told)[:RECORDS_A_TICK]
    unreadable = _unreadable(platform, looked_at, told, log)
    new = [one for one in looked_at if one not in unreadable]
    told = unreadable | told.intersection(missing)
    return dg.SensorResult(
        skip_reason=f"{len(new)} new partition(s) beside {len(partitions)}; {len(files)} file(s)",
        dynamic_partitions_requests=[CONFIG_HASH.build_add_request(new)] if new else None,
        cursor=json.dumps(
            {"files": files, "growing": growing, "told": sorted(told)}, separators=(",", ":")
        ),
    )


def _look_at_files(
    platform: Platform, before: dict[str, Any], log: EventLog
) -> tuple[dict[str, str], dict[str, str]]:
    """Register what new and changed files ask for that stand still since the last look.

    File -> digest of the content that was registered, and of one that was seen for the first time.
    """
    registered, growing = before.get("files", {}), before.get("growing", {})
    done, first_seen = {}, {}
    for path in recipe_files(platform.settings.recipes_folder):
        digest = _digest(path)
        if path.name in registered:
            done[path.name] = registered[path.name]
        if digest == registered.get(path.name):
            continue
        if digest != growing.get(path.name):
            first_seen[path.name] = digest
            continue
        done[path.name] = digest
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            log.error("recipe_unusable", message=str(error))
            continue
        platform.registry.register(recipe)
        log.info("recipe_registered", recipe=recipe.name, config_hash=recipe.config_hash)
    return done, first_seen


def _digest(path: Path) -> str:
    try:
        return short_digest(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:  # a broken link, no permission: told once by load_recipe
        return short_digest(type(error).__name__)


def _unreadable(
    platform: Platform, config_hashes: list[str], told: set[str], log: EventLog
) -> set[str]:
    """Those whose record is no recipe, each told once."""
    bad = set()
    for config_hash in config_hashes:
        try:
            platform.registry.get(config_hash)
        except RecipeError as error:
            bad.add(config_hash)
            if config_hash not in told:
                log.error("recipe_unusable", message=str(error))
    return bad


def _parsed(cursor: str | None) -> dict[str, Any]:
    try:
        content = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
