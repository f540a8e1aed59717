from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from flts_assets.errors import ArtifactError, RawDataError
from flts_assets.forecasting import cores
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import (
    Forecaster,
    ModelCard,
    check_example,
    example_of,
    load_forecaster,
)
from flts_assets.forecasting.net_kinds import NET_KINDS, net_kinds
from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.recurrent_onnx import to_onnx
from flts_assets.forecasting.training import train_model
from flts_assets.recipe import RAW_COLUMNS, ModelType, Recipe
from flts_assets.recipe.model import Scaling
from flts_assets_tests.forecasting.datasets import (
    baseline_forecasts,
    demo_dataset,
    demo_recipe,
    silent,
)

ROWS = (90, 160)
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "wide": {
        "window": {"size": 6, "horizon": 3, "targets": ["down", "up"]},
        "lags": {"enabled": True, "n_lags": 2, "step": 2},
        "outliers": {"enabled": True},
        "scaling": {"add_constant": 1.0},
    },
    "change in log space": {
        "window": {"horizon": 2, "targets": ["down", "up"]},
        "scaling": {"method": "LogMedianScaler", "fit_share": 0.8},
        "recurrent": {"predict": "change", "schedule": "one_cycle", "gradient_clip": 1.0},
    },
    "averaged kinds of nets": {
        "window": {"targets": ["down", "up"]},
        "recurrent": {
            "members": 2,
            "refit": True,
            "variants": [
                {"scaling": "LogMedianScaler"},
                {"predict": "change", "change_decay": 0.5, "scaling": "SqrtScaler"},
            ],
        },
    },
}


@dataclass(frozen=True)
class Saved:
    """A trained model's files, and what it was trained on."""

    files: Mapping[str, bytes]
    data: Dataset
    recipe: Recipe
    raw_test: pd.DataFrame


@cache
def saved(kind: ModelType, name: str) -> Saved:
    recipe = demo_recipe(**RECIPES[name])
    data = demo_dataset(recipe, *ROWS)
    train, test = demo_cell(*ROWS)
    return Saved(train_model(kind, data, train, recipe, 1, silent).files, data, recipe, test)


@pytest.fixture(scope="module", params=get_args(ModelType))
def kind(request: pytest.FixtureRequest) -> ModelType:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=RECIPES)
def model(kind: ModelType, request: pytest.FixtureRequest) -> Saved:
    return saved(kind, request.param)


@pytest.fixture(scope="module")
def default(kind: ModelType) -> Saved:
    return saved(kind, "default")


def test_forecast_of_what_comes_next_is_the_one_that_was_scored_at_that_cutoff(
    model: Saved,
) -> None:
    forecaster = load_forecaster(model.files, 1)
    split = model.data.test
    scored = forecaster.forecast(split)
    assert scored.shape == split.actuals().shape
    assert split.windows > 128, "more than one call of the net"
    lost = model.data.preprocessing.rows_lost
    units = np.array(model.data.preprocessing.target_ranges)
    for window in (0, 1, 70, split.windows - 1):
        known = model.raw_test.iloc[: lost + window + model.recipe.window.size]
        following = forecaster.forecast_next(known)
        np.testing.assert_allclose(following / units, scored[window] / units, rtol=0, atol=1e-6)


def test_only_the_last_rows_that_are_needed_are_looked_at(model: Saved) -> None:
    forecaster = load_forecaster(model.files, 1)
    rows = model.raw_test.copy()
    expected = forecaster.forecast_next(rows.iloc[-forecaster.rows_needed :])
    rows.iloc[: -forecaster.rows_needed] = 0
    np.testing.assert_array_equal(forecaster.forecast_next(rows), expected)


def test_one_row_less_than_needed_is_refused_with_both_numbers(model: Saved) -> None:
    forecaster = load_forecaster(model.files, 1)
    needed = forecaster.rows_needed
    with pytest.raises(RawDataError, match="fewer than the model needs") as caught:
        forecaster.forecast_next(model.raw_test.iloc[: needed - 1])
    assert caught.value.received == needed - 1
    assert caught.value.allowed == f"at least {needed}"


def test_saved_model_reproduces_its_recorded_forecast(model: Saved) -> None:
    check_example(load_forecaster(model.files, 1), model.files["example.json"], tolerance=1e-9)


@pytest.mark.parametrize("kind", ["PROPHET"], indirect=True)
def test_prophet_says_the_same_of_a_moment_from_every_cutoff(kind: ModelType) -> None:
    model = saved(kind, "wide")
    forecasts = load_forecaster(model.files, 1).forecast(model.data.test)
    np.testing.assert_array_equal(forecasts[1:, 0], forecasts[:-1, 1])
    np.testing.assert_array_equal(forecasts[1:, 1], forecasts[:-1, 2])


def test_altered_weights_do_not_reproduce_the_recorded_forecast(
    kind: ModelType, default: Saved
) -> None:
    name = "prophet.json" if kind == "PROPHET" else "model.onnx"
    other = train_model(
        kind,
        demo_dataset(default.recipe, 60, 40),
        demo_cell(60, 40)[0],
        default.recipe.updated({"seed": 1}),
        1,
        silent,
    )
    altered = {**default.files, name: other.files[name]}
    with pytest.raises(ArtifactError, match="does not reproduce its recorded forecast") as caught:
        check_example(load_forecaster(altered, 1), default.files["example.json"])
    assert "within 1e-05" in (caught.value.allowed or "")
    assert caught.value.remedy is not None


@pytest.mark.parametrize("kind", ["GRU"], indirect=True)
def test_altered_preprocessing_does_not_reproduce_the_recorded_forecast(default: Saved) -> None:
    kinds = json.loads(default.files["nets.json"])
    kinds[0]["preprocessing"]["scales"][3]["scale"] *= 2
    altered = {**default.files, "nets.json": json.dumps(kinds).encode()}
    with pytest.raises(ArtifactError):
        check_example(load_forecaster(altered, 1), default.files["example.json"])


def test_example_of_rows_with_empty_cells_holds_numbers_only(default: Saved) -> None:
    forecaster = load_forecaster(default.files, 1)
    rows = default.raw_test.copy()
    rows.iloc[-4:, 2] = np.nan
    example = example_of(forecaster, rows, default.data.preprocessing.target_ranges)
    json.loads(example, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    check_example(forecaster, example, tolerance=1e-9)
    filled = rows.ffill()
    assert json.loads(example)["forecast"] == forecaster.forecast_next(filled).tolist()


def test_tolerance_of_a_recorded_forecast_is_in_units_of_each_targets_range() -> None:
    model = saved("GRU", "wide")
    forecaster = load_forecaster(model.files, 1)
    ranges = [1e9, 1e-3]
    example = json.loads(example_of(forecaster, model.raw_test, ranges))
    assert example["ranges"] == ranges
    for step, target in np.ndindex(3, 2):
        for error, reproduced in ((0.009, True), (0.011, False), (-0.011, False)):
            forecast = np.array(example["forecast"])
            forecast[step, target] += error * ranges[target]
            altered = json.dumps({**example, "forecast": forecast.tolist()}).encode()
            with nullcontext() if reproduced else pytest.raises(ArtifactError, match="reproduce"):
                check_example(forecaster, altered, tolerance=0.01)


def test_recorded_forecast_that_is_not_finite_is_never_reproduced(default: Saved) -> None:
    example = json.loads(default.files["example.json"])
    example["forecast"][0][0] = float("nan")
    with pytest.raises(ArtifactError):
        check_example(load_forecaster(default.files, 1), json.dumps(example).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"forecast": [1.0, 2.0]},
        {"forecast": []},
        {"forecast": [[1.0, 2.0, 3.0]]},
        {"forecast": [["much", "more"]]},
        {"ranges": [1.0, 1.0, 1.0]},
        {"ranges": None},
        {"rows": {}},
        {"rows": {"time": [], **{name: [] for name in RAW_COLUMNS}}},
    ],
)
def test_recorded_forecast_of_another_shape_cannot_be_read(change: dict[str, object]) -> None:
    model = saved("TREES", "default")
    example = {**json.loads(model.files["example.json"]), **change}
    with pytest.raises(ArtifactError, match="cannot be read"):
        check_example(load_forecaster(model.files, 1), json.dumps(example).encode())


def test_model_without_a_recorded_forecast_is_not_proven() -> None:
    with pytest.raises(ArtifactError, match="no recorded forecast"):
        check_example(load_forecaster(saved("TREES", "default").files, 1), None)


def untrained(kind: ModelType, method: str, decay: float = 0.0) -> tuple[Forecaster, Dataset]:
    """A net that predicts no change at all, whatever it sees."""
    recipe = demo_recipe(
        window={"size": 6, "horizon": 3, "targets": ["down", "up"]},
        scaling={"method": method, "add_constant": 1.0},
        recurrent={"predict": "change", "change_decay": decay},
    )
    data = demo_dataset(recipe)
    features = data.train.features.shape[1]
    net = RecurrentNet(kind, features, recipe.window, recipe.recurrent)
    weights = {name: np.zeros(value.shape, "f4") for name, value in net.state_dict().items()}
    onnx = to_onnx(kind, [weights], recipe.window, features, recipe.recurrent)
    card = ModelCard(model_type=kind, window=recipe.window, settings={})
    kinds = net_kinds(recipe, data.train, data.preprocessing)
    files = {
        "model.json": card.model_dump_json().encode(),
        "model.onnx": onnx,
        "nets.json": NET_KINDS.dump_json(kinds),
        "preprocessing.json": data.preprocessing.model_dump_json().encode(),
    }
    return load_forecaster(files, 1), data


@pytest.mark.parametrize("method", get_args(Scaling.model_fields["method"].annotation))
@pytest.mark.parametrize("kind", ["GRU", "LSTM"], indirect=True)
def test_net_of_zero_weights_that_predicts_the_change_is_persistence(
    kind: ModelType, method: str
) -> None:
    forecaster, data = untrained(kind, method)
    units = np.array(data.preprocessing.target_ranges)
    persistence = baseline_forecasts("persistence", data)
    np.testing.assert_allclose(
        forecaster.forecast(data.test) / units, persistence / units, rtol=2e-6, atol=1e-6
    )
    rows = demo_cell(80, 40)[1]
    last = rows[["down", "up"]].to_numpy()[-1]
    np.testing.assert_allclose(
        forecaster.forecast_next(rows) / units, [last / units] * 3, rtol=2e-6, atol=1e-6
    )


def test_change_is_counted_from_the_mean_whose_weights_decay_with_age() -> None:
    forecaster, data = untrained("GRU", "None", decay=0.7)
    forecasts = forecaster.forecast(data.test)
    ages = [0.7**age for age in (5, 4, 3, 2, 1, 0)]
    for window in (0, 13, data.test.windows - 1):
        rows = data.test.measured[window : window + 6]
        mean = sum(age * row for age, row in zip(ages, rows, strict=True)) / sum(ages)
        np.testing.assert_allclose(forecasts[window], [mean] * 3, rtol=2e-6)


def test_number_of_threads_changes_no_bit(default: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "TREE_CHUNK", cores.CHUNK)
    one, two = (load_forecaster(default.files, threads) for threads in (1, 2))
    assert default.data.test.windows > cores.CHUNK, "there is something to share out"
    np.testing.assert_array_equal(two.forecast(default.data.test), one.forecast(default.data.test))


@pytest.mark.parametrize(
    ("kind", "needed"),
    [("LSTM", ["onnxruntime"]), ("TREES", ["onnxruntime"]), ("PROPHET", [])],
    indirect=["kind"],
)
def test_model_is_served_without_torch_prophet_or_dagster(
    default: Saved, needed: list[str], tmp_path: Path
) -> None:
    for name, content in default.files.items():
        (tmp_path / name).write_bytes(content)
    code = """
import sys
from pathlib import Path
from flts_assets.forecasting.forecaster import check_example, load_forecaster
heavy = {"torch", "prophet", "dagster", "mlflow", "sklearn", "onnxruntime", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
files = {file.name: file.read_bytes() for file in Path(sys.argv[1]).iterdir()}
check_example(load_forecaster(files, 1), files["example.json"])
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", str(needed)]
