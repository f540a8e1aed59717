from __future__ import annotations

import json
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from prophet import Prophet

from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.prophet_curve import ProphetCurve, Season
from flts_assets.forecasting.prophet_model import train_prophet
from flts_assets.recipe import Recipe
from flts_assets_tests.forecasting.datasets import demo_recipe, silent

Floats = npt.NDArray[np.float64]
SEASONS = {"days": ["weekly", "daily"], "minutes": []}
WIDE_RANGE = {"n_changepoints": 7, "changepoint_prior_scale": 0.5}
"""prior scales under which the rate does change"""


def rows_of(span: str) -> pd.DataFrame:
    """Sixteen days of hourly rows, or a hundred minutes; some are unmeasured."""
    rows, step = (384, "1h") if span == "days" else (50, "2min")
    frame = demo_cell(rows, 1)[0]
    frame.index = pd.date_range("2024-01-01 03:00", periods=rows, freq=step, name="time")
    frame.iloc[[5, 20], 0] = np.nan
    return frame


def recipe_of() -> Recipe:
    return demo_recipe(window={"targets": ["down", "rnti_count"]}, prophet=WIDE_RANGE)


@cache
def curves(span: str) -> dict[str, ProphetCurve]:
    """As training leaves them."""
    recipe, frame = recipe_of(), rows_of(span)
    after = frame.copy()
    after.index += frame.index[-1] - frame.index[0] + (frame.index[1] - frame.index[0])
    train, test, fitted = prepare(frame, after, recipe)
    data = Dataset(split_of(train, recipe), split_of(test, recipe), fitted)
    models = json.loads(train_prophet(data.train, recipe, silent).models)
    return {target: ProphetCurve.model_validate(one) for target, one in models.items()}


@pytest.fixture(scope="module", params=SEASONS)
def span(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def curve(span: str) -> ProphetCurve:
    return curves(span)["down"]


def test_curve_says_what_prophet_predicts(span: str) -> None:
    frame = rows_of(span)
    times = pd.date_range(frame.index[0], periods=701, freq="37min") - pd.Timedelta("2 days")
    assert times[0] < frame.index[0] < frame.index[-1] < times[-1]
    for target, curve in curves(span).items():
        own = Prophet(**WIDE_RANGE, uncertainty_samples=0)
        history = pd.DataFrame({"ds": frame.index, "y": frame[target].to_numpy()}).dropna()
        own.fit(history, seed=0)
        expected = own.predict(pd.DataFrame({"ds": times}))["yhat"].to_numpy()
        np.testing.assert_allclose(curve.at(times.to_numpy()), expected, rtol=1e-9)


def test_curve_has_the_seasons_that_its_history_spans_and_rates_that_change(
    span: str, curve: ProphetCurve
) -> None:
    assert [season.name for season in curve.seasons] == SEASONS[span]
    assert len(curve.changepoints) == len(curve.rate_changes) == 7
    assert max(map(abs, curve.rate_changes)) > 1e-3


def test_times_may_stand_in_any_shape(curve: ProphetCurve) -> None:
    times = pd.date_range("2024-01-02", periods=24, freq="7min").to_numpy()
    flat = curve.at(times)
    one_by_one = [float(curve.at(times[place : place + 1])[0]) for place in range(24)]
    np.testing.assert_array_equal(flat, one_by_one)
    for shape in ((24,), (4, 6), (2, 3, 4), (0, 3)):
        count = int(np.prod(shape))
        shaped = curve.at(times[:count].reshape(shape))
        np.testing.assert_array_equal(shaped, flat[:count].reshape(shape))


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "m"])
def test_unit_of_the_times_does_not_matter(curve: ProphetCurve, unit: str) -> None:
    times = pd.date_range("2024-01-02", periods=24, freq="7min").to_numpy()
    received = curve.at(times.astype(f"datetime64[{unit}]"))
    np.testing.assert_allclose(received, curve.at(times), rtol=1e-12)


def test_curve_comes_back_equal_from_its_json(curve: ProphetCurve) -> None:
    times = pd.date_range("2024-01-02", periods=24, freq="7min").to_numpy()
    for back in (
        ProphetCurve.model_validate_json(curve.model_dump_json()),
        ProphetCurve.model_validate(json.loads(json.dumps(curve.model_dump()))),
    ):
        assert back == curve
        assert back.at(times).tobytes() == curve.at(times).tobytes()


def naive(curve: ProphetCurve, time: pd.Timestamp) -> float:
    t = (time - pd.Timestamp(curve.start)).total_seconds() / curve.span_s
    rate, offset = curve.rate, curve.offset
    for point, change in zip(curve.changepoints, curve.rate_changes, strict=True):
        if t >= point:
            rate += change
            offset -= point * change
    value = rate * t + offset
    days = (time - pd.Timestamp(0)).total_seconds() / 86400
    for season in curve.seasons:
        for place, weight in enumerate(season.weights):
            angle = 2 * np.pi * (place // 2 + 1) * days / season.period_days
            value += weight * (np.cos(angle) if place % 2 else np.sin(angle))
    return float(value * curve.y_scale)


def test_value_is_trend_and_seasons_as_in_a_naive_loop() -> None:
    curve = ProphetCurve(
        start="2024-01-01T00:00:00",
        span_s=86400.0,
        y_scale=1e6,
        rate=0.5,
        offset=0.25,
        changepoints=(0.25, 0.5),
        rate_changes=(-2.0, 3.0),
        seasons=(
            Season(name="daily", period_days=1.0, weights=(0.1, -0.2, 0.3, 0.4)),
            Season(name="weekly", period_days=7.0, weights=(0.5, 0.6)),
        ),
    )
    times = pd.date_range("2023-12-31", periods=97, freq="1h")
    expected = [naive(curve, time) for time in times]
    np.testing.assert_allclose(curve.at(times.to_numpy()), expected, rtol=1e-9)


def test_curve_without_changepoints_or_seasons_is_a_line() -> None:
    line = ProphetCurve(
        start="2024-01-01T00:00:00",
        span_s=3600.0,
        y_scale=10.0,
        rate=2.0,
        offset=1.0,
        changepoints=(),
        rate_changes=(),
        seasons=(),
    )
    times = pd.date_range("2024-01-01", periods=4, freq="30min").to_numpy()
    assert line.at(times).tolist() == [10.0, 20.0, 30.0, 40.0]
