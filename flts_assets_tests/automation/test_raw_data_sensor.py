"""What a look at the dataset bucket requests, on a real store and a real Dagster instance."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from dagster._core.utils import make_new_run_id

from flts_assets.assets.platform import Platform
from flts_assets.assets.raw import raw_fingerprint
from flts_assets.automation import raw_data_sensor as module
from flts_assets.automation.launch import create_run, stages_of
from flts_assets.automation.raw_data_sensor import look_for_new_data
from flts_assets.automation.registration import register
from flts_assets.logs import event_log
from flts_assets.recipe import Recipe, parse_recipe
from flts_assets.stores.directory import DirectoryStore
from flts_assets.stores.object_store import DATASET, RECIPES, ObjectHead
from flts_assets.stores.s3 import S3Store
from flts_assets_tests.assets.deployment import Deployment
from flts_assets_tests.kept_lines import KeptLines
from flts_assets_tests.servers.seaweed import Seaweed

TEMPLATE = """
data: {train_file: Any.csv, test_file: Any_test.csv}
auto: true
models: [GRU]
"""


@dataclass
class Sensor:
    """Looks one after another; what Dagster does with their results stands in `runs`."""

    platform: Platform
    instance: dg.DagsterInstance
    folder: Path
    cursor: str | None = None
    reason: str | None = None
    """why the last look requested nothing"""
    run_keys: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)

    @property
    def template(self) -> Recipe:
        return parse_recipe(TEMPLATE, source="test", default_name="quick")

    def put(self, *files: str, content: str = "1") -> None:
        for file in files:
            self.platform.store.put(DATASET, file, f"{file} {content}".encode())

    def look(self) -> list[dg.RunRequest]:
        """The new run requests of one look."""
        logger = logging.Logger("sensor")
        logger.addHandler(KeptLines(self.lines))
        result = look_for_new_data(self.platform, self.instance, self.cursor, event_log(logger))
        self.cursor = result.cursor
        self.reason = result.skip_reason.skip_message if result.skip_reason else None
        for request in result.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions("config_hash", list(request.partition_keys))
        requests = result.run_requests or []
        known = set(self.instance.get_dynamic_partitions("config_hash"))
        assert {request.partition_key for request in requests} <= known
        new = [request for request in requests if request.run_key not in self.run_keys]
        self.run_keys |= {str(request.run_key) for request in requests}
        return new

    def submit(self, request: dg.RunRequest) -> dg.DagsterRun:
        """As the daemon does: a run under way."""
        return create_run_for_test(
            self.instance,
            "pipeline",
            tags={
                **request.tags,
                "dagster/partition": str(request.partition_key),
                "dagster/run_key": str(request.run_key),
            },
            status=dg.DagsterRunStatus.STARTED,
        )

    def settle(self) -> list[dg.RunRequest]:
        """One look that sees the change, one that finds it standing still."""
        assert self.look() == []
        return self.look()

    def ran(self, recipe: Recipe, content: str = "1") -> None:
        """raw_data of this recipe has seen files of this content."""
        digests = [
            hashlib.sha256(f"{file} {content}".encode()).hexdigest()
            for file in (recipe.data.train_file, recipe.data.test_file)
        ]
        register(recipe, self.platform.registry, self.instance)
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                "raw_data",
                partition=recipe.config_hash,
                tags={"dagster/data_version": raw_fingerprint(recipe.config_hash, *digests)},
            )
        )

    def complaints(self) -> list[str]:
        events = [json.loads(line) for line in self.lines]
        return [one["message"] for one in events if one["level"] == "error"]


@pytest.fixture
def s3(
    home: Path, seaweed: Seaweed, bucket_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> S3Store:
    """The environment leads to S3; asked for before `sensor`, which then works there."""
    for name, value in seaweed.environment(bucket_prefix).items():
        monkeypatch.setenv(name, value)
    store = seaweed.store(bucket_prefix)
    store.make_buckets()
    return store


@pytest.fixture
def sensor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    folder = home / "templates"
    folder.mkdir()
    (folder / "quick.yaml").write_text(TEMPLATE)
    monkeypatch.setenv("FLTS_RECIPES_FOLDER", str(folder))
    monkeypatch.setattr(module, "SECONDS_A_TICK", 60)  # whatever else the machine does
    deployment = Deployment(home, in_memory=True)
    with deployment.instance as instance:
        yield Sensor(Platform(), instance, folder)


def stages(request: dg.RunRequest) -> set[str]:
    return {key.to_user_string() for key in request.asset_selection or ()}


def test_new_pair_registers_the_template_and_requests_its_stages_in_one_look(
    sensor: Sensor,
) -> None:
    sensor.put("ElBorn.csv", "ElBorn_test.csv")
    (request,) = sensor.settle()
    recipe = sensor.template.for_station("ElBorn")
    assert sensor.platform.registry.get(recipe.config_hash).name == "quick-ElBorn"
    assert request.partition_key == recipe.config_hash
    assert stages(request) == set(stages_of(recipe))
    assert request.tags["flts/recipe"] == "quick-ElBorn"
    assert request.tags["flts/station"] == "ElBorn"
    assert sensor.look() == []


def test_same_content_written_again_requests_nothing_new(sensor: Sensor) -> None:
    sensor.put("X.csv", "X_test.csv")
    assert len(sensor.settle()) == 1
    sensor.put("X.csv", "X_test.csv")
    assert sensor.settle() == [], "the same run key"
    sensor.ran(sensor.template.for_station("X"))
    sensor.put("X.csv", "X_test.csv")
    assert sensor.settle() == []


def test_content_that_raw_data_has_seen_requests_nothing(sensor: Sensor) -> None:
    sensor.ran(sensor.template.for_station("X"))
    sensor.put("X.csv", "X_test.csv")
    assert sensor.settle() == []


def test_content_that_comes_back_is_requested_again(sensor: Sensor) -> None:
    recipe = sensor.template.for_station("X")
    for content in ("1", "2", "1", "2"):
        sensor.put("X.csv", "X_test.csv", content=content)
        assert len(sensor.settle()) == 1
        sensor.ran(recipe, content)


def test_recipe_that_was_run_before_has_its_raw_data_looked_at_again(sensor: Sensor) -> None:
    other = sensor.template.for_station("X").updated({"name": "other", "seed": 7})
    odd = other.updated({"data": {"train_file": "X.csv", "test_file": "Y.csv"}})
    never = other.updated({"seed": 8})
    register(never, sensor.platform.registry, sensor.instance)
    for recipe in (other, odd):
        sensor.ran(recipe)
    sensor.put("X.csv", "X_test.csv", "Y.csv", content="2")
    requests = {request.partition_key: request for request in sensor.settle()}
    whole = sensor.template.for_station("X").config_hash
    assert requests.keys() == {whole, other.config_hash, odd.config_hash}
    assert stages(requests[other.config_hash]) == {"raw_data"}
    assert stages(requests[odd.config_hash]) == {"raw_data"}


def test_recipe_that_is_being_run_waits_and_holds_up_nobody(sensor: Sensor) -> None:
    busy = sensor.template.for_station("A")
    register(busy, sensor.platform.registry, sensor.instance)
    options = {"force": False, "identifier": None, "tags": {}}
    run = create_run(make_new_run_id(), busy, sensor.instance, **options)  # type: ignore[arg-type]
    sensor.put("A.csv", "A_test.csv", "B.csv", "B_test.csv")
    (request,) = sensor.settle()
    assert request.tags["flts/station"] == "B"
    assert sensor.look() == []
    sensor.instance.report_run_canceled(run)
    (request,) = sensor.look()
    assert request.partition_key == busy.config_hash


def test_pair_on_s3_waits_for_its_second_file_and_is_requested_once_for_each_content(
    s3: S3Store, sensor: Sensor
) -> None:
    assert isinstance(sensor.platform.store, S3Store)
    sensor.put("X.csv")
    assert [sensor.look() for _ in range(3)] == [[]] * 3
    sensor.put("X_test.csv")
    (request,) = sensor.settle()
    recipe = sensor.template.for_station("X")
    assert request.partition_key == recipe.config_hash
    assert s3.head(RECIPES, f"{recipe.config_hash}.json") is not None
    assert sensor.look() == []
    sensor.ran(recipe)
    sensor.put("X.csv", "X_test.csv")
    assert sensor.settle() == [], "the same content, uploaded again"
    sensor.put("X_test.csv", content="2")
    assert len(sensor.settle()) == 1
    assert [sensor.look() for _ in range(2)] == [[]] * 2


def test_half_pairs_and_growing_files_request_nothing(sensor: Sensor) -> None:
    sensor.put("X.csv", "Other_test.csv")
    assert sensor.settle() == []
    for size in range(3):
        sensor.put("X_test.csv", content="x" * size)
        assert sensor.look() == []
    assert len(sensor.look()) == 1


def test_garbage_in_the_bucket_and_the_folder_stops_nothing_and_is_told_once(
    sensor: Sensor,
) -> None:
    (sensor.folder / "broken.yaml").write_text("data: [")
    (sensor.folder / "typo.yaml").write_text(TEMPLATE.replace("models", "modles"))
    (sensor.folder / "notes.txt").write_text("no recipe")
    bucket = sensor.platform.settings.home / "recipes"
    bucket.mkdir()
    (bucket / "notes.json").write_text("{}")
    (bucket / f"{'0' * 64}.json").write_text("{}")
    sensor.put("readme.txt", "folder/Z.csv", "folder/Z_test.csv", "X_test_test.csv", "_test.csv")
    (sensor.platform.settings.home / DATASET / "no key at all.csv").write_text("?")
    long = "L" * 191
    sensor.put("X.csv", "X_test.csv", "A=b.csv", "A=b_test.csv", f"{long}.csv", f"{long}_test.csv")
    requests = sensor.settle()
    assert [request.tags["flts/station"] for request in requests] == ["A=b", long, "X"]
    complaints = sensor.complaints()
    for told in ("broken.yaml", "typo.yaml", "0000.json"):
        assert sum(told in one for one in complaints) == 1, complaints
    sensor.put("X.csv", content="2")
    assert len(sensor.settle()) == 1
    assert len(sensor.complaints()) == 4, "those, and the name that is no key"


def test_name_that_no_recipe_can_hold_is_told_once_and_a_file_without_a_partner_in_the_reason(
    sensor: Sensor,
) -> None:
    latin_1 = os.fsdecode(b"Bar\xe7a.csv")
    odd = ["El Born.csv", "Barça_test.csv", "Upper.CSV", latin_1]
    dataset = sensor.platform.settings.home / DATASET
    dataset.mkdir(exist_ok=True)
    for name in (*odd, "Half.csv", ".hidden file.csv", "read me.txt"):
        (dataset / name).write_text("?")
    assert sensor.settle() == sensor.look() == []
    complaints = sensor.complaints()
    assert sorted(one.split(" is passed over")[0] for one in complaints) == sorted(map(repr, odd))
    assert "begins with a letter, a digit or _" in complaints[0]
    assert sensor.reason == (
        "nothing changed among 1 file(s); without STATION.csv or STATION_test.csv beside: Half.csv"
    )


def test_file_that_cannot_be_read_is_told_once_holds_up_nobody_and_runs_once_it_can_be(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sensor.folder / "broken.yaml").write_text("data: [")
    sensor.put("A.csv", "A_test.csv", "B.csv", "B_test.csv")
    loop = sensor.platform.settings.home / DATASET / "loop.csv"
    loop.symlink_to(loop)
    with monkeypatch.context() as patch:
        read = DirectoryStore.get_with_head

        def refused(store: DirectoryStore, bucket: str, key: str) -> tuple[bytes, ObjectHead]:
            if key == "A.csv":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), key)
            return read(store, bucket, key)

        patch.setattr(DirectoryStore, "get_with_head", refused)
        patch.setattr(module, "PAIRS_A_TICK", 1)
        stations = [[one.tags["flts/station"] for one in sensor.look()] for _ in range(6)]
    assert stations == [[], [], ["B"], [], [], []]
    assert len(sensor.complaints()) == 2, "the file and the template"
    assert "Permission denied: 'A.csv'" in sensor.complaints()[1]
    assert [one.tags["flts/station"] for one in sensor.look()] == ["A"]
    assert sensor.look() == []


@pytest.mark.slow
def test_thousand_files_at_once_are_worked_off_in_bounded_ticks(sensor: Sensor) -> None:
    stations = [f"S{n:03}" for n in range(500)]
    for station in stations:
        for file in (f"{station}.csv", f"{station}_test.csv"):
            path = sensor.platform.settings.home / DATASET / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(file)
    requested: list[str] = []
    sensor.look()
    for _ in range(500 // module.PAIRS_A_TICK):
        requests = sensor.look()
        assert len(requests) == module.PAIRS_A_TICK
        requested += [request.tags["flts/station"] for request in requests]
    assert requested == stations
    assert sensor.look() == []


def test_requests_of_a_tick_are_bounded_and_those_of_a_bad_file_are_told_once(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUESTS_A_TICK", 3)
    station = sensor.template.for_station("X")
    recipes = [station, *(station.updated({"name": f"r{n}", "seed": n}) for n in range(1, 5))]
    for recipe in recipes:
        sensor.ran(recipe)
    sensor.put("X.csv", "X_test.csv", content="2")
    sensor.look()
    runs = []
    for expected in (3, 2, 0, 0):
        requests = sensor.look()
        assert len(requests) == expected
        runs += [sensor.submit(request) for request in requests]
    assert {run.tags["dagster/partition"] for run in runs} == {one.config_hash for one in recipes}
    for run in runs[1:]:  # one works on, the others found the file bad
        sensor.instance.report_run_failed(run)
    assert [sensor.look() for _ in range(3)] == [[]] * 3
    sensor.instance.report_run_failed(runs[0])
    sensor.cursor = None
    assert sensor.settle() == []
    assert sum("raw_data_changed" in line for line in sensor.lines) == len(recipes)


@pytest.mark.slow
def test_thousand_recipes_of_one_station_are_requested_in_ticks_of_less_than_two_seconds(
    sensor: Sensor,
) -> None:
    (sensor.folder / "quick.yaml").unlink()
    station = sensor.template.for_station("X")
    for seed in range(1, 1001):
        sensor.ran(station.updated({"name": f"r{seed}", "seed": seed}))
    sensor.put("X.csv", "X_test.csv", content="2")
    sensor.look()
    requested: set[str] = set()
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        requests = sensor.look()
        seconds.append(time.perf_counter() - started)
        assert len(requests) == module.REQUESTS_A_TICK
        requested |= {str(sensor.submit(request).tags["dagster/partition"]) for request in requests}
    assert len(requested) == 4 * module.REQUESTS_A_TICK
    assert min(seconds) < 2, seconds  # the others also show what else the machine does


def test_time_of_a_tick_is_bounded_but_a_large_pair_gets_its_turn(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_A_TICK", 0)
    sensor.put("A.csv", "A_test.csv", "B.csv", "B_test.csv", content="x" * 1000)
    sensor.look()
    assert [[one.tags["flts/station"] for one in sensor.look()] for _ in range(3)] == [
        ["A"],
        ["B"],
        [],
    ]


def test_lost_cursor_repeats_nothing(sensor: Sensor) -> None:
    sensor.put("X.csv", "X_test.csv")
    assert len(sensor.settle()) == 1
    sensor.cursor = None
    assert sensor.settle() == []


def test_template_is_requested_for_no_station_without_the_mark(sensor: Sensor) -> None:
    (sensor.folder / "quick.yaml").write_text(TEMPLATE.replace("auto: true", "auto: false"))
    sensor.put("X.csv", "X_test.csv")
    assert sensor.settle() == []


@pytest.mark.parametrize("before", ["data: [", TEMPLATE.replace("auto: true", ""), None], ids=str)
def test_template_that_is_mended_marked_or_added_after_the_data_is_run_for_every_station(
    sensor: Sensor, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAIRS_A_TICK", 2)
    path = sensor.folder / "quick.yaml"
    path.write_text(before) if before else path.unlink()
    stations = ["A", "B", "C"]
    sensor.put(*(f"{station}{part}.csv" for station in stations for part in ("", "_test")))
    assert [sensor.look() for _ in range(4)] == [[]] * 4
    path.write_text(TEMPLATE)
    looks = [[one.tags["flts/station"] for one in sensor.look()] for _ in range(5)]
    assert looks == [[], ["A", "B"], ["C"], [], []]


def test_second_template_is_run_for_stations_that_have_the_first(sensor: Sensor) -> None:
    sensor.put("X.csv", "X_test.csv")
    sensor.settle()
    sensor.ran(sensor.template.for_station("X"))
    (sensor.folder / "second.yaml").write_text(TEMPLATE + "seed: 4\n")
    (request,) = sensor.settle()
    assert request.tags["flts/recipe"] == "second-X"
    assert [sensor.look() for _ in range(3)] == [[]] * 3


def test_template_that_is_still_written_to_starts_nothing(sensor: Sensor) -> None:
    sensor.put("X.csv", "X_test.csv")
    sensor.settle()
    for seed in range(1, 4):
        (sensor.folder / "second.yaml").write_text(TEMPLATE + f"seed: {seed}\n")
        assert sensor.look() == []
    assert len(sensor.look()) == 1


def test_mark_of_a_template_is_a_label_and_not_part_of_the_hash(sensor: Sensor) -> None:
    marked = sensor.template
    assert marked.auto
    assert marked.updated({"auto": False}).config_hash == marked.config_hash
