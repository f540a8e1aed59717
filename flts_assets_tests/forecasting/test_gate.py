from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flts_assets.errors import PromotionError
from flts_assets.forecasting.comparison import Difference
from flts_assets.forecasting.gate import choose
from flts_assets.forecasting.leaderboard import Entry, Leaderboard, Training
from flts_assets.forecasting.metrics import Scores
from flts_assets.recipe.model import Promotion

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
BEHIND = Difference(value=0.02, low=0.01, high=0.03)
TIED = Difference(value=0.005, low=-0.004, high=0.014)
NOT_AHEAD = Difference(value=0.0, low=-0.01, high=0.01)
AHEAD = Difference(value=0.1, low=0.05, high=0.15)
RULES = Promotion()
STRICT = Promotion(must_beat_persistence=True)


def scores(value: float) -> Scores:
    return Scores(
        rmse=value, mae=value, mse=value, score=value, nrmse=value, raw_rmse={}, forecasts=7
    )


def model(
    name: str,
    behind: Difference | None = None,
    ahead: Difference = AHEAD,
    started: int = 0,
    backtest: float | None = None,
) -> dict[str, Any]:
    """`started` minutes after the others."""
    return {
        "name": name,
        "kind": "model",
        "behind_best": behind,
        "before_persistence": ahead,
        "backtest": None if backtest is None else scores(backtest),
        "trained": Training(
            fingerprint=name, attempt="a", started_at=START + timedelta(minutes=started)
        ),
    }


def baseline(name: str) -> dict[str, Any]:
    return {"name": name, "kind": "baseline"}


def board(*rows: dict[str, Any], rank_on: str = "test") -> Leaderboard:
    """The best first, with scores of .1, .2, …"""
    entries = tuple(
        Entry(rank=rank, scores=scores(rank / 10), skill=0.0, fit_s=1.0, predict_s=1.0, **row)
        for rank, row in enumerate(rows, start=1)
    )
    return Leaderboard(
        config_hash="c",
        rank_by="rmse",
        rank_on=rank_on,
        targets=("down",),
        forecasts=7,
        entries=entries,
    )


def test_winner_is_the_first_and_the_reason_says_how_far_the_runner_up_is_behind() -> None:
    ranked = board(model("GRU"), model("LSTM", BEHIND, started=9), model("PROPHET", BEHIND))
    winner, reason = choose(ranked, RULES)
    assert winner == ranked.entries[0]
    assert reason == (
        "rmse 0.10000 on 7 test windows; the runner-up, LSTM, is behind by"
        " +0.02000 [+0.01000, +0.03000]"
    )


def test_only_model_wins_without_a_runner_up() -> None:
    winner, reason = choose(board(model("GRU"), baseline("persistence")), RULES)
    assert (winner.name, reason) == ("GRU", "rmse 0.10000 on 7 test windows")


def test_newest_start_decides_among_models_without_a_significant_difference() -> None:
    ranked = board(
        model("LSTM"),
        model("GRU", TIED, started=2),
        model("ENSEMBLE", TIED, started=1),
        model("PROPHET", BEHIND, started=9),
    )
    winner, reason = choose(ranked, RULES)
    assert winner.name == "GRU"
    assert reason == (
        "rmse 0.20000 on 7 test windows; no significant difference between LSTM, GRU, ENSEMBLE;"
        " the newest start decides"
    )


def test_models_that_started_together_are_decided_among_by_rank() -> None:
    assert choose(board(model("LSTM"), model("GRU", TIED)), RULES)[0].name == "LSTM"


def test_rank_decides_a_tie_where_the_recipe_says_so() -> None:
    ranked = board(model("LSTM"), model("GRU", TIED, started=2))
    winner, reason = choose(ranked, Promotion(tie="rank"))
    assert winner.name == "LSTM"
    assert reason.endswith("no significant difference between LSTM, GRU; the rank decides")


def test_model_whose_interval_touches_zero_is_tied() -> None:
    touching = Difference(value=0.01, low=0.0, high=0.02)
    assert choose(board(model("LSTM"), model("GRU", touching, started=2)), RULES)[0].name == "GRU"


def test_model_that_does_not_beat_persistence_is_promoted_with_a_warning() -> None:
    ranked = board(baseline("persistence"), model("GRU", ahead=NOT_AHEAD))
    winner, reason = choose(ranked, RULES)
    assert winner.name == "GRU"
    assert (
        "does not significantly beat persistence (ahead by +0.00000 [-0.01000, +0.01000])" in reason
    )


def test_gate_refuses_a_winner_that_does_not_beat_persistence_and_says_the_interval() -> None:
    ranked = board(model("GRU", ahead=NOT_AHEAD), model("LSTM", BEHIND, ahead=AHEAD))
    rules = Promotion(must_beat_persistence=True, confidence=0.9)
    with pytest.raises(PromotionError, match="GRU, does not beat persistence") as caught:
        choose(ranked, rules)
    assert caught.value.received == ("rmse lower by +0.00000 [-0.01000, +0.01000], 90% interval")
    assert "must_beat_persistence" in (caught.value.allowed or "")
    assert "the pointer stays where it was" in (caught.value.remedy or "")


def test_gate_refuses_a_winner_that_is_worse_than_persistence() -> None:
    worse = Difference(value=-0.1, low=-0.15, high=-0.05)
    with pytest.raises(PromotionError, match="does not beat persistence"):
        choose(board(baseline("persistence"), model("GRU", ahead=worse)), STRICT)


def test_tied_model_that_beats_persistence_is_chosen_where_the_first_does_not() -> None:
    ranked = board(model("GRU", ahead=NOT_AHEAD, started=9), model("LSTM", TIED, ahead=AHEAD))
    assert choose(ranked, RULES)[0].name == "GRU"
    for tie in ("newest_start", "rank"):
        winner, reason = choose(ranked, STRICT.model_copy(update={"tie": tie}))
        assert winner.name == "LSTM"
        assert "no significant difference between GRU, LSTM" in reason
        assert "does not significantly beat" not in reason


def test_model_that_beats_persistence_passes_the_gate() -> None:
    ranked = board(model("GRU"), baseline("persistence"), model("LSTM", BEHIND))
    winner, reason = choose(ranked, STRICT)
    assert winner.name == "GRU"
    assert "persistence" not in reason


def test_baselines_that_rank_above_the_winner_are_named_and_no_others() -> None:
    ranked = board(baseline("ridge"), baseline("linear_ar"), model("GRU"), baseline("persistence"))
    assert choose(ranked, RULES)[1].endswith("; better baselines: ridge, linear_ar")


def test_rank_by_the_backtest_is_named_with_its_own_score() -> None:
    ranked = board(
        model("GRU", backtest=0.7), model("LSTM", BEHIND, backtest=0.8), rank_on="backtest"
    )
    assert choose(ranked, RULES)[1].startswith("rmse 0.70000 on the backtest; ")


def test_model_that_is_not_shown_to_be_behind_shares_the_first_place() -> None:
    ranked = board(model("GRU"), model("PROPHET", None, started=9))
    winner, reason = choose(ranked, RULES)
    assert winner.name == "PROPHET"
    assert "no significant difference between GRU, PROPHET; the newest start decides" in reason


def test_winner_that_is_worse_than_persistence_is_called_so() -> None:
    behind = Difference(value=-0.2, low=-0.3, high=-0.1)
    _, reason = choose(board(baseline("persistence"), model("GRU", ahead=behind)), RULES)
    assert "significantly worse than persistence (ahead by -0.20000 [-0.30000, -0.10000])" in reason


def test_tied_model_that_is_not_shown_to_beat_persistence_is_set_aside_by_name() -> None:
    ranked = board(model("GRU", ahead=NOT_AHEAD, started=9), model("LSTM", TIED))
    winner, reason = choose(ranked, Promotion(must_beat_persistence=True))
    assert winner.name == "LSTM"
    assert (
        "no significant difference between GRU, LSTM; not shown to beat persistence: GRU" in reason
    )
    assert "decides" not in reason
