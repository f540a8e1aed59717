"""Steps in Celery workers: what a run and a worker are told."""

from __future__ import annotations

import pytest

from flts_assets.automation.celery_config import celery_config
from flts_assets.automation.executor import step_executor
from flts_assets.errors import EnvironmentValueError
from flts_assets.settings import CelerySettings, Settings

ADDRESS = "redis://:s3cret@127.0.0.1:6379/0"


def test_workers_without_a_queue_are_an_error_that_names_the_variable() -> None:
    with pytest.raises(EnvironmentValueError, match="FLTS_CELERY_BROKER_URL is not set"):
        step_executor(Settings.from_environment({"FLTS_EXECUTOR": "celery"}))


def test_executor_is_celerys() -> None:
    environ = {"FLTS_EXECUTOR": "celery", "FLTS_CELERY_BROKER_URL": ADDRESS}
    executor = step_executor(Settings.from_environment(environ))
    assert executor.name == "celery"


def test_a_step_is_looked_after_three_times_before_it_counts_as_lost() -> None:
    config = celery_config(CelerySettings(ADDRESS, ADDRESS, lost_after_s=30))
    options = config["broker_transport_options"]
    assert options["visibility_timeout"] == 30
    assert options["unacked_restore_interval"] * options["unacked_restore_throttle"] == 10
    assert config["task_acks_late"] is True
