"""Each check passes for honest work, fails for its own fault alone, and stops what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from flts_assets.assets import champion_checks, leaderboard, processed
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.definitions import defs
from flts_assets.forecasting.dataset import Fitted
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.forecasting.metrics import Scores
from flts_assets.forecasting.rows import FrameRows
from flts_assets.forecasting.sampling import Sampled
from flts_assets.forecasting.verification import Rescored
from flts_assets.recipe import Recipe
from flts_assets.stores.object_store import DATASET, MODEL_PROMOTION
from flts_assets_tests.assets.deployment import Deployment, Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",  # MLflow's own
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow's own
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
)

RECIPE = Recipe.model_validate(
    {
        "name": "checked",
        "data": {"train_file": "Cell.csv", "test_file": "Cell_test.csv"},
        "models": ["GRU"],
        "recurrent": {"hidden_size": 4, "num_layers": 1, "max_epochs": 2},
    }
)
TRAIN, TEST = demo_cell(60, 40)
OF_STAGES = {
    "raw_data": {"schema_and_grid", "train_test_continuity", "empty_cells"},
    "processed_data": {"row_counts", "parquet_metadata", "no_leakage"},
    **{stage.name: {"weights_reproduce_score"} for stage in MODEL_STAGES.values()},
    "leaderboard": {"scores_reproduced", "beats_persistence", "interval_coverage"},
    "promoted_model": {
        *("gate_decision", "pointer_resolves", "alias_mirrors_pointer"),
        *("champion_reproduces_score", "champion_is_fresh"),
    },
    "verification_report": {"all_claims_hold"},
}
BLOCKING = {
    *("schema_and_grid", "train_test_continuity"),
    *("row_counts", "parquet_metadata", "no_leakage"),
    *("weights_reproduce_score", "scores_reproduced", "gate_decision"),
}


def evaluations(run: Run) -> dict[str, dict[str, dg.AssetCheckEvaluation]]:
    """asset -> check -> result, as they stand in the event log."""
    found: dict[str, dict[str, dg.AssetCheckEvaluation]] = {}
    for one in run.result.get_asset_check_evaluations():
        found.setdefault(one.asset_key.to_user_string(), {})[one.check_name] = one
    return found


def failed(run: Run) -> dict[str, str]:
    return {
        name: str(one.description)
        for of_asset in evaluations(run).values()
        for name, one in of_asset.items()
        if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR
    }


def value(evaluation: dg.AssetCheckEvaluation, name: str) -> Any:
    return evaluation.metadata[name].value


def put(deployment: Deployment, train: pd.DataFrame, test: pd.DataFrame) -> None:
    for name, frame in (("Cell.csv", train), ("Cell_test.csv", test)):
        deployment.platform.store.put(DATASET, name, to_csv(frame))


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("checks"))
    put(deployment, TRAIN, TEST)
    with deployment.instance:
        yield deployment


@pytest.fixture(scope="module")
def honest(deployment: Deployment) -> Run:
    run = deployment.run(RECIPE)
    assert run.result.success, run.failures
    return run


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Deployment]:
    """Another deployment, where nothing was computed yet."""
    deployment = Deployment(tmp_path, in_memory=True)
    put(deployment, TRAIN, TEST)
    with deployment.instance:
        yield deployment


def stage_checks(run: Run) -> dict[str, set[str]]:
    return {asset: set(found) for asset, found in evaluations(run).items()}


def test_each_stage_reports_its_checks_and_the_next_run_reports_them_again(
    deployment: Deployment, honest: Run
) -> None:
    assert stage_checks(honest) == OF_STAGES
    assert failed(honest) == {}
    again = deployment.run(RECIPE)
    assert again.metadata("gru_model")["cached"] is True
    assert stage_checks(again) == OF_STAGES
    assert failed(again) == {}


def test_each_check_says_which_recipe_it_speaks_of(honest: Run) -> None:
    for of_asset in evaluations(honest).values():
        for one in of_asset.values():
            assert value(one, "config_hash") == RECIPE.config_hash


def test_checks_block_where_the_next_step_would_be_wrong() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == BLOCKING


def test_stage_that_the_recipe_does_without_has_nothing_to_check(honest: Run) -> None:
    check = evaluations(honest)["lstm_model"]["weights_reproduce_score"]
    assert check.passed
    assert str(check.description).startswith("nothing to check for this recipe")


# --- raw data ------------------------------------------------------------------------------------


def test_bad_raw_file_fails_a_visible_check_with_its_place_and_then_the_step(
    fresh: Deployment,
) -> None:
    lines = to_csv(TRAIN).splitlines()
    lines[7] = lines[7].replace(b",", b",high,", 1)
    fresh.platform.store.put(DATASET, "Cell.csv", b"\n".join(lines))
    run = fresh.run(RECIPE)
    assert run.failures.keys() == {"raw_data"}
    check = evaluations(run)["raw_data"]["schema_and_grid"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.description == run.failures["raw_data"]
    assert (value(check, "file"), value(check, "row")) == ("Cell.csv", 7)
    assert value(check, "remedy") in str(check.description)
    assert evaluations(run).keys() == {"raw_data"}
    assert run.materialized == {}
    (line,) = [one for one in run.events if one["level"] != "info"]
    assert (line["event"], line["message"]) == ("stage_failed", check.description)
    retries = run.result.filter_events(lambda one: one.event_type_value == "STEP_UP_FOR_RETRY")
    assert list(retries) == []


def test_bad_raw_file_is_shown_as_failed_by_the_instance(fresh: Deployment) -> None:
    fresh.platform.store.delete(DATASET, "Cell_test.csv")
    fresh.run(RECIPE, "raw_data")
    key = dg.AssetCheckKey(dg.AssetKey("raw_data"), "schema_and_grid")
    (record,) = fresh.instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert record.status.value == "FAILED"


def test_test_file_that_begins_too_early_fails_continuity(fresh: Deployment) -> None:
    put(fresh, TRAIN, pd.concat([TRAIN.iloc[-1:], TEST]))
    run = fresh.run(RECIPE)
    assert "begins before the train file ends" in failed(run)["train_test_continuity"]
    assert run.failures.keys() == {"raw_data"}
    assert run.materialized == {}


def test_rows_missing_between_the_files_warn_and_stop_nothing(fresh: Deployment) -> None:
    put(fresh, TRAIN, TEST.iloc[3:])
    run = fresh.run(RECIPE, "raw_data", "processed_data")
    assert run.result.success, run.failures
    check = evaluations(run)["raw_data"]["train_test_continuity"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert value(check, "missing_rows") == 3


def test_empty_cells_are_counted_by_column_and_warn_above_the_recipes_share(
    fresh: Deployment,
) -> None:
    train = TRAIN.copy()
    train.iloc[:30, train.columns.get_loc("mcs_up")] = np.nan
    put(fresh, train, TEST)
    check = evaluations(fresh.run(RECIPE, "raw_data"))["raw_data"]["empty_cells"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert value(check, "empty_shares") == {"train mcs_up": 0.5}
    assert check.description == "train column mcs_up: 50.00% empty, allowed 33%"


# --- processed data ------------------------------------------------------------------------------


def assert_stops_after(run: Run, stage: str, check: str, told: str) -> None:
    """The check failed, its stage's step with it, and nothing after it began."""
    assert failed(run).keys() == {check}
    assert told in failed(run)[check]
    steps = [str(one.step_key) for one in run.result.filter_events(lambda one: one.is_step_start)]
    assert steps[-1] == stage
    assert not run.result.success
    (line,) = run.named("check_failed")
    assert (line["check"], line["severity"]) == (check, "ERROR")


def test_parquet_that_names_another_recipe_stops_the_run(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RECIPE.updated({"extra": {"hash_salt": "other"}})
    write = processed.write_processed
    monkeypatch.setattr(
        processed,
        "write_processed",
        lambda target, rows, fitted, _recipe: write(target, rows, fitted, other),
    )
    told = "train.parquet: its metadata says config_hash"
    assert_stops_after(fresh.run(RECIPE), "processed_data", "parquet_metadata", told)


def test_rows_that_the_recipe_did_not_ask_for_stop_the_run(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = processed.sampled_places

    def one_less(total: int, rows: int, data: Any, file: str) -> Any:
        return places(total, rows, data, file)[1 if file == RECIPE.data.train_file else 0 :]

    monkeypatch.setattr(processed, "sampled_places", one_less)
    told = "train: 59 rows stand there, the recipe asks for 60"
    assert_stops_after(fresh.run(RECIPE), "processed_data", "row_counts", told)


def test_scaling_that_knew_the_test_rows_stops_the_run(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = processed.fit

    def leaking(train: Sampled, test: Sampled, recipe: Recipe) -> Fitted:
        both = pd.concat([one.rows.span(0, len(one.rows)) for one in (train, test)])
        known = fit(Sampled.all_of(FrameRows(both)), test, recipe)
        return replace(fit(train, test, recipe), preprocessing=known.preprocessing)

    monkeypatch.setattr(processed, "fit", leaking)
    told = "not scaled by numbers fitted on the train rows"
    assert_stops_after(fresh.run(RECIPE), "processed_data", "no_leakage", told)


# --- models and leaderboard ----------------------------------------------------------------------


def test_score_in_mlflow_that_the_weights_do_not_give_stops_the_next_run(
    deployment: Deployment, honest: Run
) -> None:
    client = deployment.platform.tracking.client
    run_id = honest.metadata("gru_model")["mlflow_run_id"]
    logged = client.get_run(run_id).data.metrics["validation_score"]
    client.log_metric(run_id, "validation_score", logged * 0.9)
    run = deployment.run(RECIPE)
    client.log_metric(run_id, "validation_score", logged)
    assert failed(run).keys() == {"weights_reproduce_score"}
    assert not run.result.success
    assert "leaderboard" not in run.materialized


def test_scores_that_the_stored_forecasts_do_not_give_stop_the_run(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_results = leaderboard.forecast_frame
    monkeypatch.setattr(
        leaderboard,
        "forecast_frame",
        lambda data, results: of_results(data, results).assign(GRU=0.0),
    )
    told = "other than recorded: GRU"
    run = fresh.run(RECIPE)
    assert failed(run).keys() == {"scores_reproduced"}
    assert told in failed(run)["scores_reproduced"]
    assert "promoted_model" not in run.materialized


def test_model_that_is_no_better_than_persistence_warns_with_its_difference(honest: Run) -> None:
    found = evaluations(honest)["leaderboard"]["beats_persistence"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(found.description).startswith("GRU, skill ")
    covered = evaluations(honest)["leaderboard"]["interval_coverage"]
    assert covered.severity == dg.AssetCheckSeverity.WARN
    assert "inside the 90% interval" in str(covered.description)


def test_interval_that_the_recipe_asks_for_and_the_best_model_lacks_fails_coverage() -> None:
    def check(coverage: dict[str, float], *levels: float) -> dg.AssetCheckResult:
        scores = Scores(
            rmse=1.0, mae=1.0, mse=1.0, score=1.0, nrmse=None, raw_rmse={}, forecasts=100
        )
        found = Rescored(scores, coverage, values=100)
        return leaderboard._coverage_check("GRU", found, levels)

    assert check({"0.9": 0.9}, 0.9).passed
    assert check({}).passed
    for missing in (check({}, 0.9), check({"0.5": 0.5}, 0.5, 0.9)):
        assert not missing.passed
        assert str(missing.description).endswith("no 90% interval, which the recipe asks for")


# --- promotion -----------------------------------------------------------------------------------


def test_gate_that_refuses_fails_its_check_and_stops_the_run(deployment: Deployment) -> None:
    rules = {"promotion": {"must_beat_persistence": True}, "recurrent": {"learning_rate": 1e-9}}
    run = deployment.run(RECIPE.updated(rules))
    assert failed(run)["gate_decision"] == run.failures["promoted_model"]
    assert "verification_report" not in run.materialized


def champions(deployment: Deployment, config_hash: str | None = None) -> Run:
    """The champion checks alone, as *Execute* in the web UI runs them."""
    keys = [dg.AssetCheckKey(dg.AssetKey("promoted_model"), name) for name in champion_checks._WHAT]
    job = dg.define_asset_job("ask", selection=dg.AssetSelection.checks(*keys))
    with deployment.environment():
        resolved = dg.Definitions(
            assets=defs.assets,
            asset_checks=defs.asset_checks,
            resources=defs.resources,
            jobs=[job],
        ).resolve_job_def("ask")
        tags = {} if config_hash is None else {"dagster/partition": config_hash}
        result = resolved.execute_in_process(
            instance=deployment.instance, tags=tags, raise_on_error=False
        )
    return Run(result, ())


def test_champions_are_all_looked_at_when_nobody_names_one(
    deployment: Deployment, honest: Run
) -> None:
    run = champions(deployment)
    assert run.result.success
    assert failed(run) == {}
    for one in evaluations(run)["promoted_model"].values():
        assert value(one, "champions") == 1


def test_altered_model_is_found_by_the_checks_that_load_it(
    deployment: Deployment, honest: Run
) -> None:
    store, stage = deployment.platform.store, MODEL_STAGES["GRU"]
    key = deployment.manifest(RECIPE, stage).files["model.onnx"].key
    before = store.get(stage.bucket, key)
    store.put(stage.bucket, key, before[:-1] + b"x")
    run = champions(deployment, RECIPE.config_hash)
    store.put(stage.bucket, key, before)
    assert failed(run).keys() == {"pointer_resolves", "champion_reproduces_score"}
    assert f"global/{RECIPE.config_hash}/current.json" in failed(run)["pointer_resolves"]


def test_alias_elsewhere_than_the_pointer_is_found(deployment: Deployment, honest: Run) -> None:
    platform = deployment.platform
    current = platform.pointer(RECIPE.config_hash).read()
    assert current is not None
    name = current[0].registered_name
    version = platform.tracking.client.get_model_version_by_alias(name, "champion").version
    platform.tracking.client.delete_registered_model_alias(name, "champion")
    run = champions(deployment, RECIPE.config_hash)
    platform.tracking.client.set_registered_model_alias(name, "champion", version)
    assert failed(run).keys() == {"alias_mirrors_pointer"}


def test_lost_pointer_is_found_by_every_check_that_needs_it(
    deployment: Deployment, honest: Run
) -> None:
    store, key = deployment.platform.store, f"global/{RECIPE.config_hash}/current.json"
    before = store.get(MODEL_PROMOTION, key)
    store.delete(MODEL_PROMOTION, key)
    run = champions(deployment, RECIPE.config_hash)
    store.put(MODEL_PROMOTION, key, before)
    found = failed(run)
    assert found.keys() == {
        *("pointer_resolves", "alias_mirrors_pointer", "champion_reproduces_score")
    }
    assert all("nothing stands at model-promotion/" in told for told in found.values())


def test_pointers_that_ought_to_stand_are_missed_and_stray_objects_are_passed_over(
    deployment: Deployment, honest: Run
) -> None:
    store, under = deployment.platform.store, f"global/{RECIPE.config_hash}/"
    before = {
        head.key: store.get(MODEL_PROMOTION, head.key)
        for head in store.list(MODEL_PROMOTION, under)
    }
    store.put(MODEL_PROMOTION, "readme.txt", b"hello")
    found = [failed(champions(deployment))]
    store.delete(MODEL_PROMOTION, f"{under}current.json")
    found.append(failed(champions(deployment)))
    for key in before.keys() - {f"{under}current.json"}:  # nor does any history tell of it
        store.delete(MODEL_PROMOTION, key)
    found.append(failed(champions(deployment)))
    for key, content in before.items():
        store.put(MODEL_PROMOTION, key, content)
    store.delete(MODEL_PROMOTION, "readme.txt")

    missing = {"pointer_resolves", "alias_mirrors_pointer", "champion_reproduces_score"}
    assert [one.keys() for one in found] == [set(), missing, missing]
    assert "nothing stands at model-promotion/" in found[-1]["pointer_resolves"]


def test_champion_that_nobody_looked_at_lately_warns(
    deployment: Deployment, honest: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(champion_checks, "FRESH", timedelta(0))
    check = evaluations(champions(deployment))["promoted_model"]["champion_is_fresh"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "was not looked at lately" in str(check.description)


def test_promoted_model_has_a_freshness_policy() -> None:
    policy = defs.resolve_asset_graph().get(dg.AssetKey("promoted_model")).freshness_policy
    assert isinstance(policy, type(dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1))))
