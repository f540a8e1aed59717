from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.comparison import Errors
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.forecaster import Forecaster, ModelCard
from flts_assets.forecasting.intervals import Intervals
from flts_assets.forecasting.leaderboard import (
    Candidate,
    Leaderboard,
    Result,
    Training,
    evaluate,
    forecast_frame,
)
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.split import Split, validation_windows
from flts_assets.forecasting.training import direct_intervals
from flts_assets.recipe import ModelType, Recipe
from flts_assets_tests.forecasting.datasets import baseline_forecasts, demo_dataset, demo_recipe

Floats = npt.NDArray[np.float64]
WIDE = {"size": 6, "horizon": 3, "targets": ["down", "up"]}


@dataclass
class Saying:
    """The core of a forecaster that says what it was told to."""

    forecasts: Floats
    rows_needed: int = 1

    def of_split(self, split: Split) -> Floats:
        return self.forecasts

    def after(self, raw: Floats, times: npt.NDArray[np.datetime64]) -> Floats:
        return self.forecasts[:1]


def candidate(
    kind: ModelType, forecasts: Floats, recipe: Recipe, intervals: Intervals | None = None
) -> Candidate:
    card = ModelCard(model_type=kind, window=recipe.window, settings={})
    return Candidate(
        kind,
        Forecaster(card, Saying(forecasts), intervals),
        fit_s=1.5,
        run_id=f"run of {kind}",
        trained=Training(
            fingerprint="a", attempt="b", started_at=datetime(2024, 1, 1, tzinfo=timezone.utc)
        ),
    )


@pytest.fixture
def recipe() -> Recipe:
    return demo_recipe(window=WIDE)


@pytest.fixture
def data(recipe: Recipe) -> Dataset:
    return demo_dataset(recipe)


@pytest.fixture
def candidates(data: Dataset, recipe: Recipe) -> list[Candidate]:
    actuals = data.test.actuals()
    intervals = direct_intervals(
        validation_windows(data.train, recipe.recurrent).actuals() * 1.05, data.train, recipe
    )
    return [
        candidate("PROPHET", actuals * 3, recipe),
        candidate("GRU", actuals, recipe),
        candidate("LSTM", actuals * 1.05, recipe, intervals),
    ]


def test_models_and_baselines_stand_on_one_board_the_best_first(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, results = evaluate(data, candidates, recipe)
    names = [entry.name for entry in board.entries]
    assert sorted(names) == sorted([*BASELINES, "GRU", "LSTM", "PROPHET"])
    assert names[0] == "GRU"
    assert names == [result.name for result in results]
    assert [entry.rank for entry in board.entries] == list(range(1, len(names) + 1))
    scores = [entry.scores.score for entry in board.entries]
    assert scores == sorted(scores)
    assert [entry.name for entry in board.models] == ["GRU", "LSTM", "PROPHET"]
    assert board.entry("LSTM").run_id == "run of LSTM"
    assert board.entry("LSTM").fit_s == 1.5
    assert all(entry.run_id is None for entry in board.entries if entry.kind == "baseline")
    assert (board.config_hash, board.targets) == (recipe.config_hash, ("down", "up"))


def test_all_are_scored_on_the_same_forecasts_in_the_same_unit(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, results = evaluate(data, candidates, recipe)
    fitted = data.preprocessing
    for entry, result in zip(board.entries, results, strict=True):
        np.testing.assert_array_equal(result.errors.actuals, data.test.actuals())
        assert result.errors.forecasts.shape == data.test.actuals().shape
        assert entry.scores.forecasts == data.test.windows * 3 * 2
        assert entry.scores == score(
            data.test.actuals(), result.errors.forecasts, fitted.targets, fitted.target_ranges
        )
    assert board.forecasts == data.test.windows


def test_skill_is_one_for_a_perfect_model_zero_for_persistence_and_negative_below(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, _ = evaluate(data, candidates, recipe)
    reference = board.entry("persistence").scores.score
    assert board.entry("GRU").skill == 1
    assert board.entry("persistence").skill == 0
    assert board.entry("PROPHET").skill < 0
    for entry in board.entries:
        assert entry.skill == pytest.approx(1 - entry.scores.score / reference)


@pytest.mark.parametrize("rank_by", ["score", "rmse", "mae", "mse"])
def test_rank_follows_the_measure_that_the_recipe_names(rank_by: str) -> None:
    recipe = demo_recipe(evaluation={"rank_by": rank_by})
    data = demo_dataset(recipe)
    actuals = data.test.actuals()
    (unit,) = data.preprocessing.target_ranges
    one_miss = actuals.copy()
    one_miss[0] += unit
    candidates = [
        candidate("GRU", actuals + unit / 10, recipe),
        candidate("LSTM", one_miss, recipe),
    ]
    board, _ = evaluate(data, candidates, recipe)
    values = [getattr(entry.scores, rank_by) for entry in board.entries]
    assert values == sorted(values)
    by_name = {entry.name: entry.rank for entry in board.models}
    assert (by_name["LSTM"] < by_name["GRU"]) == (rank_by == "mae")
    assert board.rank_by == rank_by


@pytest.mark.parametrize("rank_by", ["score", "rmse", "mae", "mse", "nrmse"])
def test_only_the_targets_that_the_recipe_evaluates_are_averaged(rank_by: str) -> None:
    recipe = demo_recipe(window=WIDE, evaluation={"targets": ["up"], "rank_by": rank_by})
    data = demo_dataset(recipe)
    actuals = data.test.actuals()
    units = np.array(data.preprocessing.target_ranges)
    bad_down, bad_up = (actuals + units * np.array(share) for share in ([9, 0.01], [0, 0.5]))
    candidates = [candidate("LSTM", bad_down, recipe), candidate("GRU", bad_up, recipe)]
    board, _ = evaluate(data, candidates, recipe)
    assert [entry.name for entry in board.models] == ["LSTM", "GRU"]
    scores = board.entry("LSTM").scores
    assert scores.rmse == pytest.approx(0.01)
    assert scores.score == pytest.approx(0.8 * 0.01 + 0.2 * 0.01**2)
    assert scores.nrmse == pytest.approx(0.01 * units[1] / actuals[..., 1].mean())
    assert scores.raw_rmse["down"] == pytest.approx(9 * units[0])


def test_rank_by_nrmse_weighs_each_target_by_its_mean() -> None:
    recipe = demo_recipe(window=WIDE, evaluation={"rank_by": "nrmse"})
    data = demo_dataset(recipe)
    actuals = data.test.actuals()
    means = actuals.mean(axis=(0, 1))
    candidates = [
        candidate("GRU", actuals + means * [0.1, 0.3], recipe),
        candidate("LSTM", actuals + means * [0.3, 0.0], recipe),
    ]
    board, _ = evaluate(data, candidates, recipe)
    assert board.entry("LSTM").scores.nrmse == pytest.approx(0.15)
    assert board.entry("GRU").scores.nrmse == pytest.approx(0.2)
    values = [entry.scores.by("nrmse") for entry in board.entries]
    assert values == sorted(values)
    assert len(set(values)) > 2


def test_undefined_nrmse_sorts_after_any_other_and_survives_json() -> None:
    recipe = demo_recipe(evaluation={"rank_by": "nrmse"})
    data = demo_dataset(recipe)
    worst = evaluate(data, [], recipe)[0].entries[-1].scores
    quiet = replace(data, test=replace(data.test, measured=np.zeros_like(data.test.measured)))
    ones = np.ones_like(quiet.test.actuals())
    board, _ = evaluate(quiet, [candidate("GRU", ones, recipe)], recipe)
    assert {entry.scores.nrmse for entry in board.entries} == {None}
    assert all(worst.by("nrmse") < entry.scores.by("nrmse") for entry in board.entries)
    assert "nrmse" not in board.entries[0].scores.measures()
    assert {entry.before_persistence for entry in board.entries} == {None}
    assert Leaderboard.model_validate_json(board.model_dump_json()) == board


def test_ties_are_ranked_by_name_however_the_candidates_come(data: Dataset, recipe: Recipe) -> None:
    same = baseline_forecasts("persistence", data)
    kinds: tuple[ModelType, ...] = ("PROPHET", "LSTM", "GRU")
    for order in (kinds, kinds[::-1]):
        board, _ = evaluate(data, [candidate(kind, same, recipe) for kind in order], recipe)
        first = board.entry("GRU").rank
        names = [entry.name for entry in board.entries[first - 1 : first + 3]]
        assert names == ["GRU", "LSTM", "PROPHET", "persistence"]


def test_nobody_has_skill_where_persistence_is_perfect(recipe: Recipe, data: Dataset) -> None:
    still = replace(data.test, measured=np.full_like(data.test.measured, 5.0))
    quiet = replace(data, test=still)
    board, _ = evaluate(quiet, [candidate("GRU", still.actuals() + 1, recipe)], recipe)
    assert board.entry("persistence").scores.score == 0
    assert {entry.skill for entry in board.entries} == {0}


def test_board_comes_back_equal_from_its_json(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, _ = evaluate(data, candidates, recipe)
    assert Leaderboard.model_validate_json(board.model_dump_json()) == board


def test_board_without_models_has_the_baselines(data: Dataset, recipe: Recipe) -> None:
    board, _ = evaluate(data, [], recipe)
    assert len(board.entries) == len(BASELINES)
    assert board.models == ()


def test_every_entry_but_persistence_tells_how_far_it_is_before_persistence(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, _ = evaluate(data, candidates, recipe)
    reference = board.entry("persistence").scores.score
    for entry in board.entries:
        if entry.name == "persistence":
            assert entry.before_persistence is None
            continue
        before = entry.before_persistence
        assert before is not None
        assert before.value == pytest.approx(reference - entry.scores.score, abs=1e-12)
        assert before.low <= before.high
        if entry.name == "GRU":
            assert before.better
        if entry.name == "PROPHET":
            assert before.high < 0


def test_models_after_the_best_model_tell_how_far_they_are_behind_it(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, _ = evaluate(data, candidates, recipe)
    best, *others = board.models
    assert best.behind_best is None
    for entry in others:
        assert entry.behind_best is not None
        assert entry.behind_best.better
        expected = entry.scores.score - best.scores.score
        assert entry.behind_best.value == pytest.approx(expected)
    assert {entry.behind_best for entry in board.entries if entry.kind == "baseline"} == {None}


def test_backtest_ranks_where_the_recipe_says_so_and_test_scores_are_told_beside_it() -> None:
    recipe = demo_recipe(
        window=WIDE, backtest={"cutoffs": 2}, evaluation={"rank_on": "backtest", "rank_by": "mae"}
    )
    data = demo_dataset(recipe)
    actuals = data.test.actuals()
    candidates = [candidate("GRU", actuals * 3, recipe), candidate("LSTM", actuals, recipe)]
    of_train = data.train.actuals()
    backtested = {
        name: Errors(of_train, of_train * (2 + place)) for place, name in enumerate(BASELINES)
    }
    backtested |= {
        "GRU": Errors(of_train, of_train * 1.1),
        "LSTM": Errors(of_train, of_train * 1.2),
    }
    board, _ = evaluate(data, candidates, recipe, backtested)
    assert board.rank_on == "backtest"
    assert [entry.name for entry in board.entries] == ["GRU", "LSTM", *BASELINES]
    fitted = data.preprocessing
    for entry in board.entries:
        errors = backtested[entry.name]
        scores = score(errors.actuals, errors.forecasts, fitted.targets, fitted.target_ranges)
        assert entry.backtest == scores == entry.ranked_by(board)
    gru, lstm = board.models
    assert lstm.scores.score == 0
    assert gru.scores.score > 0
    assert gru.before_persistence is not None
    assert lstm.behind_best is not None
    persistence = board.entry("persistence").ranked_by(board)
    assert gru.before_persistence.value == pytest.approx(persistence.mae - gru.ranked_by(board).mae)
    assert lstm.behind_best.value == pytest.approx(
        lstm.ranked_by(board).mae - gru.ranked_by(board).mae
    )


def test_backtest_is_told_on_a_board_that_ranks_by_the_test_rows(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    plain, _ = evaluate(data, candidates, recipe)
    of_train = data.train.actuals()
    backtested = {"GRU": Errors(of_train, of_train * 9)}
    board, _ = evaluate(data, candidates, recipe, backtested)
    assert board.rank_on == "test"
    assert [entry.name for entry in board.entries] == [entry.name for entry in plain.entries]
    told = [entry.name for entry in board.entries if entry.backtest is not None]
    assert told == ["GRU"]
    assert board.entry("GRU").ranked_by(board) == board.entry("GRU").scores


def test_coverage_is_the_share_of_test_values_inside_a_models_bands(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    data.test.measured[20] = np.nan
    with_bands = candidates[2:]
    board, results = evaluate(data, with_bands, recipe)
    (band,) = next(one for one in results if one.name == "LSTM").bands.values()
    actuals = data.test.actuals()
    measured = inside = 0
    for place in np.ndindex(actuals.shape):
        if not np.isnan(actuals[place]):
            measured += 1
            inside += band.lower[place] <= actuals[place] <= band.upper[place]
    assert board.entry("LSTM").coverage == {"0.9": inside / measured}
    assert 0 < inside < measured < actuals.size
    assert all(not entry.coverage for entry in board.entries if entry.name != "LSTM")


def columns_of(result: Result) -> dict[str, Floats]:
    bands = {
        f"{result.name}-{end}-{100 * level:g}": values
        for level, band in result.bands.items()
        for end, values in (("lo", band.lower), ("hi", band.upper))
    }
    return {result.name: result.errors.forecasts, **bands}


def test_forecast_frame_has_one_row_a_value_as_in_a_naive_loop(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    _, results = evaluate(data, candidates, recipe)
    data.test.measured[12, 1] = np.nan
    size = recipe.window.size
    rows: list[dict[str, Any]] = []
    for window in range(data.test.windows):
        for step in range(3):
            for place, target in enumerate(("down", "up")):
                row = window + size + step
                rows.append(
                    {
                        "time": data.test.times[row],
                        "step": step + 1,
                        "target": target,
                        "actual": data.test.measured[row, place],
                        **{
                            column: values[window, step, place]
                            for one in results
                            for column, values in columns_of(one).items()
                        },
                    }
                )
    frame = forecast_frame(data, results)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(rows), check_exact=True)
    assert frame["actual"].isna().sum() == 3
    assert list(frame.columns[4:7]) == ["GRU", "LSTM", "LSTM-lo-90"]
