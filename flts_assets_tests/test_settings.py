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
    "name", ["FLTS_HOME", "MLFLOW_TRACKING_URI", "FLTS_STEP_CONCURRENCY", "FLTS_STEP_START"]
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


def test_dagster_home_of_the_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    exported = Settings.from_environment({}).exported()
    assert {**os.environ, **exported}["DAGSTER_HOME"] == str(tmp_path)
