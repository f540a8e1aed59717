from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from flts_assets.assets import models, promotion
from flts_assets.assets.backtest import BACKTEST
from flts_assets.assets.models import MODEL_STAGES
from flts_assets.assets.stage import PROCESSED
from flts_assets.errors import TrackingError
from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.leaderboard import Entry, Leaderboard
from flts_assets.forecasting.preprocessing import FittedPreprocessing
from flts_assets.recipe import CALENDAR_COLUMNS, RAW_COLUMNS, Recipe, load_recipe
from flts_assets.stores.object_store import DATASET, MODEL_PROMOTION
from flts_assets.stores.tracking import Tracking, TrackingRun
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment, Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",  # MLflow's own
    "ignore:.*Any type hint is inferred as AnyType",  # MLflow's own
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",  # dagster-mlflow
)

HASH = "8999be31be63d86d0bfcd155ea74a56b6192a9dfa2490f077d019571a6deed1f"
STAGES = (
    *("raw_data", "processed_data", "backtest"),
    *("gru_model", "lstm_model", "prophet_model", "trees_model", "ensemble_model"),
    *("leaderboard", "promoted_model", "verification_report"),
)
NOT_ASKED_FOR = {"backtest", "trees_model", "ensemble_model"}
"""by the 50-row recipe"""
ASKED_FOR = tuple(name for name in STAGES if name not in NOT_ASKED_FOR)
DATA_STAGES = ("raw_data", "processed_data")
PNG = "data:image/png;base64,iVBOR"
SMALL = {"hidden_size": 4, "num_layers": 1, "max_epochs": 2}


@pytest.fixture(scope="session")
def deployment(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("pipeline"))
    deployment.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
    with deployment.instance:
        yield deployment


@pytest.fixture(scope="session")
def sample50() -> Recipe:
    return load_recipe(SAMPLE50)


@pytest.fixture(scope="session")
def first(deployment: Deployment, sample50: Recipe) -> Run:
    """The verified 50-row run, once for all tests."""
    run = deployment.run(sample50)
    assert run.result.success, run.failures
    return run


@pytest.fixture
def small(sample50: Recipe, request: pytest.FixtureRequest) -> Recipe:
    """A recipe of each test's own: one small GRU on the 50 rows."""
    salt = request.node.name
    return sample50.updated({"models": ["GRU"], "recurrent": SMALL, "extra": {"hash_salt": salt}})


# --- what a run leaves ---------------------------------------------------------------------------


def test_sampling_is_told_with_the_rows_before_and_after(first: Run) -> None:
    (event,) = first.named("sampling_applied")
    assert event["stage"] == "processed_data"
    assert event["config_hash"] == HASH
    assert (event["train_rows_before"], event["train_rows_after"]) == (15_927, 50)
    assert (event["test_rows_before"], event["test_rows_after"]) == (3_982, 50)
    assert event["strategy"] == "head"


def test_run_log_holds_every_event_of_the_reference_with_its_fields(first: Run) -> None:
    assert {event["event"] for event in first.events} >= {
        *("sampling_applied", "download_done", "train_complete"),
        *("promotion_all_models_present", "promotion_artifacts_ok"),
        *("promotion_scoreboard", "promotion_decision"),
    }
    assert {(one["rows"], one["cols"]) for one in first.named("download_done")} == {(50, 17)}
    trained = first.named("train_complete")
    assert sorted(one["model_type"] for one in trained) == ["GRU", "LSTM", "PROPHET"]
    assert all(one["duration_ms"] > 0 and len(one["run_id"]) == 32 for one in trained)
    (decision,) = first.named("promotion_decision")
    assert decision["pointer"] == f"model-promotion/global/{HASH}/current.json"
    assert first.named("skip_idempotent") == []


@pytest.mark.parametrize("role", ["train", "test"])
def test_parquet_has_50_rows_17_columns_in_order_and_both_metadata_keys(
    deployment: Deployment, sample50: Recipe, first: Run, role: str
) -> None:
    manifest = deployment.manifest(sample50, PROCESSED)
    content = deployment.platform.artifacts.read(manifest, f"{role}.parquet")
    table = pq.read_table(io.BytesIO(content))
    assert table.num_rows == 50
    assert table.column_names == [*RAW_COLUMNS, *CALENDAR_COLUMNS]
    assert {str(kind) for kind in table.schema.types} == {"float"}
    metadata = pq.read_metadata(io.BytesIO(content)).metadata
    assert metadata[b"config_hash"].decode() == HASH
    assert metadata[b"preprocess_config"].decode() == sample50.canonical_json


@pytest.mark.parametrize("role", ["train", "test"])
def test_side_json_says_where_the_rows_come_from_and_what_they_are(
    deployment: Deployment, sample50: Recipe, first: Run, role: str
) -> None:
    manifest = deployment.manifest(sample50, PROCESSED)
    side = json.loads(deployment.platform.artifacts.read(manifest, f"{role}.meta.json"))
    assert side.pop("created_at") >= "2026"
    assert side == {
        "identifier": None,
        "source_bucket": "dataset",
        "train_source_object": "PobleSec.csv",
        "test_source_object": "PobleSec_test.csv",
        "config": json.loads(sample50.canonical_json),
        "config_hash": HASH,
        "scaler_type": "MinMaxScaler",
        "output_object": f"processed-data/{manifest.files[f'{role}.parquet'].key}",
        "row_count": 50,
        "column_names": [*RAW_COLUMNS, *CALENDAR_COLUMNS],
    }


def test_fitted_preprocessing_is_json_that_gives_the_parquet_again(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    manifest = deployment.manifest(sample50, PROCESSED)
    files = deployment.platform.artifacts.read_all(manifest)
    fitted = FittedPreprocessing.model_validate_json(files["preprocessing.json"])
    measured = pq.read_table(io.BytesIO(files["test_measured.parquet"])).to_pandas()
    processed = pq.read_table(io.BytesIO(files["test.parquet"])).to_pandas()
    transformed = fitted.transform(measured.set_index("time"))
    np.testing.assert_array_equal(transformed, processed.to_numpy())


def test_three_model_runs_are_finished_in_mlflow_and_named_by_their_type(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    client = deployment.platform.tracking.client
    runs = {run.info.run_name: run for run in deployment.mlflow_runs(sample50)}
    experiments = {
        name: client.get_experiment(run.info.experiment_id).name for name, run in runs.items()
    }
    pipeline = next(name for name, where in experiments.items() if where == "Pipeline")
    assert experiments == {
        **{"GRU": "Default", "LSTM": "Default", "PROPHET": "NonML", pipeline: "Pipeline"}
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in ("GRU", "LSTM", "PROPHET"):
        tags = runs[name].data.tags
        assert tags["mlflow.parentRunId"] == runs[pipeline].info.run_id
        assert tags["dagster.run_id"] == first.result.run_id
        assert tags["flts.fingerprint"] == first.data_versions[f"{name.lower()}_model"]
        assert runs[name].data.metrics.keys() >= {"validation_score", "test_score", "fit_s"}
        assert runs[name].data.params["config_hash"] == HASH
        files = {one.path for one in client.list_artifacts(runs[name].info.run_id, name)}
        assert files >= {f"{name}/manifest.json", f"{name}/preprocessing.json"}
    losses = client.get_metric_history(runs["GRU"].info.run_id, "validation_loss")
    assert [one.step for one in losses] == list(range(1, 11))


def test_pipeline_run_in_mlflow_holds_recipe_and_leaderboard(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    client = deployment.platform.tracking.client
    experiment = client.get_experiment_by_name("Pipeline").experiment_id
    runs = deployment.mlflow_runs(sample50)
    (run,) = [one for one in runs if one.info.experiment_id == experiment]
    files = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert files == {"recipe.json", "leaderboard.json"}
    board = deployment.board(sample50)
    assert run.data.metrics == {
        f"{one.name}_score": pytest.approx(one.scores.score, rel=1e-12) for one in board.entries
    }


def test_every_asset_tells_recipe_hash_cost_and_where_its_outputs_stand(first: Run) -> None:
    assert tuple(first.materialized) == STAGES
    for name in STAGES:
        metadata = first.metadata(name)
        assert metadata["recipe"] == "sample50"
        assert metadata["config_hash"] == HASH
        assert first.materialized[name].partition == HASH
        if name in NOT_ASKED_FOR:
            assert metadata["note"].startswith("nothing to do for this recipe: ")
            assert "outputs" not in metadata
            continue
        assert metadata["cached"] is False
        if name != "promoted_model":
            assert f"/{HASH}/{name}/" in metadata["outputs"]
            assert "bytes" in metadata["outputs_size"]


def test_data_assets_tell_rows_before_and_after_and_sizes(first: Run, real_data: Path) -> None:
    raw, processed = first.metadata("raw_data"), first.metadata("processed_data")
    assert (raw["train_rows"], raw["test_rows"]) == (15_927, 3_982)
    assert raw["train_size"] == (real_data / "PobleSec.csv").stat().st_size
    assert raw["test_size"] == (real_data / "PobleSec_test.csv").stat().st_size
    assert raw["dagster/partition_row_count"] == 15_927 + 3_982
    assert [row.data["file"] for row in raw["files"].records] == [
        *("PobleSec.csv", "PobleSec_test.csv")
    ]
    assert (processed["train_rows_before"], processed["train_rows_after"]) == (15_927, 50)
    assert (processed["test_rows_before"], processed["test_rows_after"]) == (3_982, 50)
    assert processed["dagster/partition_row_count"] == 100
    assert processed["train_size"] > 1000
    columns = [column.name for column in processed["dagster/column_schema"].columns]
    assert columns == [*RAW_COLUMNS, *CALENDAR_COLUMNS]


@pytest.mark.parametrize("model_type", ["GRU", "LSTM", "PROPHET"])
def test_model_assets_tell_run_scores_and_pictures(first: Run, model_type: str) -> None:
    metadata = first.metadata(f"{model_type.lower()}_model")
    (trained,) = [one for one in first.named("train_complete") if one["model_type"] == model_type]
    assert metadata["mlflow_run_id"] == trained["run_id"]
    scores = {
        row.data["measure"]: row.data["value"] for row in metadata["validation_scores"].records
    }
    assert scores["score"] == metadata["validation_score"] > 0
    assert {"rmse", "mae", "mse", "nrmse", "rmse of down"} < set(scores)
    assert metadata["fit_s"] > 0
    assert PNG in metadata["forecast versus actual on validation rows"]
    if model_type != "PROPHET":
        assert PNG in metadata["loss curve"]
        assert 1 <= int(metadata["best_epoch"]) <= 10


def test_leaderboard_ranks_three_models_and_all_baselines_on_one_scale(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    board = deployment.board(sample50)
    assert board.forecasts == 40
    assert {entry.name for entry in board.models} == {"GRU", "LSTM", "PROPHET"}
    assert {entry.name for entry in board.entries} == {"GRU", "LSTM", "PROPHET", *BASELINES}
    assert [entry.rank for entry in board.entries] == list(range(1, len(board.entries) + 1))
    scores = [entry.scores.score for entry in board.entries]
    assert scores == sorted(scores)
    assert all(entry.predict_s >= 0 for entry in board.entries)
    assert all((entry.fit_s or 0) > 0 and entry.run_id for entry in board.models)


def test_leaderboard_asset_tells_table_winner_and_pictures(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    board = deployment.board(sample50)
    metadata = first.metadata("leaderboard")
    rows = [row.data for row in metadata["leaderboard"].records]
    assert [row["name"] for row in rows] == [entry.name for entry in board.entries]
    assert {"rank", "score", "rmse", "mae", "skill", "fit_s", "predict_s"} < set(rows[0])
    by_name = {row["name"]: row for row in rows}
    assert by_name["persistence"]["before_persistence"] == ""
    for entry in board.models:
        row = by_name[entry.name]
        assert row["before_persistence"] == str(entry.before_persistence)
        assert row["behind_best"] == str(entry.behind_best or "")
        assert row["coverage"] == f"90%: {entry.coverage['0.9']:.1%}"
    assert metadata["best_model"] == board.models[0].name
    assert metadata["best_score"] == board.models[0].scores.score
    assert metadata["test_windows"] == 40
    assert PNG in metadata["scores"]
    assert PNG in metadata["forecast versus actual"]


def test_test_scores_of_the_leaderboard_stand_in_each_models_mlflow_run(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    for entry in deployment.board(sample50).models:
        assert entry.run_id is not None
        metrics = deployment.platform.tracking.client.get_run(entry.run_id).data.metrics
        assert metrics["test_score"] == pytest.approx(entry.scores.score, rel=1e-12)
        assert metrics["test_skill"] == pytest.approx(entry.skill, rel=1e-12)
        assert metrics["test_coverage_0.9"] == pytest.approx(entry.coverage["0.9"], rel=1e-12)


EVER = datetime.min.replace(tzinfo=timezone.utc)


def newest_of_the_best(board: Leaderboard) -> Entry:
    """The last one to start among the models that are not significantly behind the first; of those that
    began together the best in rank."""
    level = [
        entry for entry in board.models if not (entry.behind_best and entry.behind_best.significant)
    ]
    return max(level, key=lambda entry: entry.trained.started_at if entry.trained else EVER)


def test_pointer_names_the_newest_of_the_best_with_the_fields_of_the_reference(
    deployment: Deployment, sample50: Recipe, first: Run
) -> None:
    key = f"global/{HASH}/current.json"
    pointer = json.loads(deployment.platform.store.get(MODEL_PROMOTION, key))
    best = newest_of_the_best(deployment.board(sample50))
    assert (
        pointer.items()
        >= {
            "run_id": best.run_id,
            "model_type": best.name,
            "config_hash": HASH,
            "model_uri": f"runs:/{best.run_id}/{best.name}",
            "score": best.scores.score,
            "identifier": "global",
            "experiment": "NonML" if best.name == "PROPHET" else "Default",
            "rmse": best.scores.rmse,
            "mae": best.scores.mae,
            "mse": best.scores.mse,
            "weights": {"rmse": 0.5, "mae": 0.3, "mse": 0.2},
        }.items()
    )
    assert pointer["timestamp"].endswith(("Z", "+00:00"))
    history = deployment.platform.store.list(MODEL_PROMOTION, f"global/{HASH}/history/")
    assert [deployment.platform.store.get(MODEL_PROMOTION, one.key) for one in history] == [
        deployment.platform.store.get(MODEL_PROMOTION, key)
    ]


def test_promotion_asset_tells_the_pointer_and_its_history(first: Run) -> None:
    metadata = first.metadata("promoted_model")
    assert metadata["pointer"] == f"model-promotion/global/{HASH}/current.json"
    assert metadata["model_uri"] == f"runs:/{metadata['mlflow_run_id']}/{metadata['model_type']}"
    (only,) = metadata["history"].records
    assert only.data["run_id"] == metadata["mlflow_run_id"]
    assert first.result.run_id in only.data["actor"]


def test_data_version_of_each_asset_is_a_fingerprint_of_its_own(first: Run) -> None:
    versions = first.data_versions
    assert tuple(versions) == STAGES
    assert {versions.pop(name) for name in NOT_ASKED_FOR} == {"not-in-recipe"}
    assert all(len(version) == 64 for version in versions.values())
    assert len(set(versions.values())) == len(ASKED_FOR)


def test_dagster_run_is_tagged_with_recipe_and_mlflow_runs(
    deployment: Deployment, first: Run
) -> None:
    run = deployment.instance.get_run_by_id(first.result.run_id)
    assert run is not None
    assert run.tags["flts/recipe"] == "sample50"
    assert run.tags["dagster/partition"] == HASH
    assert run.tags["mlflow/gru"] == first.metadata("gru_model")["mlflow_run_id"]


# --- idempotence ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def again(deployment: Deployment, sample50: Recipe, first: Run) -> Run:
    objects, runs = deployment.objects(), len(deployment.mlflow_runs())
    run = deployment.run(sample50)
    assert run.result.success, run.failures
    assert deployment.objects() == objects
    assert len(deployment.mlflow_runs()) == runs
    return run


def test_second_run_computes_nothing_and_says_so(again: Run) -> None:
    assert [event["stage"] for event in again.named("skip_idempotent")] == list(ASKED_FOR)
    assert {event["stage"] for event in again.named("skip_not_in_recipe")} == NOT_ASKED_FOR
    told = {event["event"] for event in again.events} - {"check_failed", "report_written"}
    assert told == {"skip_idempotent", "skip_not_in_recipe"}


def test_second_run_materialises_every_asset_again_as_it_was(first: Run, again: Run) -> None:
    assert tuple(again.materialized) == STAGES
    assert again.data_versions == first.data_versions
    for name in ASKED_FOR:
        assert again.metadata(name) == {**first.metadata(name), "cached": True}
    for name in NOT_ASKED_FOR:
        assert again.metadata(name) == first.metadata(name)


def files_of_its_own(deployment: Deployment, recipe: Recipe, real_data: Path, name: str) -> Recipe:
    deployment.add_data(real_data, **{name: "PobleSec", f"{name}_test": "PobleSec_test"})
    return recipe.for_station(name)


@pytest.mark.parametrize(
    "row", [pytest.param(50, id="in a sampled row"), pytest.param(51, id="in a row left out")]
)
def test_changed_digit_recomputes_every_stage(
    deployment: Deployment, small: Recipe, real_data: Path, row: int
) -> None:
    recipe = files_of_its_own(deployment, small, real_data, f"Digit{row}")
    before = deployment.run(recipe)
    lines = deployment.platform.store.get(DATASET, f"Digit{row}.csv").splitlines(keepends=True)
    time, down, rest = lines[row].split(b",", 2)
    digit = b"1" if down[:1] != b"1" else b"2"
    lines[row] = b",".join((time, digit + down[1:], rest))
    deployment.platform.store.put(DATASET, f"Digit{row}.csv", b"".join(lines))
    after = deployment.run(recipe)
    assert before.result.success
    assert after.result.success
    assert after.named("skip_idempotent") == []
    assert len(after.named("train_complete")) == 1
    assert len(after.metadata("promoted_model")["history"].records) == 2
    kept = {name for name in STAGES if before.data_versions[name] == after.data_versions[name]}
    assert kept == {"lstm_model", "prophet_model"} | NOT_ASKED_FOR


def test_appended_row_is_seen(deployment: Deployment, small: Recipe, real_data: Path) -> None:
    recipe = files_of_its_own(deployment, small, real_data, "Appended")
    deployment.run(recipe, "raw_data")
    content = deployment.platform.store.get(DATASET, "Appended_test.csv").rstrip(b"\n")
    last = content.splitlines()[-1].split(b",", 1)
    later = str(np.datetime64(last[0].decode()) + np.timedelta64(2, "m")).replace("T", " ")
    row = b"\n" + later.encode() + b"," + last[1] + b"\n"
    deployment.platform.store.put(DATASET, "Appended_test.csv", content + row)
    assert deployment.run(recipe, "raw_data").metadata("raw_data")["test_rows"] == 3_983


def test_force_recomputes_everything_and_keeps_what_the_old_promotion_names(
    deployment: Deployment, small: Recipe
) -> None:
    before = deployment.run(small)
    objects = deployment.objects()
    forced = deployment.run(small, force=True)
    assert forced.result.success, forced.failures
    assert forced.named("skip_idempotent") == []
    assert len(forced.named("train_complete")) == 1
    assert (
        forced.metadata("gru_model")["mlflow_run_id"]
        != (before.metadata("gru_model")["mlflow_run_id"])
    )
    assert objects.keys() < deployment.objects().keys()
    champion, old = deployment.platform.pointer(small.config_hash).history()
    assert champion.attempt != old.attempt
    assert champion.score == old.score
    assert deployment.run(small).named("train_complete") == []


def test_other_hyper_parameters_are_another_partition(
    deployment: Deployment, small: Recipe
) -> None:
    other = small.updated({"recurrent": {"hidden_size": 5}})
    assert other.config_hash != small.config_hash
    for recipe in (small, other):
        run = deployment.run(recipe, *DATA_STAGES, "gru_model")
        assert run.materialized["gru_model"].partition == recipe.config_hash
        assert len(run.named("train_complete")) == 1
    keys = deployment.instance.get_dynamic_partitions("config_hash")
    assert {small.config_hash, other.config_hash} <= set(keys)


@pytest.mark.parametrize("force", [False, True])
def test_promotion_alone_can_be_run_for_an_identifier(
    deployment: Deployment, sample50: Recipe, first: Run, force: bool
) -> None:
    run = deployment.run(sample50, "promoted_model", identifier=f"alice{force}", force=force)
    assert run.metadata("promoted_model")["pointer"] == (
        f"model-promotion/alice{force}/{HASH}/current.json"
    )
    key = f"alice{force}/{HASH}/current.json"
    pointer = json.loads(deployment.platform.store.get(MODEL_PROMOTION, key))
    assert pointer["identifier"] == f"alice{force}"
    assert pointer["run_id"] == first.metadata("promoted_model")["mlflow_run_id"]


def test_two_fresh_homes_give_the_same_scores_to_the_last_bit(
    deployment: Deployment, sample50: Recipe, first: Run, real_data: Path, tmp_path: Path
) -> None:
    other = Deployment(tmp_path)
    other.add_data(real_data, PobleSec="PobleSec", PobleSec_test="PobleSec_test")
    with other.instance:
        run = other.run(sample50)
        assert run.result.success, run.failures
        theirs, ours = other.board(sample50), deployment.board(sample50)
        assert [(one.name, one.scores) for one in theirs.entries] == [
            (one.name, one.scores) for one in ours.entries
        ]
        for model_type in ("GRU", "LSTM"):
            shas = {
                one.manifest(sample50, MODEL_STAGES[model_type]).files["weights.safetensors"].sha256
                for one in (deployment, other)
            }
            assert len(shas) == 1


def test_recipe_without_prophet_runs_and_its_asset_says_so(
    deployment: Deployment, small: Recipe
) -> None:
    recipe = small.updated({"models": ["GRU", "LSTM"]})
    run = deployment.run(recipe)
    assert run.result.success, run.failures
    assert tuple(run.materialized) == STAGES
    assert run.metadata("prophet_model")["note"] == (
        "nothing to do for this recipe: PROPHET is not among its models: GRU, LSTM"
    )
    assert {entry.name for entry in deployment.board(recipe).models} == {"GRU", "LSTM"}
    assert {run.info.run_name for run in deployment.mlflow_runs(recipe)} >= {"GRU", "LSTM"}
    assert "PROPHET" not in {run.info.run_name for run in deployment.mlflow_runs(recipe)}


def test_recipe_with_trees_ensemble_and_backtest_is_ranked_on_the_backtest(
    deployment: Deployment, small: Recipe
) -> None:
    recipe = small.updated(
        {
            "models": ["GRU", "TREES"],
            "trees": {"max_iter": 5, "min_samples_leaf": 5},
            "ensemble": {"members": ["GRU", "TREES"], "weights": "validated"},
            "backtest": {"cutoffs": 2, "step": 10},
            "evaluation": {"rank_on": "backtest"},
        }
    )
    run = deployment.run(recipe)
    assert run.result.success, run.failures
    board = deployment.board(recipe)
    assert {entry.name for entry in board.models} == {"GRU", "TREES", "ENSEMBLE"}
    scores = [entry.ranked_by(board) for entry in board.entries]
    assert scores == [entry.backtest for entry in board.entries]
    assert [one.score for one in scores] == sorted(one.score for one in scores)
    assert sum(run.metadata("ensemble_model")["weights"].values()) == pytest.approx(1)
    backtest = run.metadata("backtest")
    assert (backtest["cutoffs"], backtest["windows"]) == (2, 20)
    assert {row.data["model"] for row in backtest["scores"].records} == {
        *BASELINES,
        *("GRU", "TREES", "ENSEMBLE"),
    }
    content = deployment.platform.artifacts.read(
        deployment.manifest(recipe, BACKTEST), "backtest.parquet"
    )
    assert pq.read_metadata(io.BytesIO(content)).num_rows == 20 * len(board.entries)
    tracked = {run.info.run_name for run in deployment.mlflow_runs(recipe)}
    assert tracked >= {"GRU", "TREES", "ENSEMBLE"}
    assert run.metadata("promoted_model")["model_type"] == newest_of_the_best(board).name
    again = deployment.run(recipe)
    not_asked_for = {"lstm_model", "prophet_model"}
    assert {event["stage"] for event in again.named("skip_idempotent")} == (
        set(STAGES) - not_asked_for
    )


# --- clear failures ------------------------------------------------------------------------------


def test_partition_that_nobody_registered_fails_with_the_command_that_registers_it(
    deployment: Deployment,
) -> None:
    deployment.instance.add_dynamic_partitions("config_hash", ["f" * 64])
    run = deployment.run_partition("f" * 64)
    assert run.failures.keys() == {"raw_data"}
    assert "flts recipe add FILE" in run.failures["raw_data"]
    assert "f" * 64 in run.failures["raw_data"]


@pytest.mark.parametrize(
    ("asset", "missing"),
    [
        ("processed_data", "raw_data"),
        ("gru_model", "processed_data"),
        ("leaderboard", "processed_data"),
        ("promoted_model", "leaderboard"),
    ],
)
def test_stage_before_its_upstream_fails_and_names_it(
    deployment: Deployment, small: Recipe, asset: str, missing: str
) -> None:
    objects = deployment.objects()
    run = deployment.run(small, asset)
    assert run.failures == {
        asset: f"{asset} needs {missing} of recipe 'sample50', which was never materialised;"
        f" remedy: materialise {missing} first, or run the whole job"
    }
    (event,) = run.named("stage_failed")
    assert (event["error"], event["message"]) == ("UpstreamMissingError", run.failures[asset])
    new = deployment.objects().keys() - objects.keys()
    assert all(key.startswith("recipes/") for key in new)


def test_stage_whose_upstream_lost_a_file_fails_and_says_what_to_run_again(
    deployment: Deployment, small: Recipe
) -> None:
    deployment.run(small, *DATA_STAGES)
    manifest = deployment.manifest(small, PROCESSED)
    deployment.platform.store.delete(PROCESSED.bucket, manifest.files["train.parquet"].key)
    failure = deployment.run(small, "gru_model").failures["gru_model"]
    assert "no complete outputs of processed_data" in failure
    assert "remedy" in failure
    assert small.config_hash in failure
    assert deployment.run(small).result.success


def test_raw_file_that_changed_after_raw_data_is_refused_by_processed_data(
    deployment: Deployment, small: Recipe, real_data: Path
) -> None:
    recipe = files_of_its_own(deployment, small, real_data, "Between")
    deployment.run(recipe, "raw_data")
    content = deployment.platform.store.get(DATASET, "Between.csv")
    deployment.platform.store.put(DATASET, "Between.csv", content.rstrip(b"\n"))
    failure = deployment.run(recipe, "processed_data").failures["processed_data"]
    assert failure.startswith("Between.csv: changed after raw_data was materialised")
    assert "remedy: materialise raw_data again" in failure
    assert deployment.run(recipe, *DATA_STAGES).result.success


def test_gate_that_refuses_leaves_the_pointer_where_it_was_and_says_why(
    deployment: Deployment, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small.updated(
        {
            "recurrent": {"learning_rate": 1e-9},
            "promotion": {"must_beat_persistence": True},
        }
    )
    refused = deployment.run(recipe)
    assert refused.failures.keys() == {"promoted_model"}
    pointer = deployment.platform.pointer(recipe.config_hash)
    assert pointer.read() is None

    with monkeypatch.context() as lenient:
        lenient.setattr(promotion, "choose", lambda board, _rules: (board.models[0], "test"))
        assert deployment.run(recipe, "promoted_model").result.success
    champion = pointer.read()
    failure = deployment.run(recipe, "promoted_model", force=True).failures["promoted_model"]
    assert failure.startswith("the best model, GRU, does not beat persistence")
    assert "remedy: the pointer stays where it was" in failure
    assert champion is not None
    assert pointer.read() == champion


def refuse(*_arguments: object, **_options: object) -> None:
    raise TrackingError("MLflow went away", remedy="start it")


def must_not_train(*_arguments: object, **_options: object) -> None:
    pytest.fail("trained although the model is saved")


def test_training_goes_on_while_mlflow_is_away_and_is_logged_in_full_at_the_end(
    deployment: Deployment, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_metrics = TrackingRun.log_metrics
    refusals = iter([True])

    def refuse_once(run: TrackingRun, metrics: Any, step: int = 0) -> None:
        if next(refusals, False):
            refuse()
        log_metrics(run, metrics, step)

    monkeypatch.setattr(TrackingRun, "log_metrics", refuse_once)
    run = deployment.run(small, *DATA_STAGES, "gru_model")
    assert run.result.success, run.failures
    (warning,) = run.named("tracking_unavailable")
    assert warning["message"] == "MLflow went away; remedy: start it"
    (kept,) = deployment.mlflow_runs(small)
    assert kept.info.status == "FINISHED"
    client = deployment.platform.tracking.client
    losses = client.get_metric_history(kept.info.run_id, "validation_loss")
    assert [one.step for one in losses] == [1, 2]


@pytest.mark.parametrize(
    ("where", "method"), [(TrackingRun, "log_metrics"), (TrackingRun, "log_files")]
)
def test_trained_model_is_kept_when_mlflow_stays_away_and_logged_later_without_training(
    deployment: Deployment,
    small: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    where: type,
    method: str,
) -> None:
    with monkeypatch.context() as away:
        away.setattr(where, method, refuse)
        failed = deployment.run(small, *DATA_STAGES, "gru_model")
    assert failed.failures == {"gru_model": "MLflow went away; remedy: start it"}
    assert [run.info.status for run in deployment.mlflow_runs(small)] == ["FAILED"]

    monkeypatch.setattr(models, "train_model", must_not_train)
    later = deployment.run(small, *DATA_STAGES, "gru_model")
    assert later.result.success, later.failures
    assert [event["stage"] for event in later.named("skip_idempotent")] == [
        *DATA_STAGES,
        "gru_model",
    ]
    kept, failed_run = deployment.mlflow_runs(small)
    assert (kept.info.status, failed_run.info.status) == ("FINISHED", "FAILED")
    assert kept.info.run_id == later.metadata("gru_model")["mlflow_run_id"]
    assert kept.data.tags["flts.fingerprint"] == later.data_versions["gru_model"]
    client = deployment.platform.tracking.client
    losses = client.get_metric_history(kept.info.run_id, "validation_loss")
    assert [one.step for one in losses] == [1, 2]
    files = {one.path for one in client.list_artifacts(kept.info.run_id, "GRU")}
    assert "GRU/model.onnx" in files


def test_trained_model_is_kept_when_mlflow_was_never_there(
    deployment: Deployment, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(Tracking, "start", refuse)
        failed = deployment.run(small, *DATA_STAGES, "gru_model")
    assert failed.failures == {"gru_model": "MLflow went away; remedy: start it"}
    assert deployment.mlflow_runs(small) == []
    monkeypatch.setattr(models, "train_model", must_not_train)
    later = deployment.run(small, *DATA_STAGES, "gru_model")
    assert later.result.success, later.failures
    assert [run.info.status for run in deployment.mlflow_runs(small)] == ["FINISHED"]


def test_training_that_diverges_fails_the_step_and_its_mlflow_run(
    deployment: Deployment, small: Recipe
) -> None:
    recipe = small.updated({"recurrent": {"learning_rate": 1e30}})
    run = deployment.run(recipe)
    assert run.failures.keys() == {"gru_model"}
    assert "remedy" in run.failures["gru_model"]
    (event,) = run.named("stage_failed")
    assert event["error"] == "TrainingError"
    assert [one.info.status for one in deployment.mlflow_runs(recipe)] == ["FAILED"]
    assert not {"gru_model", "leaderboard", "promoted_model"} & run.materialized.keys()


@pytest.mark.parametrize(
    ("error", "statuses"),
    [
        (ZeroDivisionError("by zero"), ["FAILED"]),
        # An interrupt counts as a crash: the step is started once more.
        (dg.DagsterExecutionInterruptedError(), ["KILLED", "KILLED"]),
    ],
    ids=["bug", "interrupt"],
)
def test_mlflow_run_ends_however_training_ends(
    deployment: Deployment,
    small: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    statuses: list[str],
) -> None:
    def train(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(models, "train_model", train)
    try:
        assert not deployment.run(small).result.success
    except dg.DagsterExecutionInterruptedError:
        assert statuses == ["KILLED", "KILLED"]
    assert [run.info.status for run in deployment.mlflow_runs(small)] == statuses


def test_no_mlflow_run_is_left_running(deployment: Deployment, first: Run) -> None:
    assert deployment.platform.tracking.running() == {}


# --- MLflow's registry ---------------------------------------------------------------------------


def test_alias_champion_stands_at_the_promoted_run_and_answers_with_the_same_numbers(
    deployment: Deployment, sample50: Recipe, first: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    platform = deployment.platform
    client = platform.tracking.client
    current = platform.pointer(HASH).read()
    assert current is not None
    promotion = current[0]
    name = f"sample50-{HASH[:8]}"
    assert client.get_model_version_by_alias(name, "champion").run_id == promotion.run_id
    manifest = platform.artifacts.get(promotion.model, promotion.attempt)
    example = json.loads(platform.artifacts.read(manifest, "example.json"))
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(platform.tracking.uri)
        model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    finally:
        mlflow.set_tracking_uri(before)
    answer = model.predict(pd.DataFrame(example["rows"]), params={"inference_length": 2})
    assert list(answer.columns) == ["ts", "down"]
    assert answer["down"][0] == pytest.approx(example["forecast"][0][0], rel=1e-6)
    last, before_last = (pd.Timestamp(moment) for moment in example["rows"]["time"][-1:-3:-1])
    assert pd.Timestamp(answer["ts"][1]) == last + 2 * (last - before_last)


def test_promotion_again_of_the_same_run_makes_no_other_version(
    deployment: Deployment, first: Run
) -> None:
    tracking = deployment.platform.tracking
    name = f"sample50-{HASH[:8]}"
    version = tracking.client.get_model_version_by_alias(name, "champion")
    tracking.mirror_champion(name, version.run_id, version.source)
    assert len(tracking.client.search_model_versions(f"name = '{name}'")) == 1
