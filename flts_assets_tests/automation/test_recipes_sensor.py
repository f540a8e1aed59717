"""Recipes become partitions without a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.assets.platform import Platform
from flts_assets.automation import recipes_sensor as module
from flts_assets.automation.recipes_sensor import look_for_recipes
from flts_assets.logs import event_log
from flts_assets.recipe import load_recipe
from flts_assets.stores.object_store import RECIPES
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment
from flts_assets_tests.kept_lines import KeptLines

RECIPE = load_recipe(SAMPLE50)


@dataclass
class Sensor:
    platform: Platform
    instance: dg.DagsterInstance
    folder: Path
    cursor: str | None = None
    lines: list[str] = field(default_factory=list)

    def look(self) -> list[str]:
        """The partitions that one look adds."""
        logger = logging.Logger("sensor")
        logger.addHandler(KeptLines(self.lines))
        result = look_for_recipes(self.platform, self.instance, self.cursor, event_log(logger))
        self.cursor = result.cursor
        added = [
            key
            for request in result.dynamic_partitions_requests or ()
            for key in request.partition_keys
        ]
        self.instance.add_dynamic_partitions("config_hash", added)
        return added

    def settle(self) -> list[str]:
        """One look that sees the change, one that finds it standing still."""
        assert self.look() == []
        return self.look()

    def complaints(self) -> list[str]:
        events = [json.loads(line) for line in self.lines]
        return [one["message"] for one in events if one["level"] == "error"]


@pytest.fixture
def sensor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    folder = home / "files"
    folder.mkdir()
    monkeypatch.setenv("FLTS_RECIPES_FOLDER", str(folder))
    with Deployment(home, in_memory=True).instance as instance:
        yield Sensor(Platform(), instance, folder)


def test_file_that_is_added_or_changed_becomes_a_partition(sensor: Sensor) -> None:
    assert sensor.look() == []
    path = sensor.folder / "new.yaml"
    path.write_text(SAMPLE50.read_text())
    assert sensor.settle() == [RECIPE.config_hash]
    assert sensor.platform.registry.get(RECIPE.config_hash).name == "new"
    assert sensor.look() == []
    path.write_text(SAMPLE50.read_text() + "seed: 3\n")
    assert sensor.settle() == [RECIPE.updated({"seed": 3}).config_hash]


def test_file_that_is_still_written_to_becomes_no_partition_until_it_stands_still(
    sensor: Sensor,
) -> None:
    path = sensor.folder / "new.yaml"
    for seed in range(1, 4):
        path.write_text(SAMPLE50.read_text() + f"seed: {seed}\n")
        assert sensor.look() == []
    assert sensor.look() == [RECIPE.updated({"seed": 3}).config_hash]


def test_bad_file_is_told_once_until_it_changes_and_the_others_go_on(sensor: Sensor) -> None:
    (sensor.folder / "a_bad.yaml").write_text("data: [")
    (sensor.folder / "broken_link.yaml").symlink_to("nowhere")
    (sensor.folder / "z_good.yaml").write_text(SAMPLE50.read_text())
    assert sensor.settle() == [RECIPE.config_hash]
    for _ in range(3):
        assert sensor.look() == []
    assert ["a_bad.yaml" in one for one in sensor.complaints()] == [True, False]
    (sensor.folder / "a_bad.yaml").write_text("data: ]")
    sensor.settle()
    assert ["a_bad.yaml" in one for one in sensor.complaints()] == [True, False, True]


def test_record_that_another_machine_put_becomes_a_partition(sensor: Sensor) -> None:
    sensor.platform.registry.register(RECIPE)
    assert sensor.look() == [RECIPE.config_hash]


def test_altered_record_is_told_once_and_hides_no_other(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORDS_A_TICK", 1)
    sensor.platform.store.put(RECIPES, f"{'0' * 64}.json", RECIPE.model_dump_json().encode())
    sensor.platform.registry.register(RECIPE)
    added = [key for _ in range(3) for key in sensor.look()]
    assert added == [RECIPE.config_hash]
    assert len(sensor.complaints()) == 1
    assert "was altered" in sensor.complaints()[0]


def test_partition_stays_when_its_file_is_gone(sensor: Sensor) -> None:
    path = sensor.folder / "new.yaml"
    path.write_text(SAMPLE50.read_text())
    sensor.settle()
    path.unlink()
    assert sensor.look() == []
    assert sensor.instance.get_dynamic_partitions("config_hash") == [RECIPE.config_hash]


def test_folder_that_is_not_there_is_no_fault(sensor: Sensor) -> None:
    sensor.folder.rmdir()
    assert sensor.look() == []
    assert sensor.complaints() == []
