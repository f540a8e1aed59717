from __future__ import annotations

import io
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from flts_assets.forecasting import plots
from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.leaderboard import Leaderboard, evaluate
from flts_assets.forecasting.plots import (
    drift_picture,
    error_by_hour_picture,
    forecast_picture,
    leaderboard_picture,
    loss_picture,
    residual_picture,
    small,
)
from flts_assets.forecasting.progress import Epoch
from flts_assets.recipe.columns import RAW_COLUMNS, UNITS
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe

Floats = npt.NDArray[np.float64]
DOWN = ("down",)
BEYOND = [np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0]


def assert_small_png(picture: bytes) -> None:
    """As it is shown in a page: drawn larger, then made small."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    picture = small(picture)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert 300 <= width <= 1200
    assert 100 <= height <= 800
    assert len(picture) < 100_000


def column(values: Floats) -> Floats:
    return values[:, None]


def forecast_of(
    values: Floats,
    actuals: Floats | None = None,
    band: tuple[Floats, Floats] | None = None,
    **names: Floats,
) -> bytes:
    times = np.datetime64("2024-01-01", "ns") + np.arange(len(values)) * np.timedelta64(2, "m")
    actuals = values if actuals is None else actuals
    shown = {name: column(one) for name, one in (names or {"GRU": values}).items()}
    ends = None if band is None else (column(band[0]), column(band[1]))
    return forecast_picture(times, column(actuals), shown, DOWN, "title", ends)


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


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure, as it becomes a PNG."""
    figures: list[Figure] = []
    to_png = plots._png

    def kept(figure: Figure, *rest: Any, **named: Any) -> bytes:
        figures.append(figure)
        return to_png(figure, *rest, **named)

    monkeypatch.setattr(plots, "_png", kept)
    return figures


def draw_all(values: Floats) -> None:
    errors = {"GRU": column(values), "persistence": -column(values)}
    forecast_of(values, values * 2, (values / 2, values * 8))
    error_by_hour_picture(hours(len(values)), errors, DOWN)
    residual_picture(errors, DOWN)
    loss_picture([Epoch(number, 1 / number, 2.0, 1.0) for number in (1, 2)], [1], "mse")


def test_no_legend_lies_over_data_and_nothing_is_cut_off(drawn: list[Figure]) -> None:
    draw_all(demo_cell(300, 1)[0]["down"].to_numpy())
    for figure in drawn:
        (axes,) = figure.axes
        legend = axes.get_legend()
        assert legend is not None
        assert not legend.get_window_extent().overlaps(axes.bbox)
        for text in axes.findobj(Text):
            if text.get_text() and text.get_text() == axes.get_title("left"):
                assert not legend.get_window_extent().overlaps(text.get_window_extent())
        shown, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(shown.x0, shown.y0) >= 0
        assert shown.x1 <= width
        assert shown.y1 <= height


@pytest.mark.parametrize("targets", [DOWN, RAW_COLUMNS], ids=["one target", "all columns"])
def test_each_target_has_a_panel_with_its_unit(
    drawn: list[Figure], targets: tuple[str, ...]
) -> None:
    values = np.tile([[0.0], [1e6], [2e6]], len(targets))
    forecast_picture(hours(3), values, {"GRU": values}, targets, "title")
    error_by_hour_picture(hours(3), {"GRU": values}, targets)
    residual_picture({"GRU": values}, targets)
    for target, forecast, by_hour, residual in zip(
        targets, *(figure.axes for figure in drawn), strict=True
    ):
        assert forecast.get_ylabel() == f"{target}, {UNITS[target]}"
        assert by_hour.get_ylabel() == f"mean |error|\n{target}, {UNITS[target]}"
        assert residual.get_xlabel() == f"forecast - actual of {target}, {UNITS[target]}"
        bits = target in ("down", "up")
        assert ("2 M" in [text.get_text() for text in forecast.get_yticklabels()]) == bits


def test_a_panel_shows_its_own_target(drawn: list[Figure]) -> None:
    values = np.column_stack([np.full(30, 3.0), np.full(30, 7.0)])
    band = (values - 1, values + 2)
    forecast_picture(hours(30), values, {"GRU": values + 1}, ("down", "up"), "title", band)
    error_by_hour_picture(hours(30), {"GRU": -values}, ("down", "up"))
    residual_picture({"GRU": values}, ("down", "up"))
    for place, level in enumerate((3.0, 7.0)):
        forecast, by_hour, residual = (figure.axes[place] for figure in drawn)
        assert [set(line.get_ydata()) for line in forecast.lines] == [{level}, {level + 1}]
        assert forecast.collections[0].get_datalim(forecast.transData).ymin == level - 1
        assert {bar.get_height() for bar in by_hour.patches if bar.get_height() > 0} == {level}
        assert residual.get_xlim()[0] < level < residual.get_xlim()[1]


def test_pictures_of_five_targets_are_shown_whole_and_small(drawn: list[Figure]) -> None:
    targets = RAW_COLUMNS[:5]
    frame = demo_cell(2000, 1)[0][list(targets)]
    values = frame.ffill().bfill().to_numpy()
    errors = {"GRU": np.roll(values, 1, axis=0) - values, "persistence": values / 3}
    for picture in (
        forecast_picture(
            hours(2000), values, {"GRU": np.roll(values, 1, axis=0)}, targets, "title"
        ),
        error_by_hour_picture(hours(2000), errors, targets),
        residual_picture(errors, targets),
    ):
        assert len(small(picture)) < 250_000
    for figure in drawn:
        boxes = [axes.get_tightbbox() for axes in figure.axes]
        for upper, lower in pairwise(boxes):
            assert lower.y1 <= upper.y0, "no panel lies over another"


def test_times_are_told_with_their_date(drawn: list[Figure]) -> None:
    forecast_of(np.arange(100.0))
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "time"
    assert axes.xaxis.get_offset_text().get_text().startswith("2024-Jan-01")


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


def pixels(picture: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(picture)) as opened:
        return np.asarray(opened.convert("RGB"))


def hours(count: int) -> npt.NDArray[np.datetime64]:
    return np.datetime64("2024-01-01", "ns") + np.arange(count) * np.timedelta64(1, "h")


def test_small_picture_has_its_own_white_ground_and_the_same_shape() -> None:
    values = column(np.arange(50.0))
    drawn = residual_picture({"GRU": values, "persistence": values - 20}, DOWN)
    reduced = pixels(small(drawn))
    assert (reduced[:3] == 255).all(), "readable on a dark page as on a light one"
    height, width, _ = pixels(drawn).shape
    assert reduced.shape[1] == round(width * 96 / 160)
    assert reduced.shape[0] == round(height * 96 / 160)
    assert len(small(drawn)) < len(drawn)


def test_picture_that_is_small_already_keeps_its_size() -> None:
    drawn = small(residual_picture({"GRU": column(np.arange(50.0))}, DOWN))
    assert pixels(small(drawn)).shape == pixels(drawn).shape


def test_error_by_hour_stands_at_the_hours_that_were_forecast() -> None:
    one = error_by_hour_picture(hours(24), {"GRU": np.ones((24, 1))}, DOWN)
    few = error_by_hour_picture(hours(3), {"GRU": np.ones((3, 1))}, DOWN)
    blue = [(pixels(drawn) == (0x1F, 0x6F, 0xEB)).all(axis=-1).sum() for drawn in (one, few)]
    assert blue[0] > 5 * blue[1] > 0


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(5, np.nan), id="nothing measured"),
        pytest.param(np.zeros(5), id="all equal"),
        pytest.param(np.full(5, 1e38), id="huge and equal"),
        pytest.param(np.array([np.nan, 1.0, -1e38, 1e38, 0.0]), id="from huge to huge"),
        pytest.param(np.array([1.0]), id="one"),
    ],
)
def test_error_pictures_are_drawn_whatever_the_errors_are(values: Floats) -> None:
    errors = {"GRU": column(values), "persistence": column(values)}
    assert_small_png(residual_picture(errors, DOWN))
    assert_small_png(error_by_hour_picture(hours(len(values)), errors, DOWN))
