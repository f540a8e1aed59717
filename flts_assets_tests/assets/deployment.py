"""A deployment for tests: a home, its Dagster instance, and the main job run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
from mlflow.entities import Run as MlflowRun

from flts_assets.assets.leaderboard import load_board
from flts_assets.assets.platform import Platform
from flts_assets.assets.stage import LEADERBOARD, Stage, latest_place
from flts_assets.automation.registration import register
from flts_assets.definitions import defs
from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.recipe import Recipe
from flts_assets.settings import PROJECT, Settings
from flts_assets.stores.artifacts import Manifest
from flts_assets.stores.object_store import BUCKETS, DATASET
from flts_assets.stores.opening import prepare_store
from flts_assets_tests.servers.environment import OWN_VARIABLES

SAMPLE50 = PROJECT / "recipes" / "sample50.yaml"


@dataclass(frozen=True)
class Run:
    """One run of the main job, as Dagster's event log tells it."""

    result: dg.ExecuteInProcessResult
    events: tuple[dict[str, Any], ...]
    """FLTS's own, in the order of the run log"""

    @property
    def materialized(self) -> dict[str, dg.AssetMaterialization]:
        found = self.result.get_asset_materialization_events()
        return {one.asset_key.to_user_string(): one.materialization for one in found}  # type: ignore[union-attr]

    def metadata(self, asset: str) -> dict[str, Any]:
        return {name: one.value for name, one in self.materialized[asset].metadata.items()}

    @property
    def data_versions(self) -> dict[str, str]:
        return {
            name: (one.tags or {})["dagster/data_version"]
            for name, one in self.materialized.items()
        }

    @property
    def failures(self) -> dict[str, str]:
        """What Dagster shows for each failed step."""
        failures = {}
        for event in self.result.filter_events(lambda one: one.is_step_failure):
            data = event.step_failure_data
            assert data.user_failure_data is not None, data.error
            failures[str(event.step_key)] = str(data.user_failure_data.description)
        return failures

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]


@dataclass(frozen=True)
class Deployment:
    home: Path
    in_memory: bool = False
    """Dagster's part of it, for runs that nobody asks about afterwards"""
    variables: Mapping[str, str] = field(default_factory=dict)
    """of the environment, such as those that lead to servers"""

    @contextmanager
    def environment(self) -> Iterator[None]:
        """os.environ that leads here. MLflow writes into it too: all is put back at the end."""
        with mock.patch.dict(os.environ):
            for name in OWN_VARIABLES:
                os.environ.pop(name, None)
            os.environ["FLTS_HOME"] = str(self.home)
            os.environ.update(self.variables)
            os.environ.update(Settings.from_environment().exported())
            yield

    @cached_property
    def platform(self) -> Platform:
        with self.environment():
            platform = Platform()
            assert platform.settings.home == self.home
            prepare_store(platform.store)  # opened while the environment leads to it
        return platform

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        if self.in_memory:
            return dg.DagsterInstance.ephemeral()
        with self.environment():
            self.platform.settings.dagster_storage.mkdir(parents=True, exist_ok=True)
            return dg.DagsterInstance.get()

    def add_data(self, folder: Path, **names: str) -> None:
        """Put CSVs of `folder` into the dataset bucket: name in the bucket = name in the folder."""
        for name, source in names.items():
            content = (folder / f"{source}.csv").read_bytes()
            self.platform.store.put(DATASET, f"{name}.csv", content)

    def run(self, recipe: Recipe, *assets: str, **config: object) -> Run:
        """Register the recipe and materialise these assets, all if none is named."""
        register(recipe, self.platform.registry, self.instance)
        return self.run_partition(recipe.config_hash, *assets, **config)

    def run_partition(
        self, config_hash: str, *assets: str, job: str = "pipeline", **config: object
    ) -> Run:
        with self.environment():
            result = defs.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                partition_key=config_hash,
                asset_selection=[dg.AssetKey(name) for name in assets] or None,
                run_config={"resources": {"platform": {"config": config}}},
                raise_on_error=False,
            )
        messages = [one.user_message for one in self.instance.all_logs(result.run_id)]
        events = tuple(json.loads(text) for text in messages if text.startswith('{"timestamp"'))
        return Run(result, events)

    def manifest(self, recipe: Recipe, stage: Stage) -> Manifest:
        place = latest_place(self.instance, stage, recipe.config_hash)
        assert place is not None
        return self.platform.artifacts.get(place)

    def board(self, recipe: Recipe) -> Leaderboard:
        return load_board(self.platform.artifacts, self.manifest(recipe, LEADERBOARD))

    def objects(self) -> Mapping[str, str]:
        """The version of every object that there is."""
        heads = (head for bucket in BUCKETS for head in self.platform.store.list(bucket))
        return {f"{head.bucket}/{head.key}": head.version for head in heads}

    def mlflow_runs(self, recipe: Recipe | None = None) -> list[MlflowRun]:
        """All MLflow runs, or those of one recipe, newest first."""
        client = self.platform.tracking.client
        experiments = [one.experiment_id for one in client.search_experiments()]
        wanted = "" if recipe is None else f"tags.`flts.config_hash` = '{recipe.config_hash}'"
        return list(client.search_runs(experiments, wanted, max_results=1000))
