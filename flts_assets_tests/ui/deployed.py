"""What the web UI shows in these tests: a generated station and two recipes, one of them promoted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, get_args

from flts_assets.definitions import defs
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.recipe import ModelType, Recipe
from flts_assets.stores.object_store import DATASET
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.automation.dagster_dev import FLTS
from flts_assets_tests.forecasting.datasets import demo_recipe

__all__ = ["EVERY_KIND", "FILES", "TREES_ALONE", "add_station", "checks_of", "flts", "running_flts"]

FILES: Final = {"train_file": "DemoCell.csv", "test_file": "DemoCell_later.csv"}
"""No pair STATION.csv, STATION_test.csv: no sensor starts runs on them by itself."""

ENDS_WITHIN_S: Final = 1500

EVERY_KIND: Final = demo_recipe(
    name="every-kind",
    data=FILES,
    window={"size": 10, "horizon": 2, "targets": ["down"]},
    models=get_args(ModelType),
    ensemble={"members": ["GRU", "TREES"]},
    backtest={"cutoffs": 1, "step": 50},
    intervals={"levels": [0.9]},
)
"""Every asset of the main job has something to do."""

TREES_ALONE: Final = EVERY_KIND.updated(
    {
        "name": "trees-alone",
        "models": ["TREES"],
        "ensemble": {"members": []},
        "backtest": {"cutoffs": 0},
    }
)


def checks_of(asset: str) -> set[str]:
    """The names of its checks."""
    keys = defs.resolve_asset_graph().asset_check_keys
    return {key.name for key in keys if key.asset_key.to_user_string() == asset}


def add_station(deployment: Deployment, train_rows: int, test_rows: int) -> None:
    """The two files that both recipes name."""
    frames = demo_cell(train_rows, test_rows)
    for name, frame in zip(FILES.values(), frames, strict=True):
        deployment.platform.store.put(DATASET, name, to_csv(frame))


@dataclass(frozen=True)
class FltsProcess:
    """`flts` at work."""

    popen: subprocess.Popen[str]

    def wait_for_success(self) -> None:
        output, _ = self.popen.communicate(timeout=ENDS_WITHIN_S)
        assert self.popen.returncode == 0, output


@contextmanager
def running_flts(deployment: Deployment, command: str, recipe: Recipe) -> Iterator[FltsProcess]:
    """`flts COMMAND FILE` with this recipe. It does not outlive the context."""
    file = deployment.home / f"{recipe.name}.yaml"
    file.write_text(recipe.model_dump_json())
    process = subprocess.Popen(
        [FLTS, *command.split(), str(file)],
        env={**os.environ, "FLTS_HOME": str(deployment.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield FltsProcess(process)
        finally:
            process.kill()  # its steps end with it


def flts(deployment: Deployment, command: str, recipe: Recipe) -> None:
    """The same, from its start to its end."""
    with running_flts(deployment, command, recipe) as process:
        process.wait_for_success()
