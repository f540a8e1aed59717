from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flts_assets.errors import RawDataError
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.pyfunc import ServedModel, _load_pyfunc
from flts_assets.recipe import CandidateType
from flts_assets_tests.forecasting.trained import ROWS, demo_models, every_kind_recipe


@pytest.fixture(params=["GRU", "LSTM", "PROPHET", "TREES", "ENSEMBLE"])
def kind(request: pytest.FixtureRequest) -> CandidateType:
    return request.param  # type: ignore[no-any-return]


def loaded(kind: CandidateType, folder: Path) -> ServedModel:
    for name, content in demo_models(every_kind_recipe())[kind].model.items():
        (folder / name).write_bytes(content)
    return _load_pyfunc(str(folder))


def test_answer_holds_the_forecast_of_the_model_itself(kind: CandidateType, tmp_path: Path) -> None:
    rows = demo_cell(*ROWS)[1].iloc[:40].ffill()
    answer = loaded(kind, tmp_path).predict(
        rows.reset_index().iloc[:, ::-1], params={"inference_length": 5}
    )
    own = load_forecaster(demo_models(every_kind_recipe())[kind].model, 1).forecast_next(rows, 5)
    np.testing.assert_array_equal(answer[["down", "up"]].to_numpy(), own)
    assert answer["ts"][0] > rows.index[-1].isoformat()
    assert len(answer) == 5


def test_request_without_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    rows = demo_cell(*ROWS)[1].iloc[:40].reset_index().drop(columns=["rb_up"])
    with pytest.raises(RawDataError, match="lacks columns") as caught:
        loaded("GRU", tmp_path).predict(rows)
    assert caught.value.received == ["rb_up"]


def faulty(fault: str) -> pd.DataFrame:
    rows = demo_cell(*ROWS)[1].iloc[:40].ffill().reset_index()
    if fault == "an empty cell":
        rows.loc[3, "up"] = None
    elif fault == "a negative number":
        rows.loc[3, "down"] = -1.0
    elif fault == "text in a cell":
        rows["up"] = rows["up"].astype(object)
        rows.loc[3, "up"] = "many"
    elif fault == "rows backwards":
        rows = rows.iloc[::-1]
    elif fault == "a time twice":
        rows.loc[39, "time"] = rows.loc[38, "time"]
    elif fault == "a time zone":
        rows["time"] = rows["time"].dt.tz_localize("Europe/Madrid")
    elif fault == "no time":
        rows["time"] = rows["time"].astype(object)
        rows.loc[3, "time"] = "yesterday, about noon"
    return rows


@pytest.mark.parametrize(
    "fault",
    [
        *("an empty cell", "a negative number", "text in a cell", "rows backwards"),
        *("a time twice", "a time zone", "no time"),
    ],
)
def test_rows_that_the_service_would_refuse_are_refused(fault: str, tmp_path: Path) -> None:
    with pytest.raises(RawDataError):
        loaded("TREES", tmp_path).predict(faulty(fault))


@pytest.mark.parametrize("steps", [0, -1, 10_001])
def test_number_of_steps_is_bounded(steps: int, tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match="inference_length"):
        loaded("TREES", tmp_path).predict(faulty("none"), params={"inference_length": steps})


def test_column_that_nobody_asked_for_is_left_out(tmp_path: Path) -> None:
    model = loaded("TREES", tmp_path)
    more = model.predict(faulty("none").assign(cell="Poble Sec"))
    pd.testing.assert_frame_equal(more, model.predict(faulty("none")))
