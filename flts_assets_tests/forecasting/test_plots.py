from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest

from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.leaderboard import Leaderboard, evaluate
from flts_assets.forecasting.plots import (
    drift_picture,
    forecast_picture,
    leaderboard_picture,
    loss_picture,
)
from flts_assets.forecasting.progress import Epoch
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe

Floats = npt.NDArray[np.float64]
BEYOND = [np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0]


def assert_small_png(picture: bytes) -> None:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert 300 <= width <= 1200
    assert 100 <= height <= 800
    assert len(picture) < 200_000


def forecast_of(
    values: Floats,
    actuals: Floats | None = None,
    band: tuple[Floats, Floats] | None = None,
    **names: Floats,
) -> bytes:
    times = np.datetime64("2024-01-01", "ns") + np.arange(len(values)) * np.timedelta64(2, "m")
    actuals = values if actuals is None else actuals
    return forecast_picture(times, actuals, names or {"GRU": values}, "down", "title", band)


def board_of(data: Dataset) -> Leaderboard:
    return evaluate(data, [], demo_recipe())[0]


@pytest.mark.parametrize("rows", [1, 2, 50, 4000])
def test_forecast_picture_is_a_small_png_whatever_the_number_of_rows(rows: int) -> None:
    values = demo_cell(rows, 1)[0]["down"].to_numpy()
    assert_small_png(forecast_of(np.roll(values, 1), values))


def test_forecast_picture_shows_the_last_rows_only() -> None:
    values = np.random.default_rng(0).random(2000)
    other_before = values.copy()
    other_before[: 2000 - 720] = 7
    assert forecast_of(values) == forecast_of(other_before)
    other_after = values.copy()
    other_after[-1] = 7
    assert forecast_of(values) != forecast_of(other_after)


@pytest.mark.parametrize("value", BEYOND, ids=repr)
@pytest.mark.parametrize("rows", [10, 100], ids=["some rows", "all rows"])
def test_forecast_picture_stands_what_no_forecast_should_hold(value: float, rows: int) -> None:
    values = np.linspace(1, 2, 100)
    values[:rows] = value
    assert_small_png(forecast_of(values))


def test_forecast_picture_shows_the_band_of_the_last_rows_only() -> None:
    values = np.random.default_rng(0).random(2000)
    upper = values + 1
    with_band = forecast_of(values, band=(values - 1, upper))
    assert_small_png(with_band)
    assert with_band != forecast_of(values)
    upper[: 2000 - 720] = 7
    assert forecast_of(values, band=(values - 1, upper)) == with_band
    upper[-1] = 7
    assert forecast_of(values, band=(values - 1, upper)) != with_band


@pytest.mark.parametrize("value", BEYOND, ids=repr)
def test_loss_picture_stands_an_epoch_of_any_loss(value: float) -> None:
    epochs = [Epoch(1, 0.5, 0.4, 1.0), Epoch(2, value, value, 1.0), Epoch(3, 0.1, 0.2, 1.0)]
    assert_small_png(loss_picture(epochs, [3], "mse"))


@pytest.mark.parametrize("epochs", [1, 200])
def test_loss_picture_is_a_small_png_for_one_epoch_and_many(epochs: int) -> None:
    curve = [Epoch(number, 1 / number, 2 / number, 1.0) for number in range(1, epochs + 1)]
    assert_small_png(loss_picture(curve, [epochs], "mse"))


def test_loss_picture_shows_every_validated_net_and_no_refit() -> None:
    validated = [Epoch(1, 0.5, 0.4, 1.0), Epoch(2, 0.3, 0.3, 1.0), Epoch(3, 0.5, 0.6, 1.0, net=2)]
    refits = [Epoch(4, 0.2, None, 1.0), Epoch(5, 0.1, None, 1.0, net=2)]
    picture = loss_picture([*validated, *refits], [2, 1], "score")
    assert_small_png(picture)
    assert picture == loss_picture(validated, [2, 1], "score")
    assert picture != loss_picture(validated[:2], [2], "score"), "of one net"
    assert picture != loss_picture(validated, [1, 1], "score"), "of another kept epoch"
    assert picture != loss_picture(validated, [2, 1], "mse"), "of another loss"


@pytest.mark.parametrize("level", [1.0, 1e30])
def test_leaderboard_picture_is_a_small_png_also_with_a_hopeless_entry(level: float) -> None:
    data = demo_dataset(demo_recipe())
    board = board_of(data)
    worst = board.entries[-1].scores.model_copy(update={"score": level})
    entries = (*board.entries[:-1], board.entries[-1].model_copy(update={"scores": worst}))
    assert_small_png(leaderboard_picture(board.model_copy(update={"entries": entries})))


def test_leaderboard_picture_shows_the_measure_and_the_rows_that_rank() -> None:
    board = board_of(demo_dataset(demo_recipe()))
    shown = leaderboard_picture(board)
    assert leaderboard_picture(board.model_copy(update={"rank_by": "mae"})) != shown
    backtested = tuple(
        entry.model_copy(update={"backtest": board.entries[0].scores}) for entry in board.entries
    )
    beside = board.model_copy(update={"entries": backtested})
    assert leaderboard_picture(beside) == shown
    assert leaderboard_picture(beside.model_copy(update={"rank_on": "backtest"})) != shown


def test_leaderboard_picture_stands_a_perfect_persistence() -> None:
    data = demo_dataset(demo_recipe())
    data.test.measured[:] = 5.0
    board = board_of(data)
    assert board.entry("persistence").scores.score == 0
    assert len(board.entries) == len(BASELINES)
    assert_small_png(leaderboard_picture(board))


@pytest.mark.parametrize("defined", [0, len(BASELINES) - 1], ids=["none", "all but the last"])
def test_leaderboard_picture_stands_a_measure_that_is_not_defined(defined: int) -> None:
    board = board_of(demo_dataset(demo_recipe())).model_copy(update={"rank_by": "nrmse"})
    undefined = tuple(
        entry.model_copy(update={"scores": entry.scores.model_copy(update={"nrmse": None})})
        for entry in board.entries[defined:]
    )
    shown = board.model_copy(update={"entries": (*board.entries[:defined], *undefined)})
    assert_small_png(leaderboard_picture(shown))
    assert leaderboard_picture(shown) != leaderboard_picture(board)


def test_same_values_give_the_same_bytes() -> None:
    board = board_of(demo_dataset(demo_recipe()))
    assert leaderboard_picture(board) == leaderboard_picture(board)
    curve = [Epoch(1, 0.5, 0.4, 1.0)]
    assert loss_picture(curve, [1], "mse") == loss_picture(curve, [1], "mse")


def test_drift_picture_shows_every_column_and_the_limits() -> None:
    indices = {f"column-{place}": place / 10 for place in range(11)}
    picture = drift_picture(indices, (0.1, 0.25))
    assert_small_png(picture)
    assert picture != drift_picture({**indices, "column-3": 0.0}, (0.1, 0.25))
    assert picture != drift_picture(indices, (0.1, 0.5))
