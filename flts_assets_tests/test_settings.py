from __future__ import annotations

import os
from pathlib import Path

import pytest

from flts_assets import settings
from flts_assets.errors import EnvironmentValueError
from flts_assets.settings import PROJECT, Settings


def test_everything_lives_under_one_home_when_nothing_else_is_set(tmp_path: Path) -> None:
    found = Settings.from_environment({"FLTS_HOME": str(tmp_path)})
    assert found.home == tmp_path
    assert found.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert found.mlflow_artifacts == tmp_path / "mlflow" / "artifacts"
    assert found.dagster_storage == tmp_path / "dagster"


def test_home_of_a_checkout_stands_beside_its_dagster_yaml() -> None:
    assert Settings.from_environment({}).home == PROJECT / ".flts"


def test_home_outside_a_checkout_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PROJECT", tmp_path / "site-packages")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.from_environment({}).home == tmp_path / ".flts"
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert "DAGSTER_HOME" not in Settings.from_environment({}).exported()


@pytest.mark.parametrize("text", ["~/data", "here/../data", "data", " data "])
def test_home_becomes_one_absolute_path_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({"FLTS_HOME": text}).home == tmp_path / "data"


def test_tracking_uri_is_taken_from_the_environment() -> None:
    found = Settings.from_environment({"MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    assert found.tracking_uri == "http://mlflow:5000"


@pytest.mark.parametrize("text", ["", "  "])
@pytest.mark.parametrize(
    "name",
    [
        *("FLTS_HOME", "MLFLOW_TRACKING_URI", "FLTS_STEP_CONCURRENCY", "FLTS_STEP_START"),
        *("FLTS_OBJECT_STORE", "FLTS_S3_BUCKET_PREFIX", "FLTS_S3_TIMEOUT_S", "AWS_REGION"),
        *("FLTS_HOME", "FLTS_RECIPES_FOLDER", "MLFLOW_TRACKING_URI"),
        *("FLTS_STEP_CONCURRENCY", "FLTS_STEP_START", "FLTS_CELERY_BROKER_URL"),
        *("FLTS_CELERY_BACKEND_URL", "FLTS_CELERY_LOST_AFTER_S"),
    ],
)
def test_empty_variable_is_an_error_that_names_it(name: str, text: str) -> None:
    with pytest.raises(EnvironmentValueError, match=f"environment variable {name} is empty.*unset"):
        Settings.from_environment({name: text})


@pytest.mark.parametrize("text", ["0", "65", "-1", "2.0", "two", "²", "1e1"])
def test_concurrency_that_is_no_number_of_steps_is_an_error_that_says_what_is_allowed(
    text: str,
) -> None:
    with pytest.raises(
        EnvironmentValueError, match=r"FLTS_STEP_CONCURRENCY.*from 1 to 64"
    ) as caught:
        Settings.from_environment({"FLTS_STEP_CONCURRENCY": text})
    assert caught.value.received == text


def test_unknown_way_to_start_steps_is_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_STEP_START.*'fork'.*forkserver, spawn"):
        Settings.from_environment({"FLTS_STEP_START": "fork"})


def test_address_of_the_queue_is_passed_on_only_without_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLTS_CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
    monkeypatch.setenv("FLTS_CELERY_BACKEND_URL", "rediss://:s3cret@127.0.0.1:6379/1")
    found = Settings.from_environment()
    assert found.celery is not None
    assert found.exported()["FLTS_CELERY_BROKER_URL"] == "redis://127.0.0.1:6379/0"
    assert "s3cret" not in f"{found} {found.exported()}"


@pytest.mark.parametrize(
    "text", ["http://user:s3cret@mlflow:5000", "postgresql+psycopg2://mlflow:s3cret@host/mlflow"]
)
def test_address_of_mlflow_holds_no_password_for_it_is_shown(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        Settings.from_environment({"MLFLOW_TRACKING_URI": text})
    assert "s3cret" not in str(caught.value)
    for allowed in ("http://mlflow:5000", "postgresql+psycopg2://mlflow@host:5432/mlflow"):
        assert Settings.from_environment({"MLFLOW_TRACKING_URI": allowed}).tracking_uri == allowed


@pytest.mark.parametrize("text", ["amqp://user:s3cret@rabbit", "localhost:6379"])
def test_queue_that_is_no_redis_is_an_error_that_shows_no_password(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_CELERY_BROKER_URL.*redis://") as caught:
        Settings.from_environment({"FLTS_CELERY_BROKER_URL": text})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["5", "86401", "1.5", "soon"])
def test_silence_that_is_no_number_of_seconds_is_an_error(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_CELERY_LOST_AFTER_S.*from 6 to 86400"):
        Settings.from_environment({"FLTS_CELERY_LOST_AFTER_S": text})


def test_results_stand_where_steps_wait_unless_told_otherwise() -> None:
    broker, backend = "redis://one:6379/0", "redis://two:6379/0"
    alone = Settings.from_environment({"FLTS_CELERY_BROKER_URL": broker}).celery
    both = Settings.from_environment(
        {"FLTS_CELERY_BROKER_URL": broker, "FLTS_CELERY_BACKEND_URL": backend}
    ).celery
    assert alone is not None
    assert both is not None
    assert (alone.backend_url, both.backend_url) == (broker, backend)


@pytest.mark.parametrize(
    ("executor", "limit"), [("multiprocess", 2), ("celery", None), ("k8s", None)]
)
def test_trainers_are_limited_across_runs_unless_each_worker_limits_its_own(
    executor: str, limit: int | None
) -> None:
    environ = {"FLTS_EXECUTOR": executor, "FLTS_STEP_CONCURRENCY": "2"}
    assert Settings.from_environment(environ).trainers == limit


@pytest.mark.parametrize(("cores", "steps"), [(1, 1), (2, 2), (3, 3), (64, 3)])
def test_as_many_steps_run_at_once_as_there_are_cores_and_models(
    monkeypatch: pytest.MonkeyPatch, cores: int, steps: int
) -> None:
    monkeypatch.setattr(settings, "cores", lambda: cores)
    assert Settings.from_environment({}).step_concurrency == steps


@pytest.mark.parametrize("text", ["1", "64", " 7 "])
def test_concurrency_can_be_set(text: str) -> None:
    found = Settings.from_environment({"FLTS_STEP_CONCURRENCY": text})
    assert found.step_concurrency == int(text)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 63])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 64])
def test_all_steps_together_never_use_more_threads_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, steps: int
) -> None:
    monkeypatch.setattr(settings, "cores", lambda: cores)
    threads = Settings.from_environment({"FLTS_STEP_CONCURRENCY": str(steps)}).step_threads
    assert threads >= 1
    assert threads * steps <= max(cores, steps)
    assert (threads + 1) * steps > cores, "no core is left idle that a step could use"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("unknown\n", 8),
        (None, 8),
    ],
)
def test_cores_are_those_that_affinity_and_container_quota_both_allow(
    monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    def read_text(path: Path) -> str:
        assert path == Path("/sys/fs/cgroup/cpu.max")
        if quota is None:
            raise FileNotFoundError(path)
        return quota

    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(Path, "read_text", read_text)
    assert settings.cores.__wrapped__() == cores


def test_exported_variables_lead_dagsters_own_commands_to_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    found = Settings.from_environment({"FLTS_HOME": str(tmp_path)})
    exported = found.exported()
    assert exported["FLTS_DAGSTER_STORAGE"] == str(tmp_path / "dagster")
    assert exported["DAGSTER_HOME"] == str(PROJECT)
    assert exported["DAGSTER_DISABLE_TELEMETRY"] == "1"
    assert Settings.from_environment(exported) == found


def test_recipes_folder_can_be_another_and_is_handed_on_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.from_environment({}).recipes_folder == PROJECT / "recipes"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLTS_RECIPES_FOLDER", "mine")
    found = Settings.from_environment()
    assert found.recipes_folder == tmp_path / "mine"
    assert found.exported()["FLTS_RECIPES_FOLDER"] == str(tmp_path / "mine")


def test_dagster_home_of_the_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    exported = Settings.from_environment({}).exported()
    assert {**os.environ, **exported}["DAGSTER_HOME"] == str(tmp_path)


def test_the_prediction_log_is_kept_for_90_days_unless_told_otherwise() -> None:
    assert Settings.from_environment({}).inference_log_days == 90
    assert Settings.from_environment({"FLTS_INFERENCE_LOG_DAYS": "7"}).inference_log_days == 7


@pytest.mark.parametrize("text", ["", "0", "-1", "7.5", "a week", "9" * 30])
def test_days_of_the_prediction_log_are_a_whole_number(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match="FLTS_INFERENCE_LOG_DAYS"):
        Settings.from_environment({"FLTS_INFERENCE_LOG_DAYS": text})


def test_objects_stand_in_the_home_when_nothing_else_is_set() -> None:
    found = Settings.from_environment({})
    assert (found.object_store, found.bucket_prefix) == ("directory", "")
    assert not [name for name in found.exported() if name.startswith("AWS_")]


def test_unknown_object_store_is_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_OBJECT_STORE.*'gcs'.*directory, s3"):
        Settings.from_environment({"FLTS_OBJECT_STORE": "gcs"})


@pytest.mark.parametrize("text", ["Upper-", "-dash", "under_score", "a" * 41, "a/b", "dot."])
def test_prefix_that_makes_no_bucket_name_is_an_error(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_S3_BUCKET_PREFIX.*lower-case"):
        Settings.from_environment({"FLTS_S3_BUCKET_PREFIX": text})


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "601", "soon"])
def test_timeout_that_bounds_nothing_is_an_error(text: str) -> None:
    with pytest.raises(EnvironmentValueError, match=r"FLTS_S3_TIMEOUT_S.*from 0\.1 to 600"):
        Settings.from_environment({"FLTS_S3_TIMEOUT_S": text})


def test_exported_variables_lead_to_the_same_buckets_and_hold_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "FLTS_OBJECT_STORE": "s3",
        "FLTS_S3_BUCKET_PREFIX": "acme-",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "an-access-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "FLTS_POSTGRES_PASSWORD": "another-secret",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = Settings.from_environment()
    exported = found.exported()
    assert Settings.from_environment(exported) == found
    assert exported["FLTS_COMPUTE_LOGS_BUCKET"] == "acme-compute-logs"
    assert exported["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert exported["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert not {"an-access-key", "a-secret", "another-secret"} & set(exported.values())
