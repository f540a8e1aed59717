from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flts_assets.forecasting.dataset import PreparedRows, missing_between, prepare
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.parquet import processed_parquet
from flts_assets.forecasting.verification import (
    coverage_slack,
    fault_of_parquet,
    fault_of_rows,
    leakage,
    rescored,
    same_score,
    same_scores,
    weights_were_validated,
)
from flts_assets_tests.forecasting.datasets import demo_recipe

TRAIN, TEST = demo_cell(60, 40)


def prepared(**changes: object) -> tuple[dict[str, PreparedRows], object]:
    recipe = demo_recipe().updated(changes)
    train, test, _ = prepare(TRAIN, TEST, recipe)
    return {"train": train, "test": test}, recipe


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scaling": {"method": "StandardScaler"}},
        {"scaling": {"method": "SqrtScaler"}},
        {"lags": {"enabled": True, "n_lags": 2, "step": 1}},
        {"outliers": {"enabled": True}},
    ],
)
def test_rows_as_they_were_prepared_know_nothing_of_the_test_rows(
    changes: dict[str, object],
) -> None:
    rows, recipe = prepared(**changes)
    assert leakage(rows, recipe) is None  # type: ignore[arg-type]


def test_empty_cells_that_were_filled_are_filled_again_alike() -> None:
    recipe = demo_recipe()
    train, test = TRAIN.copy(), TEST.copy()
    train.iloc[3, 1] = test.iloc[5, 2] = np.nan
    ours, theirs, _ = prepare(train, test, recipe)
    assert leakage({"train": ours, "test": theirs}, recipe) is None


def test_scaled_test_rows_that_moved_are_named_by_their_column() -> None:
    rows, recipe = prepared()
    moved = rows["test"].processed.copy()
    moved["up"] += 0.01
    rows["test"] = replace(rows["test"], processed=moved)
    assert leakage(rows, recipe) == (  # type: ignore[arg-type]
        "test, column up: not scaled by numbers fitted on the train rows"
    )


def test_test_rows_before_the_end_of_the_train_rows_leak() -> None:
    rows, recipe = prepared()
    rows["test"] = rows["train"]
    assert "test rows begin at" in str(leakage(rows, recipe))  # type: ignore[arg-type]


def test_rows_are_counted_against_recipe_lags_and_dropped_rows() -> None:
    rows, recipe = prepared(lags={"enabled": True, "n_lags": 2, "step": 1})
    assert fault_of_rows("train", rows["train"], 60, recipe) is None  # type: ignore[arg-type]
    assert "asks for 61" in str(fault_of_rows("train", rows["train"], 61, recipe))  # type: ignore[arg-type]
    fewer = replace(rows["train"], processed=rows["train"].processed.iloc[1:])
    assert "lags take 2" in str(fault_of_rows("train", fewer, 60, recipe))  # type: ignore[arg-type]
    dropping = recipe.updated({"handle_nans": {"drop_rows": True}})  # type: ignore[attr-defined]
    assert fault_of_rows("train", rows["train"], 61, dropping) is None
    assert fault_of_rows("train", rows["train"], 59, dropping) is not None


def test_parquet_metadata_is_held_against_the_recipe() -> None:
    rows, recipe = prepared()
    content = processed_parquet(rows["train"].processed, recipe)  # type: ignore[arg-type]
    assert fault_of_parquet(content, recipe) is None  # type: ignore[arg-type]
    other = recipe.updated({"extra": {"hash_salt": "other"}})  # type: ignore[attr-defined]
    assert "config_hash" in str(fault_of_parquet(content, other))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"down": [1.0]}), buffer)
    assert fault_of_parquet(buffer.getvalue(), other) == "its metadata lacks config_hash"


def test_scores_and_coverage_are_computed_again_from_the_frame() -> None:
    recipe = demo_recipe()
    horizon, targets = recipe.window.horizon, recipe.window.targets
    shape = (7, horizon, len(targets))
    generator = np.random.default_rng(0)
    actuals, forecasts = generator.normal(size=shape), generator.normal(size=shape)
    inside = actuals.ravel().copy()
    inside[0] += 100
    frame = pd.DataFrame(
        {
            "actual": actuals.ravel(),
            "GRU": forecasts.ravel(),
            "GRU-lo-90": inside - 1,
            "GRU-hi-90": inside + 1,
            "persistence": actuals.ravel(),
        }
    )
    ranges = [2.0] * len(targets)
    found = rescored(frame, ["GRU", "persistence"], targets, ranges, recipe)
    direct = score(actuals, forecasts, targets, ranges, recipe.evaluation.targets)
    assert same_scores(found["GRU"].scores, direct)
    assert found["GRU"].coverage == {"0.9": pytest.approx(1 - 1 / actuals.size)}
    assert found["persistence"].scores.score == 0
    assert found["persistence"].coverage == {}


def test_scores_are_the_same_but_for_the_last_digits() -> None:
    assert same_score(0.5, 0.5 + 1e-7)
    assert not same_score(0.5, 0.5001)
    assert same_score(1300.0, 1300.0001)
    assert not same_score(0.5, None)


def test_few_values_leave_coverage_more_room() -> None:
    assert coverage_slack(0.9, 40) == pytest.approx(0.05 + 2 * (0.09 / 40) ** 0.5)
    assert coverage_slack(0.9, 100_000) == pytest.approx(0.05, abs=0.002)


def test_only_nets_that_were_not_refitted_gave_their_validation_score_themselves() -> None:
    recipe = demo_recipe()
    assert weights_were_validated("GRU", recipe.updated({"recurrent": {"refit": False}}))
    assert not weights_were_validated("GRU", recipe.updated({"recurrent": {"refit": True}}))
    assert not weights_were_validated("PROPHET", recipe)


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_rows_missing_between_the_files_are_counted(gap: int) -> None:
    assert missing_between(TRAIN.index, TEST.index[gap:], "Cell_test.csv") == gap
    assert missing_between(TRAIN.index[-1:], TEST.index[gap:], "Cell_test.csv") == gap
