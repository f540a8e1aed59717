"""Dagster's instance in production and on a desk: they differ in where things stand, in no rule."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from flts_assets.settings import PROJECT
from flts_assets_tests.docker.containers import DOCKER

PLACES = {"storage", "compute_logs"}
RULES = {
    *("local_artifact_storage", "run_launcher", "run_monitoring", "run_retries", "concurrency"),
    *("retention", "telemetry", "nux"),
}


@pytest.fixture(scope="module")
def desk() -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT / "dagster.yaml").read_text()))


@pytest.fixture(scope="module")
def production() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "dagster.yaml").read_text()))


def test_both_instances_say_the_same_things(
    desk: dict[str, Any], production: dict[str, Any]
) -> None:
    assert desk.keys() == production.keys() == PLACES | RULES


@pytest.mark.parametrize("key", sorted(RULES))
def test_rule_is_the_same_in_production(
    key: str, desk: dict[str, Any], production: dict[str, Any]
) -> None:
    assert production[key] == desk[key]
