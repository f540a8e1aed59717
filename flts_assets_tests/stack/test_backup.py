"""docker/backup.sh and restore.sh, run as they are: real servers are thrown away and others take over.

recipe A is promoted ── recipe B is running ──┐
                        docker/backup.sh ─────┴── all servers gone ── new ones, docker/restore.sh
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from flts_assets.recipe import load_recipe
from flts_assets.settings import PROJECT
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.object_store import MODELS, PROCESSED_DATA
from flts_assets.stores.pointer import Pointer
from flts_assets_tests.docker.containers import DOCKER
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import USER, Postgres
from flts_assets_tests.servers.process import announce
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.machine import Machine
from flts_assets_tests.stack.progress import tiny_recipe

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

PREFIX = "kept-"
MADE = (
    "SELECT asset_key, partition, run_id FROM event_logs"
    " WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
)


@dataclass
class Servers:
    """S3 and PostgreSQL as docker/postgres-init.sh leaves it; MLflow once there is something for it."""

    folder: Path
    seaweed: Seaweed
    postgres: Postgres
    mlflow: MlflowServer | None = None

    @classmethod
    def started(cls, folder: Path) -> Servers:
        seaweed_folder = folder / "s3"
        seaweed_folder.mkdir(parents=True)
        # Their user must reach it, and pytest's own folders are closed.
        postgres = Postgres.started(Path(tempfile.mkdtemp(prefix="flts-postgres-")))
        servers = cls(folder, Seaweed.started(seaweed_folder), postgres)
        servers._run(str(DOCKER / "postgres-init.sh"), POSTGRES_USER=USER)
        return servers

    def start_mlflow(self) -> None:
        url = f"postgresql+psycopg2://mlflow@127.0.0.1:{self.postgres.port}/mlflow"
        self.mlflow = MlflowServer.started(self.folder, self.seaweed, url, PREFIX)

    def throw_away(self) -> None:
        for server in (self.mlflow, self.seaweed, self.postgres):
            if server is not None:
                server.process.stop()
        shutil.rmtree(self.folder)
        shutil.rmtree(self.postgres.process.log.parent)

    @property
    def variables(self) -> Mapping[str, str]:
        assert self.mlflow is not None
        return {
            "DAGSTER_HOME": str(DOCKER),
            "FLTS_STEP_CONCURRENCY": "2",
            **self.seaweed.environment(PREFIX),
            **self.postgres.environment("dagster"),
            "FLTS_POSTGRES_USER": "dagster",
            **self.mlflow.environment(),
        }

    def script(self, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """docker/backup.sh or restore.sh on these servers."""
        return self._run(str(DOCKER / name), str(folder), **self.seaweed.environment(PREFIX))

    def make_reader(self) -> None:
        """The role of the dashboard."""
        options = ("--no-psqlrc", "--dbname=dagster", "--set=ON_ERROR_STOP=1", "--set=password=x")
        file = DOCKER / "monitoring" / "grafana-reader.sql"
        done = self._run("psql", *options, f"--file={file}")
        assert done.returncode == 0, done.stderr

    def _run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                **{"PYTHON": sys.executable, "PYTHONPATH": str(PROJECT)},
                **{"PGHOST": "127.0.0.1", "PGPORT": str(self.postgres.port), "PGUSER": USER},
                **{"DAGSTER_PASSWORD": "one", "MLFLOW_PASSWORD": "other"},
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


@dataclass(frozen=True)
class State:
    """What must come back."""

    promotion: dict[str, Any]
    forecast: dict[str, Any]
    made: set[tuple[str, str, str]]
    """of recipe A: asset, partition, Dagster run"""
    runs: dict[str, tuple[str, dict[str, float], dict[str, str]]]
    """of recipe A: MLflow run -> status, metrics, params"""
    objects: dict[tuple[str, str], tuple[int, str]]
    """of recipe A: bucket and key -> size and version"""

    @classmethod
    def of(cls, servers: Servers, machine: Machine, config_hash: str) -> State:
        assert servers.mlflow is not None
        store = servers.seaweed.store(PREFIX)
        current = Pointer(store, config_hash, None).read()
        assert current is not None
        client = MlflowClient(servers.mlflow.url)
        experiments = [one.experiment_id for one in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`flts.config_hash` = '{config_hash}'")
        made = servers.postgres.execute(MADE, "dagster")
        return cls(
            promotion=current[0].model_dump(mode="json"),
            forecast=_forecast(machine, store, config_hash),
            made={row for row in made if row[1] == config_hash},  # type: ignore[misc]
            runs={
                run.info.run_id: (run.info.status, run.data.metrics, run.data.params)
                for run in found
            },
            objects={
                (bucket, head.key): (head.size, head.version)
                for bucket in (PROCESSED_DATA, MODELS)
                for head in store.list(bucket, config_hash)
            },
        )


@dataclass(frozen=True)
class Moved:
    """A deployment whose servers are others now."""

    hashes: dict[str, str]
    folder: Path
    """of the backup"""
    before: State
    servers: Servers
    machine: Machine
    recipes: Path


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Moved]:
    folder = tmp_path_factory.mktemp("backup")
    recipes = folder / "recipes"
    recipes.mkdir()
    hashes = {}
    for name in ("kept", "under-way"):
        file = recipes / f"{name}.yaml"
        file.write_text(tiny_recipe(name, 200, 100))
        hashes[name] = load_recipe(file).config_hash
    first = Servers.started(folder / "first")
    try:
        first.start_mlflow()
        assert first.mlflow is not None
        announce(pytestconfig, f"to be thrown away: {first.seaweed.url}, {first.mlflow.url}")
        machine = Machine(folder / "home", first.variables)
        machine.output_of("data", "demo")
        machine.output_of("run", str(recipes / "kept.yaml"))
        before = State.of(first, machine, hashes["kept"])
        first.make_reader()  # a role of the server, which no dump holds
        with _running(machine, "run", str(recipes / "under-way.yaml")):
            _until_it_trains(first, hashes["under-way"])
            began = time.monotonic()
            done = first.script("backup.sh", folder / "copy")
            assert done.returncode == 0, done.stdout + done.stderr
            announce(pytestconfig, f"backup, a run under way: {time.monotonic() - began:.1f} s")
        refused = first.script("backup.sh", folder / "copy")
        assert refused.returncode == 1
        assert "is there already" in refused.stderr
    finally:
        first.throw_away()
    shutil.rmtree(machine.home)
    second = Servers.started(folder / "second")
    try:
        began = time.monotonic()
        done = second.script("restore.sh", folder / "copy")
        assert done.returncode == 0, done.stdout + done.stderr
        announce(pytestconfig, f"restored: {time.monotonic() - began:.1f} s, {second.seaweed.url}")
        second.start_mlflow()
        elsewhere = Machine(folder / "elsewhere", second.variables)
        found = "SELECT status FROM runs WHERE partition = '{}'"
        assert second.postgres.execute(found.format(hashes["under-way"]), "dagster") == [
            ("STARTED",)
        ]
        yield Moved(hashes, folder / "copy", before, second, elsewhere, recipes)
    finally:
        second.throw_away()


def test_pointer_leads_to_the_same_model_and_it_forecasts_the_same(moved: Moved) -> None:
    after = State.of(moved.servers, moved.machine, moved.hashes["kept"])
    assert after.promotion == moved.before.promotion
    assert after.forecast == moved.before.forecast
    assert len(after.forecast["predictions"]) == 5
    assert after.objects == moved.before.objects
    store = moved.servers.seaweed.store(PREFIX)
    for config_hash in moved.hashes.values():  # of the run under way too, if it came so far
        for promotion in Pointer(store, config_hash, None).history():
            artifacts = Artifacts(store)
            manifest = artifacts.get(promotion.model, promotion.attempt)
            assert artifacts.read_all(manifest)  # verifies each file's sha256


def test_history_and_tracking_are_those_of_before(moved: Moved) -> None:
    after = State.of(moved.servers, moved.machine, moved.hashes["kept"])
    assert moved.before.made
    assert after.made >= moved.before.made
    assert moved.before.runs
    assert after.runs == moved.before.runs
    assert moved.servers.mlflow is not None
    client = MlflowClient(moved.servers.mlflow.url)
    promotion = moved.before.promotion
    files = {one.path for one in client.list_artifacts(promotion["run_id"], "GRU")}
    assert "GRU/MLmodel" in files
    # The report looks each of its lines up: in files, MLflow, the pointer and Dagster.
    moved.machine.output_of("report", "kept")


def test_dashboard_shows_the_runs_to_a_reader_who_may_see_nothing_else(moved: Moved) -> None:
    import psycopg2

    moved.servers.make_reader()
    reader = psycopg2.connect(
        host="127.0.0.1", port=moved.servers.postgres.port, user="grafana", dbname="dagster"
    )
    panels = json.loads((DOCKER / "monitoring" / "grafana-serving.json").read_text())["panels"]
    statements = {
        panel["title"]: target["rawSql"]
        for panel in panels
        for target in panel.get("targets", ())
        if "rawSql" in target
    }
    assert len(statements) == 6
    rows = {}
    with reader, reader.cursor() as cursor:
        for title, statement in statements.items():
            cursor.execute(_as_grafana_fills_it_in(statement))
            rows[title] = cursor.fetchall()
    jobs = {(job, status) for job, status, _ in rows["Runs that ended, by job and status"]}
    assert ("pipeline", "SUCCESS") in jobs
    took = [seconds for _, job, seconds in rows["How long runs of a job took"] if job == "pipeline"]
    assert took
    assert all(0 < seconds < 600 for seconds in took)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), reader, reader.cursor() as cursor:
        cursor.execute("SELECT 1 FROM event_logs LIMIT 1")
    reader.close()


def test_same_run_computes_nothing_and_the_interrupted_one_is_taken_up(moved: Moved) -> None:
    moved.machine.output_of("run", str(moved.recipes / "kept.yaml"))
    after = State.of(moved.servers, moved.machine, moved.hashes["kept"])
    assert after.objects == moved.before.objects
    assert after.runs == moved.before.runs
    assert after.promotion == moved.before.promotion
    moved.machine.output_of("run", str(moved.recipes / "under-way.yaml"))
    moved.machine.output_of("report", "under-way")
    assert "FAIL" not in moved.machine.output_of("doctor", "--clean")


def test_nothing_is_restored_over_another_deployment(moved: Moved) -> None:
    before = State.of(moved.servers, moved.machine, moved.hashes["kept"])
    done = moved.servers.script("restore.sh", moved.folder)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert State.of(moved.servers, moved.machine, moved.hashes["kept"]) == before


@pytest.mark.parametrize("used", ["dagster", "mlflow", "bucket"])
def test_nothing_is_restored_beside_what_is_in_use(
    used: str, postgres: Postgres, seaweed: Seaweed, bucket_prefix: str, tmp_path: Path
) -> None:
    for part in ("dagster.dump", "mlflow.dump", "objects"):
        (tmp_path / part).mkdir()  # nothing of it is read
    databases = {"dagster": postgres.database(), "mlflow": postgres.database()}
    if used == "bucket":
        told = f"the bucket {bucket_prefix}{MODELS} is not empty"
        seaweed.store(bucket_prefix).put(MODELS, "a", b"x")
    else:
        told = f"the database {databases[used]} is not empty (table alembic_version)"
        postgres.execute("CREATE TABLE alembic_version ()", databases[used])
    done = subprocess.run(
        [str(DOCKER / "restore.sh"), str(tmp_path)],
        env={
            **{"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PYTHONPATH": str(PROJECT)},
            **{"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": USER},
            **{"FLTS_POSTGRES_DB": databases["dagster"], "FLTS_MLFLOW_DB": databases["mlflow"]},
            **seaweed.environment(bucket_prefix),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    if used != "bucket":
        buckets = {one["Name"] for one in seaweed.store("").client.list_buckets()["Buckets"]}
        assert not {one for one in buckets if one.startswith(bucket_prefix)}, "nothing was written"


def test_half_a_backup_is_not_restored(moved: Moved, tmp_path: Path) -> None:
    (tmp_path / "copy.part" / "objects").mkdir(parents=True)
    done = moved.servers.script("restore.sh", tmp_path / "copy.part")
    assert done.returncode == 1
    assert "no complete backup" in done.stderr


@contextmanager
def _running(machine: Machine, *arguments: str) -> Iterator[None]:
    """A command beside what goes on in the context, at whose end it has ended too."""
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(machine.output_of, *arguments)
        yield
        command.result()


def _until_it_trains(servers: Servers, config_hash: str) -> None:
    started = (
        "SELECT 1 FROM event_logs JOIN runs ON runs.run_id = event_logs.run_id"
        f" WHERE runs.partition = '{config_hash}' AND dagster_event_type = 'STEP_START'"
        " AND step_key = 'gru_model'"
    )
    deadline = time.monotonic() + 900
    while not servers.postgres.execute(started, "dagster"):
        assert time.monotonic() < deadline, "the second run does not train"
        time.sleep(0.1)


def _forecast(machine: Machine, store: Any, config_hash: str) -> dict[str, Any]:
    """What the service answers to the first rows of the test file."""
    from io import BytesIO

    from flts_assets.serving.server import app

    rows = pd.read_csv(BytesIO(store.get("dataset", "DemoCell_test.csv"))).head(40)
    body = {"index_col": "time", "data": rows.to_dict("list"), "inference_length": 5}
    variables = {**machine.variables, "FLTS_HOME": str(machine.home), "FLTS_SERVING_LOG": "off"}
    with (
        mock.patch.dict(os.environ, {**variables, "FLTS_SERVING_CONFIG_HASH": config_hash}),
        TestClient(app()) as client,
    ):
        answer = client.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def _as_grafana_fills_it_in(statement: str) -> str:
    """Its macros end at the first bracket, as Grafana's do."""
    return re.sub(
        r"\$__unixEpochFilter\(([^)]*)\)",
        lambda found: (
            f"{found[1]} >= {time.time() - 86_400:.0f} AND {found[1]} <= {time.time():.0f}"
        ),
        statement,
    )
