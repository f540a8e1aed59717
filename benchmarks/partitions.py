"""A thousand registered recipes: how long sensors, automation and the asset page's queries take.

    python -m benchmarks.partitions [--recipes 1000] [--materialized 1000]

The recipes are all different, and all stages of so many of them are materialised. Times are the median of
three, in seconds. The queries are those of the asset page in the web UI, through Dagster's own GraphQL
server code and a code server in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import dagster as dg

from benchmarks.measuring import finish, own_home
from flts_assets.recipe import Recipe, parse_recipe
from flts_assets.settings import PROJECT, Settings

TEMPLATE = """
data: {train_file: Any.csv, test_file: Any_test.csv}
auto: true
"""
STAGES = (
    *("raw_data", "processed_data", "gru_model", "lstm_model", "prophet_model"),
    *("leaderboard", "promoted_model"),
)
QUERIES = {
    "asset page: partitions and their states": """
        query Q { assetNodeOrError(assetKey: {path: ["promoted_model"]}) { ... on AssetNode {
          partitionKeysByDimension { name type partitionKeys }
          partitionStats { numPartitions numMaterialized numMaterializing numFailed }
          assetPartitionStatuses { ... on DefaultPartitionStatuses {
            materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions
          } } } } }""",
    "asset page: one partition, stale or not": """
        query Q($hash: String!) { assetNodeOrError(assetKey: {path: ["promoted_model"]}) {
          ... on AssetNode {
            staleStatus(partition: $hash)
            staleCauses(partition: $hash) { key { path } reason category }
            assetMaterializations(partitions: [$hash], limit: 1) { runId timestamp
              metadataEntries { label } }
          } } }""",
    "asset page: events": """
        query Q { assetOrError(assetKey: {path: ["promoted_model"]}) { ... on Asset {
          assetMaterializations(limit: 50) { runId timestamp partition } } } }""",
    "asset graph: states of all nodes": """
        query Q { assetNodes { assetKey { path } groupName
          partitionStats { numPartitions numMaterialized numMaterializing numFailed }
          latestMaterializationByPartition: assetMaterializations(limit: 1) { timestamp } } }""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=1000)
    parser.add_argument("--materialized", type=int, default=1000)
    arguments = parser.parse_args()
    count: int = arguments.recipes
    with own_home() as home:
        templates = home / "templates"
        templates.mkdir()
        (templates / "full.yaml").write_text(TEMPLATE)
        os.environ["FLTS_RECIPES_FOLDER"] = str(templates)
        os.environ["DAGSTER_HOME"] = str(PROJECT)
        os.environ.update(Settings.from_environment().exported())
        from flts_assets.assets.platform import Platform
        from flts_assets.cli.platform import open_instance

        platform = Platform()
        with open_instance(platform) as instance:
            figures = {
                **measure_looks(platform, instance, home, count, arguments.materialized),
                **measure_automation(instance),
                **measure_queries(instance),
            }
        print(f"\n{count} recipes, {arguments.materialized} of them materialised")
        for name, seconds in figures.items():
            print(f"{name:<55} {seconds:8.3f} s")
        finish("partitions", recipes=count, materialized=arguments.materialized, **figures)


def measure_looks(
    platform: object, instance: dg.DagsterInstance, home: Path, count: int, materialized: int
) -> dict[str, float]:
    """The two sensors: with nothing to do, with one changed station, with 1,000 files at once."""
    from flts_assets.assets.platform import Platform
    from flts_assets.automation.raw_data_sensor import look_for_new_data
    from flts_assets.automation.recipes_sensor import look_for_recipes
    from flts_assets.logs import EventLog

    assert isinstance(platform, Platform)
    log = mock.create_autospec(EventLog, instance=True)  # a thousand lines would drown the table
    template = parse_recipe(TEMPLATE, source="benchmark", default_name="full")
    recipes = [template.for_station(f"S{n:04}").updated({"seed": 1}) for n in range(count)]
    fill(platform, instance, recipes, materialized)
    dataset = home / "dataset"
    dataset.mkdir(exist_ok=True)
    figures = {}

    def looks(
        name: str, function: Callable[..., dg.SensorResult], cursor: str | None
    ) -> str | None:
        result = dg.SensorResult()
        times = []
        for _ in range(3):
            started = time.perf_counter()
            result = function(platform, instance, cursor, log)
            times.append(time.perf_counter() - started)
        figures[name] = statistics.median(times)
        return result.cursor

    cursor = looks("recipes sensor: nothing new", look_for_recipes, None)
    for n in range(500):
        for part in ("", "_test"):
            (dataset / f"S{n:04}{part}.csv").write_text(f"{n}{part}" * 1000)
    cursor = look_for_new_data(platform, instance, None, log).cursor
    started = time.perf_counter()
    cold = look_for_new_data(platform, instance, cursor, log)
    figures["raw-data sensor: first of 1,000 files, cold"] = time.perf_counter() - started
    ticks, requests, longest = 1, len(cold.run_requests or ()), 0.0
    cursor = cold.cursor
    while cursor and '"waiting"' in cursor:
        started = time.perf_counter()
        result = look_for_new_data(platform, instance, cursor, log)
        longest = max(longest, time.perf_counter() - started)
        cursor, ticks = result.cursor, ticks + 1
        requests += len(result.run_requests or ())
    print(f"1,000 files at once: {requests} runs requested in {ticks} ticks")
    figures["raw-data sensor: longest tick of 1,000 files"] = longest
    looks("raw-data sensor: nothing new among 1,000 files", look_for_new_data, cursor)
    (dataset / "S0000.csv").write_text("changed")
    changed = look_for_new_data(platform, instance, cursor, log).cursor
    looks("raw-data sensor: one changed station", look_for_new_data, changed)
    return figures


def fill(
    platform: object, instance: dg.DagsterInstance, recipes: list[Recipe], materialized: int
) -> None:
    """Register them, and report each stage of the first ones as materialised."""
    from flts_assets.assets.platform import Platform

    assert isinstance(platform, Platform)
    for recipe in recipes:
        platform.registry.register(recipe)
    hashes = [recipe.config_hash for recipe in recipes]
    instance.add_dynamic_partitions("config_hash", hashes)
    for config_hash in hashes[:materialized]:
        for stage in STAGES:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    stage, partition=config_hash, tags={"dagster/data_version": stage}
                )
            )


def measure_automation(instance: dg.DagsterInstance) -> dict[str, float]:
    """A tick of the conditions after one raw_data changed."""
    from flts_assets.definitions import defs

    # The daemon reads the partitions once a tick; the tester would do so hundreds of times.
    partitions = instance.get_dynamic_partitions("config_hash")
    everything = dg.AssetSelection.all()
    with mock.patch.object(instance, "get_dynamic_partitions", return_value=partitions):
        cursor = dg.evaluate_automation_conditions(defs, instance, everything).cursor
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "raw_data", partition=partitions[0], tags={"dagster/data_version": "new"}
            )
        )
        started = time.perf_counter()
        result = dg.evaluate_automation_conditions(defs, instance, everything, cursor=cursor)
        seconds = time.perf_counter() - started
        print(f"one changed raw_data: {result.total_requested} stages requested")
    return {"automation: a tick with one change": seconds}


def measure_queries(instance: dg.DagsterInstance) -> dict[str, float]:
    """The asset page's GraphQL."""
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster_graphql.cli import execute_query

    partition = instance.get_dynamic_partitions("config_hash")[0]
    target = ModuleTarget("flts_assets.definitions", None, os.getcwd(), "flts_assets")
    figures = {}
    with WorkspaceProcessContext(instance, target) as context:
        for name, query in QUERIES.items():
            times = []
            for _ in range(3):
                started = time.perf_counter()
                variables = {"hash": partition} if "$hash" in query else None
                answer = execute_query(context, query, variables)
                times.append(time.perf_counter() - started)
                if answer.get("errors"):
                    raise RuntimeError(answer["errors"])
            figures[name] = statistics.median(times)
    return figures


if __name__ == "__main__":
    main()
