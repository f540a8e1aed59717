"""The graph as it stands is in asset_graph.json: a change of it shows in review.

If the change is meant: python -m flts_assets_tests.test_definitions
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from flts_assets import settings
from flts_assets.automation.executor import PRELOAD_MODULE, step_executor
from flts_assets.definitions import defs
from flts_assets.settings import PROJECT, Settings

SNAPSHOT = Path(__file__).with_name("asset_graph.json")
HEAVY = ("torch", "prophet", "mlflow", "dagster_mlflow", "onnxruntime", "sklearn", "matplotlib")


def asset_graph() -> dict[str, dict[str, Any]]:
    graph = defs.resolve_asset_graph()
    nodes = [graph.get(key) for key in graph.toposorted_asset_keys]
    return {
        node.key.to_user_string(): {
            "description": (node.description or "").splitlines()[0],
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "group": node.group_name,
            "owners": list(node.owners),
            "kinds": sorted(node.kinds),
            "partitions": str(node.partitions_def),
            "code_version": node.code_version,
            "automation": node.automation_condition and node.automation_condition.get_label(),
        }
        for node in nodes
    }


def test_asset_graph_is_the_one_that_was_reviewed() -> None:
    assert asset_graph() == json.loads(SNAPSHOT.read_text())


def test_placeholders_in_descriptions_are_code() -> None:
    """The web UI renders descriptions as Markdown: a bare <name> counts as a tag and is not shown."""
    for node in defs.resolve_asset_graph().asset_nodes:
        outside_code = "".join((node.description or "").split("`")[::2])
        assert "<" not in outside_code, node.key


def test_main_job_materialises_every_asset_up_to_the_promotion_of_one_partition() -> None:
    job = defs.resolve_job_def("pipeline")
    assert job.asset_layer.executable_asset_keys == {
        dg.AssetKey(name)
        for name, asset in json.loads(SNAPSHOT.read_text()).items()
        if asset["group"] != "serving" and name != "champions"
    }
    assert isinstance(job.partitions_def, dg.DynamicPartitionsDefinition)
    assert job.partitions_def.name == "config_hash"


def test_monitoring_has_a_job_of_its_own() -> None:
    job = defs.resolve_job_def("monitoring")
    assert job.asset_layer.executable_asset_keys == {dg.AssetKey("prediction_log")}


def test_automation_runs_from_the_start_and_every_sensor_does_its_part() -> None:
    repository = defs.get_repository_def()
    assert {one.name: one.default_status.value for one in repository.sensor_defs} == {
        "raw_data_sensor": "RUNNING",
        "recipes_sensor": "RUNNING",
        "keep_up_to_date": "RUNNING",
        "ended_runs": "RUNNING",
        "lost_runs": "RUNNING",
    }
    assert {one.name: one.default_status.value for one in repository.schedule_defs} == {
        "hourly_monitoring": "RUNNING",
        "daily_champions_look": "RUNNING",
    }


@pytest.mark.slow
def test_dagster_finds_the_definitions_valid(home: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate"]
    done = subprocess.run(
        [*command, "-w", str(PROJECT / "workspace.yaml")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


@pytest.mark.slow
def test_definitions_load_no_heavy_library(home: Path) -> None:
    script = f"import flts_assets.definitions, sys; print([*sys.modules.keys() & {set(HEAVY)}])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_executor_runs_as_many_steps_at_once_as_the_settings_allow(start: str, steps: int) -> None:
    environ = {"FLTS_STEP_CONCURRENCY": str(steps), "FLTS_STEP_START": start}
    executor = step_executor(Settings.from_environment(environ))
    config = executor.apply_config_mapping({}).value["config"]
    assert config["max_concurrent"] == steps
    assert list(config["start_method"]) == [start]


def test_fork_server_preloads_what_steps_need() -> None:
    executor = step_executor(Settings.from_environment({"FLTS_STEP_START": "forkserver"}))
    config = executor.apply_config_mapping({}).value["config"]
    assert config["start_method"]["forkserver"]["preload_modules"] == [PRELOAD_MODULE]


@pytest.mark.parametrize(("cores", "steps"), [(1, 1), (2, 1), (2, 2), (2, 3), (4, 3), (64, 5)])
def test_steps_of_a_run_never_want_more_threads_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, steps: int
) -> None:
    monkeypatch.setattr(settings, "cores", lambda: cores)
    found = Settings.from_environment({"FLTS_STEP_CONCURRENCY": str(steps)})
    at_once = step_executor(found).apply_config_mapping({}).value["config"]["max_concurrent"]
    assert found.step_threads * at_once <= max(cores, at_once)


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(asset_graph(), indent=1) + "\n")
