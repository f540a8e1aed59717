from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flts_assets.errors import TrainingError
from flts_assets.forecasting.metrics import Scores, measures_of, score, sums_of
from flts_assets_tests.forecasting.datasets import baseline_forecasts, real_dataset

TARGETS = ("down", "up")
SHAPE = (7, 3, 2)
VALUES = st.just(0.0) | st.floats(1e-6, 1e9)


def naive(actuals: np.ndarray, forecasts: np.ndarray, ranges: tuple[float, float]) -> list[float]:
    """rmse, mae, mse, nrmse: means over the targets; nrmse is infinite where a mean is 0."""
    windows, steps, targets = actuals.shape
    of_targets = []
    for target in range(targets):
        measured = errors = squares = total = 0.0
        for window in range(windows):
            for step in range(steps):
                actual = actuals[window, step, target]
                if not math.isnan(actual):
                    error = forecasts[window, step, target] - actual
                    measured += 1
                    errors += abs(error)
                    squares += error * error
                    total += actual
        rmse, unit = math.sqrt(squares / measured), ranges[target]
        mean = total / measured
        of_targets.append(
            [
                rmse / unit,
                errors / measured / unit,
                squares / measured / unit**2,
                rmse / mean if mean else math.inf,
            ]
        )
    return [sum(column) / targets for column in zip(*of_targets, strict=True)]


@given(
    actuals=arrays(float, SHAPE, elements=VALUES),
    forecasts=arrays(float, SHAPE, elements=st.floats(-1e9, 1e9)),
    empty=arrays(bool, SHAPE),
    ranges=st.tuples(st.floats(1, 1e9), st.floats(1, 1e9)),
)
@settings(max_examples=60, deadline=None)
def test_scores_equal_a_naive_loop_that_skips_what_was_not_measured(
    actuals: np.ndarray, forecasts: np.ndarray, empty: np.ndarray, ranges: tuple[float, float]
) -> None:
    empty[0, 0] = False
    actuals[empty] = np.nan
    scores = score(actuals, forecasts, TARGETS, ranges)
    rmse, mae, mse, nrmse = naive(actuals, forecasts, ranges)
    assert [scores.rmse, scores.mae, scores.mse] == pytest.approx([rmse, mae, mse], rel=1e-9)
    if math.isinf(nrmse):
        assert scores.nrmse is None
    else:
        assert scores.nrmse == pytest.approx(nrmse, rel=1e-9)
    assert scores.score == pytest.approx(0.5 * rmse + 0.3 * mae + 0.2 * mse, rel=1e-9)
    assert scores.forecasts == int((~empty).sum())


def test_error_of_one_tenth_of_the_range_everywhere_scores_as_expected() -> None:
    actuals = np.full((4, 1, 2), [50.0, 2.0])
    scores = score(actuals, actuals + np.array([10.0, 0.5]), TARGETS, (100.0, 5.0))
    assert scores.rmse == pytest.approx(0.1)
    assert scores.mae == pytest.approx(0.1)
    assert scores.mse == pytest.approx(0.01)
    assert scores.score == pytest.approx(0.05 + 0.03 + 0.002)
    assert scores.nrmse == pytest.approx((10 / 50 + 0.5 / 2) / 2)
    assert scores.raw_rmse == pytest.approx({"down": 10, "up": 0.5})


def test_measures_of_many_draws_of_windows_are_those_of_each_draw() -> None:
    random = np.random.default_rng(0)
    actuals = random.random((9, 3, 2))
    actuals[random.random(actuals.shape) < 0.2] = np.nan
    forecasts, ranges = random.random((9, 3, 2)), (2.0, 5.0)
    sums = sums_of(actuals, forecasts)
    draws = random.integers(9, size=(4, 6))
    measures = measures_of(sums[draws].sum(axis=1), np.array(ranges))
    for place, draw in enumerate(draws):
        scores = score(actuals[draw], forecasts[draw], TARGETS, ranges)
        assert {name: values[place] for name, values in measures.items()} == pytest.approx(
            scores.measures()
        )


def test_nrmse_is_infinite_where_a_mean_is_zero_and_warns_of_nothing() -> None:
    sums = sums_of(np.zeros(SHAPE), np.ones(SHAPE)).sum(axis=0)
    assert measures_of(sums, np.ones(2))["nrmse"] == np.inf


def test_forecast_of_what_was_not_measured_costs_nothing() -> None:
    actuals = np.array([[[1.0]], [[np.nan]], [[3.0]]])
    forecasts = np.array([[[1.0]], [[1e300]], [[3.0]]])
    assert score(actuals, forecasts, ["down"], [1.0]).score == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_forecast_that_is_not_finite_is_refused_with_their_number(value: float) -> None:
    forecasts = np.zeros(SHAPE)
    forecasts[2, 1] = value
    with pytest.raises(TrainingError, match="2 of 42 values"):
        score(np.ones(SHAPE), forecasts, TARGETS, (1.0, 1.0))


def test_target_without_any_measurement_is_refused_by_name() -> None:
    actuals = np.ones(SHAPE)
    actuals[..., 1] = np.nan
    with pytest.raises(TrainingError, match="target 'up' has no measured value"):
        score(actuals, np.ones(SHAPE), TARGETS, (1.0, 1.0))


def test_scores_come_back_equal_from_their_json() -> None:
    scores = score(np.ones(SHAPE), np.full(SHAPE, 1.1), TARGETS, (3.0, 7.0))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores


def test_scores_of_a_target_that_was_always_zero_come_back_from_their_json() -> None:
    scores = score(np.zeros(SHAPE), np.ones(SHAPE), TARGETS, (1.0, 1.0))
    assert Scores.model_validate_json(scores.model_dump_json()) == scores


def test_persistence_on_real_rows_scores_as_in_the_reference(real_data: Path) -> None:
    data = real_dataset(real_data)
    forecasts = baseline_forecasts("persistence", data)
    fitted = data.preprocessing
    scores = score(data.test.actuals(), forecasts, fitted.targets, fitted.target_ranges)
    assert scores.rmse == pytest.approx(0.04025, abs=5e-6)
    assert scores.mae == pytest.approx(0.02124, abs=5e-6)
    assert scores.score == pytest.approx(0.02682, abs=5e-6)
    assert scores.forecasts == 3_972
