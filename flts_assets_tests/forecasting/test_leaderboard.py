from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.leaderboard import (
    Candidate,
    Leaderboard,
    Training,
    evaluate,
    forecast_frame,
)
from flts_assets.forecasting.metrics import score
from flts_assets.forecasting.split import Split
from flts_assets.recipe import ModelType, Recipe
from flts_assets_tests.forecasting.datasets import baseline_forecasts, demo_dataset, demo_recipe

Floats = npt.NDArray[np.float64]
WIDE = {"size": 6, "horizon": 3, "targets": ["down", "up"]}


@dataclass(frozen=True)
class Saying:
    """A forecaster that says what it was told to."""

    forecasts: Floats
    rows_needed: int = 1

    def forecast(self, split: Split) -> Floats:
        return self.forecasts

    def forecast_next(self, rows: pd.DataFrame) -> Floats:
        return self.forecasts[0]


def candidate(kind: ModelType, forecasts: Floats) -> Candidate:
    return Candidate(
        kind,
        Saying(forecasts),
        fit_s=1.5,
        run_id=f"run of {kind}",
        trained=Training(fingerprint="a", attempt="b"),
    )


@pytest.fixture
def recipe() -> Recipe:
    return demo_recipe(window=WIDE)


@pytest.fixture
def data(recipe: Recipe) -> Dataset:
    return demo_dataset(recipe)


@pytest.fixture
def candidates(data: Dataset) -> list[Candidate]:
    actuals = data.test.actuals()
    return [
        candidate("PROPHET", actuals * 3),
        candidate("GRU", actuals),
        candidate("LSTM", actuals * 1.05),
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
        assert result.forecasts.shape == data.test.actuals().shape
        assert entry.scores.forecasts == data.test.windows * 3 * 2
        assert entry.scores == score(
            data.test.actuals(), result.forecasts, fitted.targets, fitted.target_ranges
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
    candidates = [candidate("GRU", actuals + unit / 10), candidate("LSTM", one_miss)]
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
    board, _ = evaluate(data, [candidate("LSTM", bad_down), candidate("GRU", bad_up)], recipe)
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
        candidate("GRU", actuals + means * [0.1, 0.3]),
        candidate("LSTM", actuals + means * [0.3, 0.0]),
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
    board, _ = evaluate(quiet, [candidate("GRU", ones)], recipe)
    assert {entry.scores.nrmse for entry in board.entries} == {None}
    assert all(worst.by("nrmse") < entry.scores.by("nrmse") for entry in board.entries)
    assert "nrmse" not in board.entries[0].scores.measures()
    assert Leaderboard.model_validate_json(board.model_dump_json()) == board


def test_ties_are_ranked_by_name_however_the_candidates_come(data: Dataset, recipe: Recipe) -> None:
    same = baseline_forecasts("persistence", data)
    kinds: tuple[ModelType, ...] = ("PROPHET", "LSTM", "GRU")
    for order in (kinds, kinds[::-1]):
        board, _ = evaluate(data, [candidate(kind, same) for kind in order], recipe)
        first = board.entry("GRU").rank
        names = [entry.name for entry in board.entries[first - 1 : first + 3]]
        assert names == ["GRU", "LSTM", "PROPHET", "persistence"]


def test_nobody_has_skill_where_persistence_is_perfect(recipe: Recipe, data: Dataset) -> None:
    still = replace(data.test, measured=np.full_like(data.test.measured, 5.0))
    quiet = replace(data, test=still)
    board, _ = evaluate(quiet, [candidate("GRU", still.actuals() + 1)], recipe)
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


def test_forecast_frame_has_one_row_a_value_as_in_a_naive_loop(
    data: Dataset, recipe: Recipe, candidates: list[Candidate]
) -> None:
    board, results = evaluate(data, candidates, recipe)
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
                        **{one.name: one.forecasts[window, step, place] for one in results},
                    }
                )
    frame = forecast_frame(data, results)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(rows), check_exact=True)
    assert frame["actual"].isna().sum() == 3
    assert list(frame.columns[4:]) == [entry.name for entry in board.entries]
