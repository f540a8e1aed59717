from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flts_assets.forecasting.drift import covers, forecast_rows, input_rows, live, psi

STEP = pd.Timedelta(minutes=2)
START = pd.Timestamp("2018-03-01 10:00")
WITH_BAND = ("down", "down-lo-90", "down-hi-90")


# --- input drift ---------------------------------------------------------------------------------


def naive_psi(train: Sequence[float], sent: Sequence[float]) -> float:
    deciles = sorted({float(np.quantile(train, tenth / 10)) for tenth in range(1, 10)})
    if len(deciles) == 1:
        deciles = [math.nextafter(deciles[0], -math.inf), deciles[0]]
    total = 0.0
    for place in range(len(deciles) + 1):
        above = deciles[place - 1] if place else -math.inf
        to = deciles[place] if place < len(deciles) else math.inf
        shares = []
        for values in (train, sent):
            inside = [value for value in values if above < value <= to]
            shares.append(max(len(inside) / len(values), 1e-4))
        total += (shares[1] - shares[0]) * math.log(shares[1] / shares[0])
    return total


@given(
    train=arrays(float, st.integers(1, 60), elements=st.floats(0, 1e9) | st.integers(0, 3)),
    sent=arrays(float, st.integers(1, 60), elements=st.floats(0, 1e9) | st.integers(0, 3)),
)
@settings(max_examples=150, deadline=None)
def test_psi_equals_a_naive_loop_over_bins(train: np.ndarray, sent: np.ndarray) -> None:
    assert psi(train, sent) == pytest.approx(naive_psi(train.tolist(), sent.tolist()), abs=1e-9)


def test_psi_of_the_train_values_themselves_is_nothing() -> None:
    train = np.random.default_rng(0).lognormal(size=500)
    assert psi(train, train[::-1]) == 0


def test_psi_without_drift_is_about_what_chance_makes() -> None:
    rng = np.random.default_rng(1)
    found = [psi(rng.normal(size=2000), rng.normal(size=200)) for _ in range(200)]
    assert np.mean(found) == pytest.approx(9 * (1 / 2000 + 1 / 200), rel=0.15)


def test_psi_tells_a_small_shift_from_a_large_one() -> None:
    rng = np.random.default_rng(2)
    train = rng.normal(size=5000)
    small, large = (psi(train, rng.normal(shift, size=5000)) for shift in (0.1, 1.0))
    assert small < 0.1
    assert large > 0.25


@pytest.mark.parametrize("sent", [4.0, 6.0])
def test_psi_sees_a_constant_column_move_either_way(sent: float) -> None:
    train = np.full(100, 5.0)
    assert psi(train, train) == 0
    assert psi(train, np.full(100, sent)) > 0.25


def test_psi_leaves_empty_cells_out() -> None:
    train, sent = np.arange(50.0), np.arange(20.0, 40.0)
    gaps = [np.append(values, np.nan) for values in (train, sent)]
    assert psi(*gaps) == psi(train, sent)


# --- what was logged ------------------------------------------------------------------------------


def logged(*rows: tuple[int, Sequence[str], Sequence[Sequence[float]]]) -> pd.DataFrame:
    """Records as the log holds them: (place of the last row, columns, values [S][C])."""
    records = []
    for place, columns, values in rows:
        last = START + place * STEP
        records.append(
            {
                "last_time": last,
                "down": float(place),
                "times": np.array([last + ahead * STEP for ahead in range(1, len(values) + 1)]),
                "columns": np.array(columns, dtype=object),
                "values": np.array(values, dtype=float).ravel(),
            }
        )
    return pd.DataFrame(records)


def test_each_step_of_each_record_becomes_one_row() -> None:
    rows = [
        (0, ("down", "up"), [[1, 2], [3, 4]]),
        (1, ("down", "up"), [[5, 6]]),
        (5, ("up", "down"), [[8, 7], [10, 9]]),
    ]
    expected = set()
    for place, columns, values in rows:
        for step, row in enumerate(values, start=1):
            by_name = dict(zip(columns, row, strict=True))
            expected.add((START + (place + step) * STEP, by_name["down"], by_name["up"]))
    found = forecast_rows(logged(*rows), horizon=2)
    assert set(found[["time", "down", "up"]].itertuples(index=False, name=None)) == expected
    assert len(found) == 5
    assert found["time"].is_monotonic_increasing


def test_a_forecast_asked_twice_counts_once_and_keeps_its_interval() -> None:
    found = forecast_rows(
        logged((0, ("down",), [[1]]), (0, WITH_BAND, [[2, 1, 3]]), (0, ("down",), [[2]])), 1
    )
    assert found.drop(columns="time").to_dict("records") == [
        {"down": 2.0, "down-lo-90": 1.0, "down-hi-90": 3.0}
    ]


def test_steps_beyond_the_horizon_are_left_out() -> None:
    found = forecast_rows(logged((0, ("down",), [[1], [2], [3]])), horizon=2)
    assert found["down"].tolist() == [1, 2]


def test_no_record_gives_no_row() -> None:
    assert forecast_rows(logged((0, ("down",), [[1]])).iloc[:0], horizon=1).empty


def test_a_row_sent_many_times_is_one_input() -> None:
    records = logged((3, ("down",), [[1]]), (1, ("down",), [[1]]), (3, ("down",), [[2]]))
    assert input_rows(records, ("down",))["down"].tolist() == [1, 3]


# --- live error -----------------------------------------------------------------------------------


def measured(values: Sequence[float], first: int = 1) -> pd.DataFrame:
    index = pd.DatetimeIndex([START + (first + place) * STEP for place in range(len(values))])
    return pd.DataFrame({"down": values}, index=index)


def test_live_error_equals_a_naive_join_by_time() -> None:
    rng = np.random.default_rng(3)
    rows = [(place, ("down",), rng.uniform(size=(3, 1)).tolist()) for place in range(0, 40, 2)]
    actuals = measured(rng.uniform(size=30).tolist(), first=5)
    actuals.iloc[4] = np.nan
    errors = []
    for place, _, values in rows:
        for step, (forecast,) in enumerate(values, start=1):
            time = START + (place + step) * STEP
            if time in actuals.index and not math.isnan(actuals.loc[time, "down"]):
                errors.append((forecast - actuals.loc[time, "down"]) / 2.0)
    found = live(forecast_rows(logged(*rows), 3), actuals, ("down",), (2.0,), None, ())
    assert found is not None
    assert found.scores.forecasts == len(errors) > 20
    assert found.scores.mae == pytest.approx(sum(map(abs, errors)) / len(errors))
    assert found.scores.mse == pytest.approx(sum(e * e for e in errors) / len(errors))


def test_coverage_counts_only_forecasts_that_were_asked_with_the_interval() -> None:
    rows = forecast_rows(
        logged(
            (0, WITH_BAND, [[5, 4, 6]]),
            (1, WITH_BAND, [[5, 4, 6]]),
            (2, WITH_BAND, [[5, 5.5, 6]]),
            (3, ("down",), [[100]]),
        ),
        horizon=1,
    )
    found = live(rows, measured([5, 7, 5.7, 5]), ("down",), (1.0,), None, (0.5, 0.9))
    assert found is not None
    assert found.coverage[0.9] == pytest.approx(2 / 3)
    assert math.isnan(found.coverage[0.5])


@pytest.mark.parametrize("actuals", [measured([1.0], first=99), measured([math.nan])])
def test_nothing_is_told_before_something_was_measured(actuals: pd.DataFrame) -> None:
    rows = forecast_rows(logged((0, ("down",), [[1]])), 1)
    assert live(rows, actuals, ("down",), (1.0,), None, ()) is None
    assert live(rows.iloc[:0], actuals, ("down",), (1.0,), None, ()) is None


@pytest.mark.parametrize(
    ("rows", "minutes", "enough"), [(1000, 2, True), (1000, 1, False), (199, 20, False)]
)
def test_judging_needs_rows_and_days(rows: int, minutes: int, enough: bool) -> None:
    times = pd.date_range(START, periods=rows, freq=f"{minutes}min").to_numpy()
    assert covers(np.concatenate([times, times]), days=1) is enough
