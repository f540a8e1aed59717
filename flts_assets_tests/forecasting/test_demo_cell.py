from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.forecasting.raw_frame import count_empty_cells, grid_step, read_raw
from flts_assets.recipe import RAW_COLUMNS

STEP = pd.Timedelta(minutes=2)
LAGS = 10


@pytest.fixture(scope="module")
def cell() -> tuple[pd.DataFrame, pd.DataFrame]:
    return demo_cell()


def windows(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """[N, 13]: ten lags of `down`, a one and the time of day; [N]: the value that follows."""
    values = frame["down"].to_numpy() / 1e8
    lags = np.lib.stride_tricks.sliding_window_view(values, LAGS)[:-1]
    time = frame.index[LAGS:]
    minute = 2 * np.pi * (time.hour * 60 + time.minute).to_numpy() / 1440
    clock = [np.ones(len(minute)), np.sin(minute), np.cos(minute)]
    return np.column_stack([lags, *clock]), values[LAGS:]


def rmse(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def test_default_is_a_week_of_train_and_a_quarter_of_test(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, test = cell
    assert (train.shape, test.shape) == ((5040, 11), (1260, 11))
    assert tuple(train.columns) == tuple(test.columns) == RAW_COLUMNS


def test_test_starts_two_minutes_after_the_end_of_train(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, test = cell
    assert test.index[0] - train.index[-1] == STEP
    assert grid_step(train) == grid_step(test) == STEP


def test_both_frames_are_read_back_equal_from_their_csv(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    for frame in cell:
        read = read_raw(to_csv(frame), "DemoCell.csv")
        pd.testing.assert_frame_equal(read, frame, check_exact=True)


def test_few_rows_of_train_and_none_of_test_have_empty_cells(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, test = cell
    expected = dict.fromkeys(RAW_COLUMNS, 0) | {"mcs_up": 8, "mcs_up_var": 8}
    assert count_empty_cells(train) == expected
    assert not test.isna().to_numpy().any()


def test_rows_with_empty_cells_are_those_without_uplink(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, _ = cell
    silent = train[train["mcs_up"].isna()]
    assert (silent[["up", "rb_up", "rb_up_var"]] == 0).all().all()


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def digest(seed: int) -> str:
        train, test = demo_cell(90, 30, seed)
        return hashlib.sha256(to_csv(train) + to_csv(test)).hexdigest()

    assert digest(0) == digest(0)
    assert digest(0) != digest(1)


def test_bytes_stay_what_they_were_when_the_cell_was_published() -> None:
    train, test = demo_cell(60, 20)
    digest = hashlib.sha256(to_csv(train) + to_csv(test)).hexdigest()
    assert digest == "53de0df5be92ad110ae22ae2de6f0ff8f1597b4d0b202fc3fe084cae1826a1d8"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_linear_autoregression_with_time_of_day_beats_persistence(seed: int) -> None:
    train, test = demo_cell(seed=seed)
    inputs, targets = windows(train)
    weights = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    inputs, targets = windows(test)
    linear = rmse(targets - inputs @ weights)
    persistence = rmse(targets - inputs[:, LAGS - 1])
    assert linear < 0.95 * persistence


@pytest.mark.parametrize("seed", range(4))
def test_values_stay_in_the_ranges_that_a_station_can_report(seed: int) -> None:
    train, test = demo_cell(1440, 720, seed)
    frame = pd.concat([train, test])
    assert (frame.min() >= 0).all()
    assert (frame[["mcs_down", "mcs_up"]].max() <= 31).all()
    assert (frame[["rb_down", "rb_up"]].max() <= 1).all()
    assert (frame[["down", "up"]] % 8 == 0).all().all()
    assert (frame["rnti_count"] % 1 == 0).all()


def test_columns_have_the_scale_tails_and_relations_of_real_ones(
    cell: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    train, _ = cell
    assert 5e7 < train["down"].median() < 3e8
    assert train["down"].max() > 5 * train["down"].median()
    assert train["up"].max() > 30 * train["up"].median()
    ranks = train.rank().corr()["down"]
    assert ranks["rb_down"] > 0.9
    assert ranks["rnti_count"] > 0.6
    assert ranks["up"] > 0.5
    assert ranks["mcs_down"] < -0.1
    assert 0.75 < train["down"].autocorr(1) < 0.95
    assert train["down"].autocorr(720) > 0.2


def test_evenings_are_busier_than_early_mornings(cell: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, _ = cell
    hourly = train["down"].groupby(pd.DatetimeIndex(train.index).hour).mean()
    assert hourly.loc[12:20].min() > hourly.loc[3:7].max()


@pytest.mark.parametrize(("train_rows", "test_rows"), [(1, 1), (50, 50), (600, 1)])
def test_small_cells_can_be_read_too(train_rows: int, test_rows: int) -> None:
    for frame, rows in zip(demo_cell(train_rows, test_rows), (train_rows, test_rows), strict=True):
        assert len(read_raw(to_csv(frame), "DemoCell.csv")) == rows


@pytest.mark.parametrize(("train_rows", "test_rows"), [(0, 5), (5, 0), (-1, 5)])
def test_row_count_below_one_is_refused(train_rows: int, test_rows: int) -> None:
    with pytest.raises(ValueError, match="must be >= 1"):
        demo_cell(train_rows, test_rows)
