from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from flts_assets.errors import RawDataError
from flts_assets.forecasting.backtest import backtest, backtest_errors
from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.calendar import calendar_features
from flts_assets.forecasting.comparison import Errors
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.forecasting.leaderboard import Candidate, Training, evaluate
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.parquet import to_parquet
from flts_assets.forecasting.progress import Progress
from flts_assets.recipe import RAW_COLUMNS, ModelType, Recipe
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe
from flts_assets_tests.forecasting.trained import (
    ROWS,
    demo_models,
    every_kind_recipe,
)

Floats = npt.NDArray[np.float64]
N, SIZE, HORIZON = 160, 6, 2
CUTOFFS, STEP = 3, 20
TARGETS = ("down", "up")
STARTS = (100, 120, 140)
"""rows before each cutoff"""
QUICK = {"hidden_size": 4, "max_epochs": 1}


def recipe_of(**changes: object) -> Recipe:
    return demo_recipe(
        window={"size": SIZE, "horizon": HORIZON, "targets": TARGETS},
        models=["GRU"],
        recurrent=QUICK,
        backtest={"cutoffs": CUTOFFS, "step": STEP},
    ).updated(changes)


def rows() -> pd.DataFrame:
    """Raw train rows an hour apart, so that days lie among them; `up` is unmeasured twice."""
    frame = demo_cell(N, 1)[0]
    frame.index = pd.date_range("2024-01-01", periods=N, freq="1h", name="time")
    frame.iloc[[105, 130], RAW_COLUMNS.index("up")] = np.nan
    return frame


def backtested(measured: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    return backtest(measured, recipe, 1, lambda cutoff, model, progress: None)


@cache
def of_rows(recipe: Recipe) -> pd.DataFrame:
    return backtested(rows(), recipe)


def refitted() -> pd.DataFrame:
    """A GRU, a Prophet and their mean, fitted anew at every cutoff."""
    models = ["GRU", "PROPHET"]
    return of_rows(recipe_of(models=models, ensemble={"members": models}))


def of_model(frame: pd.DataFrame, model: str) -> pd.DataFrame:
    return frame[frame["model"] == model].reset_index(drop=True)


def test_frame_has_one_row_a_value_as_in_a_naive_loop() -> None:
    frame, measured = refitted(), rows()
    assert list(frame.columns) == [
        *("station", "model", "target", "cutoff", "time", "step", "y", "y_hat")
    ]
    expected = [
        {
            "target": target,
            "cutoff": measured.index[start - 1],
            "time": measured.index[start + window + step - 1],
            "step": step,
            "y": measured[target].iloc[start + window + step - 1],
        }
        for start in STARTS
        for window in range(STEP)
        for step in (1, 2)
        for target in TARGETS
        # The last windows have no second row to be compared with.
        if start + window + HORIZON <= N
    ]
    for model in ("GRU", "PROPHET", "ENSEMBLE", *BASELINES):
        rows_of = of_model(frame, model)
        pd.testing.assert_frame_equal(
            rows_of[["target", "cutoff", "time", "step", "y"]],
            pd.DataFrame(expected),
            check_dtype=False,
            check_exact=True,
        )
        assert set(rows_of["station"]) == {"DemoCell"}
        assert np.isfinite(rows_of["y_hat"]).all()
    assert rows_of["y"].isna().sum() == 4
    assert list(dict.fromkeys(frame["model"])) == [*BASELINES, "GRU", "PROPHET", "ENSEMBLE"]


def test_every_cutoff_has_step_windows_and_the_last_one_those_that_fit() -> None:
    windows = of_model(refitted(), "GRU").groupby("cutoff").size() / (HORIZON * len(TARGETS))
    assert windows.to_list() == [STEP, STEP, STEP - HORIZON + 1]


def test_ensemble_is_the_mean_of_its_members_at_every_cutoff() -> None:
    gru, prophet, mean = (of_model(refitted(), name) for name in ("GRU", "PROPHET", "ENSEMBLE"))
    np.testing.assert_allclose(mean["y_hat"], (gru["y_hat"] + prophet["y_hat"]) / 2, rtol=1e-12)


def known(measured: pd.DataFrame) -> pd.DataFrame:
    return measured[list(TARGETS)].ffill()


@dataclass(frozen=True)
class Naive:
    """Recomputes a baseline window by window; `row` is the first row that is forecast."""

    full: pd.DataFrame
    """raw rows without empty cells"""
    measured: pd.DataFrame
    start: int
    """rows before the cutoff"""

    def persistence(self, row: int) -> Floats:
        return np.tile(known(self.measured).to_numpy()[row - 1], (HORIZON, 1))

    def window_mean(self, row: int) -> Floats:
        return np.tile(known(self.measured).to_numpy()[row - SIZE : row].mean(axis=0), (HORIZON, 1))

    def seasonal_naive(self, row: int) -> Floats:
        values = self.measured[list(TARGETS)].to_numpy()
        day_ago = values[row - 24 : row - 24 + HORIZON]
        return np.where(np.isfinite(day_ago), day_ago, self.persistence(row))

    def linear_ar(self, row: int) -> Floats:
        hour = calendar_features(self.full.index)[:, :2]
        columns = []
        for target in TARGETS:
            values = self.full[target].to_numpy()

            def seen(at: int, values: Floats = values) -> Floats:
                return np.append(values[at - SIZE : at] / values.max(), hour[at])

            fitted_on = range(SIZE, self.start - HORIZON + 1)
            model = LinearRegression().fit(
                [seen(at) for at in fitted_on], [values[at : at + HORIZON] for at in fitted_on]
            )
            columns.append(model.predict([seen(row)])[0])
        return np.stack(columns, axis=1)

    def ridge(self, row: int) -> Floats:
        values = np.hstack([self.full.to_numpy(), calendar_features(self.full.index)])
        low, wide = values[: self.start].min(axis=0), np.ptp(values[: self.start], axis=0)
        scaled = (values - low) / np.where(wide > 0, wide, 1.0)
        fitted_on = range(SIZE, self.start - HORIZON + 1)
        model = Ridge(alpha=10).fit(
            [scaled[at - SIZE : at].ravel() for at in fitted_on],
            [scaled[at : at + HORIZON, :2].ravel() for at in fitted_on],
        )
        said = np.reshape(model.predict([scaled[row - SIZE : row].ravel()]), (HORIZON, 2))
        return np.asarray(said * wide[:2] + low[:2])


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_is_fitted_and_forecast_as_in_a_naive_loop(name: str) -> None:
    measured = rows()
    recipe = recipe_of(handle_nans={"fill": "zero"})
    received = of_model(of_rows(recipe), name)["y_hat"].to_numpy()
    windows = [(start, start + window) for start in STARTS for window in range(STEP)]
    expected = []
    for start, row in windows[: 1 - HORIZON]:
        naive: Callable[[int], Floats] = getattr(Naive(measured.fillna(0.0), measured, start), name)
        expected.append(naive(row))
    ranges = np.ptp(known(measured).to_numpy(), axis=0)
    np.testing.assert_allclose(
        received.reshape(-1, HORIZON, 2) / ranges, expected / ranges, rtol=0, atol=2e-5
    )


def test_without_refit_the_first_fit_forecasts_everything_after_its_cutoff() -> None:
    models = ["GRU", "PROPHET"]
    recipe = recipe_of(models=models, backtest={"refit": False})
    once, again = of_rows(recipe), refitted()
    for name in (*BASELINES, *models):
        one, other = of_model(once, name), of_model(again, name)
        keys = ["station", "target", "cutoff", "time", "step", "y"]
        pd.testing.assert_frame_equal(one[keys], other[keys])
        first = one["cutoff"] == one["cutoff"].iloc[0]
        # More windows in one call of the net: equal to the last bits of a float32.
        np.testing.assert_allclose(one["y_hat"][first], other["y_hat"][first], rtol=1e-5)
        if name in ("linear_ar", "ridge", *models):
            assert not np.allclose(one["y_hat"][~first], other["y_hat"][~first], rtol=1e-3)


@pytest.mark.parametrize(
    ("first", "refit", "poison"),
    [(107, True, np.nan), (130, True, 1e12), (130, False, np.nan), (131, False, 1e12)],
)
def test_rows_that_a_window_could_not_know_change_nothing_of_its_forecast(
    first: int, refit: bool, poison: float
) -> None:
    recipe = recipe_of(
        models=["GRU", "PROPHET"],
        ensemble={"members": ["GRU", "PROPHET"], "weights": "validated"},
        backtest={"cutoffs": 2, "step": 30, "refit": refit},
        handle_nans={"threshold": 0.9},
    )
    measured = rows()
    measured.iloc[first:] = poison
    one, other = of_rows(recipe), backtested(measured, recipe)
    starts = one["time"] - (one["step"] - 1) * pd.Timedelta(hours=1)
    before = starts <= measured.index[first]
    windows = first - 100 + 1
    assert before.sum() == windows * HORIZON * len(TARGETS) * len(set(one["model"]))
    y_hat, poisoned = one["y_hat"].to_numpy(), other["y_hat"].to_numpy()
    assert poisoned[before].tobytes() == y_hat[before].tobytes()
    assert np.isfinite(poisoned).all()
    later = ~before & (one["model"] == "ridge")
    assert not np.allclose(poisoned[later], y_hat[later], rtol=1e-3)


def test_backtesting_again_gives_the_same_values() -> None:
    recipe = recipe_of(backtest={"cutoffs": 1})
    one, again = of_rows(recipe), backtested(rows(), recipe)
    pd.testing.assert_frame_equal(again, one, check_exact=True)


@pytest.mark.parametrize(("refit", "trainings"), [(True, [1, 2]), (False, [1])])
def test_every_training_is_reported_with_its_cutoff_and_model(
    refit: bool, trainings: list[int]
) -> None:
    told: list[tuple[int, ModelType, Progress]] = []
    recipe = recipe_of(models=["GRU", "LSTM"], backtest={"cutoffs": 2, "refit": refit})
    backtest(rows(), recipe, 1, lambda *report: told.append(report))
    assert list(dict.fromkeys((number, model) for number, model, _ in told)) == [
        (number, model) for number in trainings for model in ("GRU", "LSTM")
    ]
    assert all(progress.epochs == 1 for _, _, progress in told)


def test_cutoffs_that_reach_before_the_first_row_are_refused_with_the_numbers() -> None:
    with pytest.raises(RawDataError, match="too few rows for the backtest") as caught:
        backtested(rows(), recipe_of(backtest={"cutoffs": 8}))
    assert caught.value.received == N
    assert caught.value.allowed == "more than backtest.cutoffs * backtest.step = 160"
    assert "DemoCell.csv" in str(caught.value)


def test_too_few_rows_before_the_first_cutoff_for_the_windows_are_refused() -> None:
    # Three windows of 6 + 2 rows need 10: one to fit on, and one apart from it to validate on.
    recipe = recipe_of(backtest={"cutoffs": 1, "step": 151})
    told = "cutoff after .*9 usable rows are fewer"
    with pytest.raises(RawDataError, match=told) as caught:
        backtested(rows(), recipe)
    assert (caught.value.received, (caught.value.allowed or "")[:11]) == (9, "at least 10")


def test_lagged_rows_before_the_cutoff_are_known_too() -> None:
    recipe = recipe_of(lags={"enabled": True, "n_lags": 2, "step": 2})
    frame = of_rows(recipe)
    keys = ["target", "cutoff", "time", "step", "y"]
    for name in ("GRU", "persistence"):
        pd.testing.assert_frame_equal(of_model(frame, name)[keys], of_model(refitted(), name)[keys])
    assert np.isfinite(frame["y_hat"]).all()


def test_errors_of_a_frame_are_those_of_its_windows_and_survive_parquet() -> None:
    frame = refitted()
    content = io.BytesIO(to_parquet(frame))
    for errors in (
        backtest_errors(frame, recipe_of()),
        backtest_errors(pd.read_parquet(content), recipe_of()),
    ):
        assert list(errors) == [*BASELINES, "GRU", "PROPHET", "ENSEMBLE"]
        for name, of in errors.items():
            rows_of = of_model(frame, name)
            assert of.actuals.shape == of.forecasts.shape == (59, HORIZON, len(TARGETS))
            for window, step, place in [(0, 0, 0), (7, 1, 0), (58, 0, 1), (58, 1, 1)]:
                (row,) = np.flatnonzero(
                    (rows_of["time"] == rows().index[100 + window + step])
                    & (rows_of["step"] == step + 1)
                    & (rows_of["target"] == TARGETS[place])
                )
                assert of.actuals[window, step, place] == rows_of["y"][row]
                assert of.forecasts[window, step, place] == rows_of["y_hat"][row]


def test_leaderboard_may_rank_by_the_backtest_instead_of_the_test_rows() -> None:
    trained = every_kind_recipe(models=["GRU", "LSTM"], ensemble={"members": []})
    recipe = trained.updated({"backtest": {"cutoffs": 2}, "evaluation": {"rank_on": "backtest"}})
    data = demo_dataset(recipe, *ROWS)
    candidates = [
        Candidate(
            kind,
            load_forecaster(demo_models(trained)[kind].files, 1),
            fit_s=1.0,
            run_id=kind,
            trained=Training(fingerprint="a", attempt="b", started_at=datetime.now(timezone.utc)),
        )
        for kind in ("GRU", "LSTM")
    ]
    draw = np.random.default_rng(0)
    ranges = data.preprocessing.target_ranges
    actuals = np.array(ranges) * draw.random((40, 3, 2))
    noise = np.array(ranges) * draw.normal(size=actuals.shape)
    by_test, _ = evaluate(data, candidates, trained)
    # The worst on the test rows are the best in the backtest.
    names = [entry.name for entry in by_test.entries][::-1]
    backtest_of = {
        name: Errors(actuals, actuals + 0.1 * place * noise) for place, name in enumerate(names)
    }
    board, results = evaluate(data, candidates, recipe, backtest_of)
    assert (board.rank_on, by_test.rank_on) == ("backtest", "test")
    assert [entry.name for entry in board.entries] == [one.name for one in results] == names
    for place, entry in enumerate(board.entries):
        assert entry.rank == place + 1
        assert entry.scores == by_test.entry(entry.name).scores
        assert entry.skill == by_test.entry(entry.name).skill
        assert entry.backtest == score(
            actuals, backtest_of[entry.name].forecasts, data.preprocessing.targets, ranges
        )
        assert entry.ranked_by(board) == entry.backtest
        assert by_test.entry(entry.name).backtest is None
    best, second = board.models
    assert best.behind_best is None
    assert second.behind_best is not None
    assert best.backtest is not None
    assert second.backtest is not None
    assert second.behind_best.value == pytest.approx(second.backtest.score - best.backtest.score)
    assert second.behind_best.better
    persistence = board.entry("persistence").backtest
    assert persistence is not None
    assert best.before_persistence is not None
    assert best.before_persistence.value == pytest.approx(persistence.score - best.backtest.score)


def test_backtest_is_shown_beside_a_rank_by_the_test_rows() -> None:
    recipe = every_kind_recipe(backtest={"cutoffs": 2})
    data = demo_dataset(recipe, *ROWS)
    errors = Errors(data.test.actuals(), data.test.actuals() * 1.5)
    board, _ = evaluate(data, [], recipe, dict.fromkeys(BASELINES, errors))
    without, _ = evaluate(data, [], recipe)
    assert [entry.name for entry in board.entries] == [entry.name for entry in without.entries]
    assert all(entry.backtest is not None for entry in board.entries)
    assert all(entry.ranked_by(board) == entry.scores for entry in board.entries)
