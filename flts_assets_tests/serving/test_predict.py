from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.intervals import Band
from flts_assets.recipe import CandidateType
from flts_assets_tests.forecasting.trained import LEVELS, demo_models, every_kind_recipe
from flts_assets_tests.serving.deployed import KINDS, columns_of, dataset_of, recipe_of

TARGETS = ("down", "up")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> CandidateType:
    kind: CandidateType = request.param
    return kind


def answer_to(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def values_of(answer: dict[str, Any], names: tuple[str, ...] = TARGETS) -> Any:
    return np.array([[row[name] for name in names] for row in answer["predictions"]])


def test_predecessors_request_gets_its_response(client: TestClient, rows: pd.DataFrame) -> None:
    answer = answer_to(
        client, index_col="time", data=columns_of(rows.iloc[-30:]), inference_length=5
    )
    assert answer["status"] == "SUCCESS"
    assert answer["identifier"] == "global"
    assert answer["run_id"].startswith("run-ENSEMBLE"), "the newest champion"
    assert len(answer["predictions"]) == 5
    assert all(list(row) == ["ts", *TARGETS] for row in answer["predictions"])


def test_one_step_is_forecast_unless_more_are_asked_for(
    client: TestClient, rows: pd.DataFrame
) -> None:
    assert len(answer_to(client, data=columns_of(rows))["predictions"]) == 1


def test_timestamps_continue_the_grid_of_the_data(client: TestClient, rows: pd.DataFrame) -> None:
    answer = answer_to(client, data=columns_of(rows), inference_length=40, station="TREES")
    moments = [rows.index[-1], *(pd.Timestamp(row["ts"]) for row in answer["predictions"])]
    assert {later - earlier for earlier, later in pairwise(moments)} == {pd.Timedelta("2min")}


def test_column_of_times_may_have_another_name(client: TestClient, rows: pd.DataFrame) -> None:
    data = columns_of(rows)
    expected = answer_to(client, data=data)
    data["when"] = data.pop("time")
    assert answer_to(client, data=data, index_col="when") == expected


def test_columns_order_does_not_matter(
    client: TestClient, rows: pd.DataFrame, kind: CandidateType
) -> None:
    data = columns_of(rows)
    turned = dict(reversed(data.items()))
    expected = answer_to(client, data=data, station=kind)
    assert answer_to(client, data=turned, station=kind) == expected


def test_records_say_the_same_as_columns(client: TestClient, rows: pd.DataFrame) -> None:
    data = columns_of(rows)
    records = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    asked = {"inference_length": 4, "station": "GRU", "levels": [0.9]}
    assert answer_to(client, data=records, **asked) == answer_to(client, data=data, **asked)


def test_batch_answers_each_station_as_a_request_of_its_own(
    client: TestClient, rows: pd.DataFrame
) -> None:
    asked = [
        {"data": columns_of(rows.iloc[: 40 + place]), "station": kind, "inference_length": 4}
        for place, kind in enumerate(KINDS)
    ]
    answer = answer_to(client, batch=asked)
    assert answer["status"] == "SUCCESS"
    assert [one["station"] for one in answer["results"]] == list(KINDS)
    for one, alone in zip(answer["results"], asked, strict=True):
        np.testing.assert_allclose(values_of(one), values_of(answer_to(client, **alone)), rtol=1e-6)


def test_batch_of_more_steps_than_memory_is_meant_for_is_refused(
    client: TestClient, rows: pd.DataFrame
) -> None:
    one = {"data": columns_of(rows), "inference_length": 10_000}
    response = client.post("/predict", json={"batch": [one] * 11})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "batch"
    assert response.json()["error"]["received"] == 110_000


def test_champion_is_chosen_by_config_hash(client: TestClient, rows: pd.DataFrame) -> None:
    config_hash = recipe_of("LSTM").config_hash
    answer = answer_to(client, data=columns_of(rows), config_hash=config_hash)
    assert (answer["config_hash"], answer["model_type"]) == (config_hash, "LSTM")


def test_online_answer_is_the_offline_forecast_of_that_cutoff(
    client: TestClient, rows: pd.DataFrame, kind: CandidateType
) -> None:
    recipe = recipe_of(kind)
    data = dataset_of(recipe)
    forecaster = load_forecaster(demo_models(every_kind_recipe())[kind].files, 1)
    offline = forecaster.forecast(data.test)
    lost = data.preprocessing.rows_lost
    ranges = np.array(data.preprocessing.target_ranges)
    cutoffs = (0, 1, 63, data.test.windows - 1)
    asked = [
        {
            "data": columns_of(rows.iloc[: lost + cutoff + recipe.window.size]),
            "station": kind,
            "inference_length": recipe.window.horizon,
        }
        for cutoff in cutoffs
        if lost + cutoff + recipe.window.size >= forecaster.rows_needed
    ]
    assert len(asked) == len(cutoffs)
    together = answer_to(client, batch=asked)["results"]
    for cutoff, one, batched in zip(cutoffs, asked, together, strict=True):
        for answer in (answer_to(client, **one), batched):
            difference = (values_of(answer) - offline[cutoff]) / ranges
            assert np.abs(difference).max() <= 1e-6, f"window {cutoff}"


def test_online_intervals_are_the_offline_bands_of_that_cutoff(
    client: TestClient, rows: pd.DataFrame, kind: CandidateType
) -> None:
    recipe = recipe_of(kind)
    data = dataset_of(recipe)
    forecaster = load_forecaster(demo_models(every_kind_recipe())[kind].files, 1)
    offline = forecaster.bands(data.test, forecaster.forecast(data.test))
    ranges = np.array(data.preprocessing.target_ranges)
    for cutoff in (10, data.test.windows - 1):
        answer = answer_to(
            client,
            data=columns_of(rows.iloc[: cutoff + recipe.window.size]),
            station=kind,
            inference_length=recipe.window.horizon,
            levels=list(LEVELS),
        )
        for level in LEVELS:
            band = band_of(answer, level)
            expected = offline[level]
            for ends, known in (
                (band.lower, expected.lower[cutoff]),
                (band.upper, expected.upper[cutoff]),
            ):
                assert np.abs((ends - known) / ranges).max() <= 1e-6, f"{level}, window {cutoff}"


def band_of(answer: dict[str, Any], level: float) -> Band:
    lower, upper = (
        values_of(answer, tuple(f"{target}-{end}-{100 * level:g}" for target in TARGETS))
        for end in ("lo", "hi")
    )
    return Band(lower, upper)


def test_wider_level_holds_the_narrower_one_and_the_forecast(
    client: TestClient, rows: pd.DataFrame
) -> None:
    answer = answer_to(
        client, data=columns_of(rows), station="TREES", inference_length=30, levels=[0.9, 0.5]
    )
    narrow, wide, forecasts = band_of(answer, 0.5), band_of(answer, 0.9), values_of(answer)
    assert (wide.lower <= narrow.lower).all()
    assert (narrow.lower <= forecasts).all()
    assert (forecasts <= narrow.upper).all()
    assert (narrow.upper <= wide.upper).all()


def test_long_forecast_begins_with_the_short_one(
    client: TestClient, rows: pd.DataFrame, kind: CandidateType
) -> None:
    data = columns_of(rows)
    long = answer_to(client, data=data, station=kind, inference_length=150)
    short = answer_to(client, data=data, station=kind, inference_length=7)
    np.testing.assert_allclose(values_of(long)[:7], values_of(short), rtol=1e-6)


def test_ten_thousand_steps_are_answered(client: TestClient, rows: pd.DataFrame) -> None:
    answer = answer_to(client, data=columns_of(rows), station="PROPHET", inference_length=10_000)
    assert len(answer["predictions"]) == 10_000
    assert np.isfinite(values_of(answer)).all()


def test_rows_before_those_that_are_needed_do_not_change_the_forecast(
    client: TestClient, rows: pd.DataFrame, kind: CandidateType
) -> None:
    needed = client.get("/model", params={"station": kind}).json()["rows_needed"]
    few = answer_to(client, data=columns_of(rows.iloc[-needed:]), station=kind)
    many = answer_to(client, data=columns_of(rows), station=kind)
    np.testing.assert_allclose(values_of(few), values_of(many), rtol=1e-6)
