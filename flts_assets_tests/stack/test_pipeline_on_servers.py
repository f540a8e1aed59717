"""From raw data to a served forecast with everything on servers, three trainers logging at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.entities import Run

from flts_assets.recipe import load_recipe
from flts_assets.settings import PROJECT
from flts_assets.stores.artifacts import Artifacts
from flts_assets.stores.object_store import MODEL_PROMOTION
from flts_assets.stores.pointer import Pointer
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.machine import Machine

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

TRAINED = {"GRU", "LSTM", "PROPHET"}


def runs_of(server: MlflowServer, config_hash: str) -> list[Run]:
    """The models' MLflow runs."""
    client = MlflowClient(server.url)
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.`flts.config_hash` = '{config_hash}'")
    return [run for run in found if run.info.run_name in TRAINED]


def at_once(runs: list[Run]) -> int:
    """The most runs that were RUNNING at one moment."""
    return max(
        sum(one.info.start_time <= run.info.start_time < one.info.end_time for one in runs)
        for run in runs
    )


@pytest.mark.parametrize(("name", "together"), [("sample50", 2), ("full", 3)])
def test_recipe_runs_from_raw_csv_to_a_served_forecast(
    name: str,
    together: int,
    machine: Machine,
    real_data: Path,
    seaweed: Seaweed,
    postgres: Postgres,
    mlflow_server: MlflowServer,
) -> None:
    recipe = load_recipe(PROJECT / "recipes" / f"{name}.yaml")
    files = [str(real_data / one) for one in (recipe.data.train_file, recipe.data.test_file)]
    machine.output_of("data", "add", *files)
    machine.output_of("run", f"recipes/{name}.yaml", timeout_s=2000)

    # On all rows three trainers were logging at once; each model is whole on S3, by MLflow's server too.
    runs = runs_of(mlflow_server, recipe.config_hash)
    assert {run.info.run_name for run in runs} == TRAINED
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert at_once(runs) >= together
    store = seaweed.store("stack-")
    current = Pointer(store, recipe.config_hash, None).read()
    assert current is not None
    champion = current[0]
    manifest = Artifacts(store).get(champion.model, champion.attempt)
    bucket = mlflow_server.artifacts.removeprefix("s3://")
    listed = store.client.list_objects_v2(Bucket=bucket).get("Contents", ())
    on_s3 = {one["Key"]: one["Size"] for one in listed}
    folder = f"{champion.run_id}/artifacts/{champion.model_type}/"
    logged = {key.split(folder)[1]: size for key, size in on_s3.items() if folder in key}
    assert {name: one.size for name, one in manifest.files.items()}.items() <= logged.items()

    # Runs stand in PostgreSQL, what steps printed on S3, nothing on this machine.
    database = machine.variables["FLTS_POSTGRES_DB"]
    statuses = postgres.execute(
        f"SELECT status FROM runs WHERE run_body LIKE '%{recipe.config_hash}%'", database
    )
    assert statuses == [("SUCCESS",)]
    assert store.client.list_objects_v2(Bucket="stack-compute-logs").get("KeyCount", 0) > 0
    kept = {path.name for path in machine.home.iterdir()}
    assert kept <= {"locks", "logs", "dagster", "workers", "mlflow.lock", "dagster.lock"}

    # Another machine finds all of it and computes nothing.
    elsewhere = Machine(machine.home.with_name("elsewhere"), machine.variables)
    elsewhere.output_of("run", f"recipes/{name}.yaml")
    assert len(runs_of(mlflow_server, recipe.config_hash)) == len(TRAINED)
    assert Pointer(store, recipe.config_hash, None).read() == current

    _is_served(machine, recipe.config_hash, champion.model_type)


def _is_served(machine: Machine, config_hash: str, model_type: str) -> None:
    from flts_assets.serving.server import app

    variables = {**machine.variables, "FLTS_HOME": str(machine.home)}
    with (
        mock.patch.dict(os.environ, {**variables, "FLTS_SERVING_CONFIG_HASH": config_hash}),
        TestClient(app()) as client,
    ):
        assert client.get("/readyz").status_code == 200
        assert json.loads(client.get("/model").text)["champion"]["model_type"] == model_type


def test_doctor_says_where_everything_is_and_shows_no_secret(machine: Machine) -> None:
    told = machine.output_of("doctor")
    assert machine.variables["AWS_ENDPOINT_URL"] in told
    assert machine.variables["MLFLOW_TRACKING_URI"] in told
    assert "FAIL" not in told
    shown = told + machine.output_of("env")
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "FLTS_POSTGRES_PASSWORD"):
        assert machine.variables[name] not in shown
        assert name not in shown


def test_two_machines_may_use_a_new_deployment_first_at_the_same_moment(
    machine: Machine, postgres: Postgres, seaweed: Seaweed, bucket_prefix: str
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    fresh = {**machine.variables, **seaweed.environment(bucket_prefix)}
    fresh.update(postgres.environment(postgres.database()))
    machines = [Machine(machine.home / f"{number}", fresh) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda one: one.flts("recipe", "add", "recipes/sample50.yaml"), machines)
        )
    assert [one.returncode for one in done] == [0] * 4, [one.stderr for one in done]
    found = postgres.execute("SELECT count(*) FROM dynamic_partitions", fresh["FLTS_POSTGRES_DB"])
    assert found == [(1,)]


def test_database_that_is_not_there_is_one_clear_line(machine: Machine) -> None:
    elsewhere = Machine(machine.home, {**machine.variables, "FLTS_POSTGRES_DB": "nowhere"})
    done = elsewhere.flts("run", "recipes/sample50.yaml")
    assert done.returncode == 1
    assert "Dagster's storage cannot be opened" in done.stderr
    assert machine.variables["FLTS_POSTGRES_PASSWORD"] not in done.stderr + done.stdout


def test_pointer_of_one_deployment_is_not_seen_under_another_prefix(
    machine: Machine, seaweed: Seaweed, bucket_prefix: str
) -> None:
    assert list(seaweed.store(bucket_prefix).list(MODEL_PROMOTION)) == []
