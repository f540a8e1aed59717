from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import numpy as np
import pytest

from flts_assets.automation.registration import register
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.forecasting.forecaster import Forecaster, load_forecaster
from flts_assets.recipe import RAW_COLUMNS, Recipe
from flts_assets.stores.object_store import DATASET, INFERENCE_LOGS
from flts_assets.stores.pointer import Promotion
from flts_assets.stores.prediction_records import Answerer, PredictionRecord, to_jsonl
from flts_assets_tests.assets.deployment import Deployment, Run
from flts_assets_tests.forecasting.datasets import demo_recipe

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",  # MLflow's own
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
)

TRAIN, TEST = demo_cell(5040, 3000)
TARGETS = ("down", "up")
RECIPE = demo_recipe(
    models=["TREES"],
    window={"size": 6, "horizon": 2, "targets": list(TARGETS)},
    intervals={"levels": [0.9]},
)
PNG = "data:image/png;base64,iVBOR"
Floats = np.ndarray


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Holds a champion of RECIPE."""
    deployment = Deployment(tmp_path_factory.mktemp("monitored"), in_memory=True)
    for name, frame in (("DemoCell", TRAIN), ("DemoCell_test", TEST)):
        deployment.platform.store.put(DATASET, f"{name}.csv", to_csv(frame))
    with deployment.instance:
        run = deployment.run(RECIPE)
        assert run.result.success, run.failures
        yield deployment


@pytest.fixture(autouse=True)
def empty_log(deployment: Deployment) -> None:
    store = deployment.platform.store
    for head in list(store.list(INFERENCE_LOGS)):
        store.delete(INFERENCE_LOGS, head.key)


def champion_of(deployment: Deployment) -> tuple[Promotion, Forecaster]:
    current = deployment.platform.pointer(RECIPE.config_hash).read()
    assert current is not None
    promotion = current[0]
    artifacts = deployment.platform.artifacts
    files = artifacts.read_all(artifacts.get(promotion.model, promotion.attempt))
    return promotion, load_forecaster(files, 1)


def serve_test_rows(
    deployment: Deployment,
    windows: slice = slice(None),
    distort: Callable[[Floats], Floats] = lambda forecasts: forecasts,
    send: Callable[[Floats], Floats] = lambda row: row,
    run_id: str | None = None,
    steps: int = 2,
) -> None:
    """Log what a service answers that is asked after each window of the test rows."""
    promotion, forecaster = champion_of(deployment)
    size = forecaster.rows_needed
    values, times = TEST[list(RAW_COLUMNS)].to_numpy(), TEST.index.to_numpy()
    ends = np.arange(size, len(TEST) - 1)[windows]
    seen = np.stack([values[end - size : end] for end in ends])
    moments = np.stack([times[end - size : end] for end in ends])
    forecasts = distort(forecaster.forecast_after(seen, moments, steps))
    by = Answerer("global", run_id or promotion.run_id, RECIPE.config_hash, "TREES", "DemoCell")
    columns = (*TARGETS, *(f"{name}-{end}-90" for name in TARGETS for end in ("lo", "hi")))
    grid = times[1] - times[0]
    records = []
    for end, forecast in zip(ends, forecasts, strict=True):
        last = times[end - 1]
        wide = [edge for place in range(2) for edge in (0 * forecast[:, place], [1e12] * steps)]
        records.append(
            PredictionRecord(
                1.7e9,
                by,
                last,
                send(values[end - 1]),
                last + np.arange(1, steps + 1) * grid,
                columns,
                np.column_stack([forecast, *wide]),
                0.001,
            )
        )
    key = records[0].key("test", len(list(deployment.platform.store.list(INFERENCE_LOGS))))
    deployment.platform.store.create(INFERENCE_LOGS, key, to_jsonl(records))


def monitor(deployment: Deployment, recipe: Recipe = RECIPE) -> Run:
    return deployment.run_partition(recipe.config_hash, job="monitoring")


def checks(run: Run) -> dict[str, tuple[bool, str]]:
    assert run.result.success, run.failures
    return {
        one.check_name: (one.passed, one.description or "")
        for one in run.result.get_asset_check_evaluations()
    }


def rows_of(value: dg.TableMetadataValue) -> list[dict[str, Any]]:
    return [dict(record.data) for record in value.records]


def test_before_the_first_forecast_both_checks_pass_and_say_why(deployment: Deployment) -> None:
    run = monitor(deployment)
    assert checks(run) == {
        "live_error": (True, "no logged forecast whose time was measured yet"),
        "input_drift": (True, "no forecast logged yet"),
    }
    assert run.metadata("prediction_log")["logged_forecasts"] == 0


def test_served_test_rows_have_the_leaderboards_test_score(deployment: Deployment) -> None:
    serve_test_rows(deployment)
    run = monitor(deployment)
    told = run.metadata("prediction_log")
    promotion, _ = champion_of(deployment)
    assert told["live_score"] == pytest.approx(promotion.score, rel=1e-9)
    errors = rows_of(told["live error"])
    assert [row["measure"] for row in errors] == ["score", "rmse", "mae", "mse"]
    assert all(row["live"] == row["test"] > 0 for row in errors)
    assert rows_of(told["coverage"]) == [{"level": 0.9, "inside": 1.0}]
    assert [row["column"] for row in rows_of(told["input drift"])] == list(RAW_COLUMNS)
    assert PNG in told["drift"]
    assert PNG in told["live forecast versus actual"]
    score = f"{promotion.score:.4g}"
    assert checks(run)["live_error"] == (True, f"live score {score}, test score {score}")


def test_worse_forecasts_than_the_test_score_allows_fail_the_check(deployment: Deployment) -> None:
    serve_test_rows(deployment, distort=lambda forecasts: forecasts * 0.2)
    passed, told = checks(monitor(deployment))["live_error"]
    assert not passed
    assert "test score" in told


def test_moved_inputs_fail_the_check_and_name_the_column(deployment: Deployment) -> None:
    up = RAW_COLUMNS.index("up")
    serve_test_rows(deployment, send=lambda row: np.where(np.arange(11) == up, row * 30, row))
    passed, told = checks(monitor(deployment))["input_drift"]
    assert not passed
    assert told.endswith("of up")


def test_an_hour_of_forecasts_is_too_little_to_judge_by(deployment: Deployment) -> None:
    serve_test_rows(
        deployment,
        slice(0, 30),
        distort=lambda forecasts: forecasts * 0.2,
        send=lambda row: row * 9,
    )
    found = checks(monitor(deployment))
    assert all(passed for passed, _ in found.values())
    assert all(told.endswith("; too little to judge by") for _, told in found.values())


def test_what_an_earlier_champion_forecast_is_not_blamed_on_this_one(
    deployment: Deployment,
) -> None:
    serve_test_rows(deployment, distort=lambda forecasts: forecasts * 0.2, run_id="before")
    passed, told = checks(monitor(deployment))["live_error"]
    assert (passed, told) == (True, "no logged forecast whose time was measured yet")


def test_data_version_changes_with_the_log_alone(deployment: Deployment) -> None:
    serve_test_rows(deployment, slice(0, 10))
    first, again = (monitor(deployment).data_versions for _ in range(2))
    serve_test_rows(deployment, slice(10, 20))
    assert first == again
    assert monitor(deployment).data_versions != first


def test_without_a_champion_it_says_what_to_do(deployment: Deployment) -> None:
    other = RECIPE.updated({"name": "never-run", "window": {"size": 7}})
    register(other, deployment.platform.registry, deployment.instance)
    run = monitor(deployment, other)
    (message,) = run.failures.values()
    assert "none was promoted; remedy: " in message


def test_both_checks_warn_and_block_nothing(deployment: Deployment) -> None:
    evaluations = monitor(deployment).result.get_asset_check_evaluations()
    assert {one.severity for one in evaluations} == {dg.AssetCheckSeverity.WARN}
