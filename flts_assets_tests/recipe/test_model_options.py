"""Options that came after the first hashes: what they allow, and that none moves an old hash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flts_assets.recipe import Recipe, parse_recipe
from flts_assets.recipe.columns import CYCLES, calendar_columns

FILES = {"train_file": "PobleSec.csv", "test_file": "PobleSec_test.csv"}
HASH = "6ce79cfae0029f0499e5ca7a14f996ee0fe8c7d4f2a4bbf2fe78d3ae6b155ea9"
"""of all rows of PobleSec, known before any of these options"""

OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"time_features": {"cycles": list(CYCLES)}}, {"time_features": {"cycles": ["min_of_day"]}}),
    ({"recurrent": {"predict": "level"}}, {"recurrent": {"predict": "change"}}),
    ({"recurrent": {"change_decay": 0}}, {"recurrent": {"predict": "change", "change_decay": 0.5}}),
    ({"recurrent": {"loss": "mse"}}, {"recurrent": {"loss": "score"}}),
    ({"recurrent": {"refit": False}}, {"recurrent": {"refit": True}}),
    ({"recurrent": {"members": 1}}, {"recurrent": {"members": 3}}),
    ({"recurrent": {"variants": []}}, {"recurrent": {"variants": [{}, {"predict": "change"}]}}),
    ({"trees": {"max_iter": 250}}, {"trees": {"max_iter": 50}}),
    ({"prophet": {"max_rows": 100_000}}, {"prophet": {"max_rows": 500}}),
    ({"ensemble": {"members": []}}, {"ensemble": {"members": ["GRU", "LSTM"]}}),
    (
        {"ensemble": {"weights": "equal"}},
        {"ensemble": {"members": ["GRU", "LSTM"], "weights": "validated"}},
    ),
    ({"intervals": {"levels": [0.9]}}, {"intervals": {"levels": [0.5, 0.9]}}),
    ({"intervals": {"levels": [0.9, 0.9]}}, {"intervals": {"levels": []}}),
    ({"backtest": {"cutoffs": 0}}, {"backtest": {"cutoffs": 5}}),
    ({"backtest": {"step": 720}}, {"backtest": {"cutoffs": 5, "step": 100}}),
    ({"backtest": {"refit": True}}, {"backtest": {"cutoffs": 5, "refit": False}}),
    (
        {"evaluation": {"rank_on": "test"}},
        {"evaluation": {"rank_on": "backtest"}, "backtest": {"cutoffs": 1}},
    ),
    (
        {"promotion": {"must_beat_persistence": False}},
        {"promotion": {"must_beat_persistence": True}},
    ),
    ({"promotion": {"confidence": 0.95}}, {"promotion": {"confidence": 0.9}}),
    ({"promotion": {"block": None}}, {"promotion": {"block": 30}}),
    ({"promotion": {"tie": "newest_start"}}, {"promotion": {"tie": "rank"}}),
]


def request(**changes: object) -> Recipe:
    return Recipe.model_validate({"name": "one", "data": FILES}).updated(changes)


def refusal(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    return str(caught.value)


@pytest.mark.parametrize(("default", "other"), OPTIONS, ids=str)
def test_option_at_its_default_leaves_the_hash_and_another_value_moves_it(
    default: dict[str, Any], other: dict[str, Any]
) -> None:
    assert request(**default).config_hash == HASH
    assert request(**other).config_hash != HASH


def test_every_other_value_has_a_hash_of_its_own() -> None:
    hashes = [request(**other).config_hash for _, other in OPTIONS]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("members", [["GRU"], ["PROPHET"]])
def test_ensemble_of_one_is_refused(members: list[str]) -> None:
    assert "an ensemble needs two models at least" in refusal(ensemble={"members": members})


def test_ensemble_of_a_model_that_is_not_trained_is_refused_by_its_name() -> None:
    told = refusal(models=["GRU", "LSTM"], ensemble={"members": ["TREES", "GRU", "PROPHET"]})
    assert "ensemble.members are not trained: PROPHET, TREES" in told
    assert "ensemble.members are not trained: TREES" in refusal(
        ensemble={"members": ["GRU", "TREES"]}
    )


def test_ensemble_that_repeats_a_model_or_holds_an_ensemble_is_refused() -> None:
    assert "models repeat one: GRU, GRU" in refusal(ensemble={"members": ["GRU", "GRU"]})
    assert "'GRU', 'LSTM', 'PROPHET' or 'TREES'" in refusal(
        ensemble={"members": ["GRU", "ENSEMBLE"]}
    )


def test_order_of_ensemble_members_says_nothing() -> None:
    one = request(ensemble={"members": ["PROPHET", "GRU", "LSTM"]})
    other = request(ensemble={"members": ["LSTM", "PROPHET", "GRU"]})
    assert one.ensemble.members == ("GRU", "LSTM", "PROPHET")
    assert one.config_hash == other.config_hash


@given(levels=st.lists(st.floats(0.001, 0.999), max_size=5))
@settings(max_examples=30, deadline=None)
def test_levels_ascend_each_once_whatever_their_order(levels: list[float]) -> None:
    recipe = request(intervals={"levels": levels})
    assert recipe.intervals.levels == tuple(sorted(set(levels)))
    again = request(intervals={"levels": levels[::-1] * 2})
    assert again.config_hash == recipe.config_hash


@pytest.mark.parametrize(
    ("level", "told"),
    [
        (0, "greater than 0"),
        (1, "less than or equal to 0.999"),
        (90, "less than or equal to 0.999"),
        (-0.5, "greater than 0"),
        (float("nan"), "finite"),
        ("most", "number"),
    ],
)
def test_level_that_is_no_share_is_refused(level: object, told: str) -> None:
    assert told in refusal(intervals={"levels": [0.5, level]})


def test_rank_on_a_backtest_that_is_not_made_is_refused() -> None:
    told = refusal(evaluation={"rank_on": "backtest"})
    assert "evaluation.rank_on is backtest: backtest.cutoffs must be 1 or more" in told
    recipe = request(evaluation={"rank_on": "backtest"}, backtest={"cutoffs": 1})
    assert recipe.evaluation.rank_on == "backtest"


@pytest.mark.parametrize("place", ["recurrent", "variant"])
def test_decay_without_a_change_to_count_from_is_refused(place: str) -> None:
    def recurrent(**net: object) -> dict[str, object]:
        return net if place == "recurrent" else {"variants": [net]}

    told = refusal(recurrent=recurrent(change_decay=0.5))
    assert "change_decay has a meaning only with predict: change" in told
    assert request(recurrent=recurrent(predict="change", change_decay=0.5))
    for decay, limit in ((-0.1, "greater than or equal to 0"), (1, "less than 1")):
        assert limit in refusal(recurrent=recurrent(predict="change", change_decay=decay))


def test_cycles_stand_in_calendar_order_each_once() -> None:
    recipe = request(time_features={"cycles": ["day_of_week", "min_of_day", "day_of_week"]})
    assert recipe.time_features.cycles == ("min_of_day", "day_of_week")
    assert calendar_columns(recipe.time_features.cycles) == (
        "min_of_day_sin",
        "min_of_day_cos",
        "day_of_week_sin",
        "day_of_week_cos",
    )
    other = request(time_features={"cycles": ["min_of_day", "day_of_week"]})
    assert other.config_hash == recipe.config_hash
    assert "'min_of_day', 'day_of_week' or 'day_of_year'" in refusal(
        time_features={"cycles": ["hour"]}
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backtest": {"cutoffs": True}}, "must not be yes or no"),
        ({"ensemble": {"weights": "stacked"}}, "'equal' or 'validated'"),
        ({"evaluation": {"rank_on": "train"}}, "'test' or 'backtest'"),
        ({"promotion": {"confidence": 0}}, "greater than 0"),
        ({"recurrent": {"refit": 1.5}}, "boolean"),
    ],
    ids=str,
)
def test_value_that_is_not_allowed_is_refused_with_what_is(
    changes: dict[str, Any], told: str
) -> None:
    assert told in refusal(**changes)


def test_options_are_read_from_a_recipe_file() -> None:
    text = """
data: {train_file: ElBorn.csv, test_file: ElBorn_test.csv}
models: [GRU, LSTM]
ensemble: {members: [LSTM, GRU], weights: validated}
intervals: {levels: [0.9, 0.5]}
backtest: {cutoffs: 3, step: 10, refit: no}
evaluation: {rank_on: backtest}
promotion: {must_beat_persistence: yes, tie: rank}
recurrent: {predict: change, change_decay: 0.5, members: 2, refit: yes}
"""
    recipe = parse_recipe(text, source="options.yaml", default_name="options")
    assert recipe.ensemble.members == ("GRU", "LSTM")
    assert recipe.intervals.levels == (0.5, 0.9)
    assert (recipe.backtest.cutoffs, recipe.backtest.refit) == (3, False)
    assert recipe.recurrent.nets == 2
    assert recipe.promotion.must_beat_persistence
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_details_of_what_is_not_made_are_no_other_request() -> None:
    plain = request().config_hash
    assert request(ensemble={"weights": "validated"}).config_hash == plain
    assert request(backtest={"step": 100, "refit": False}).config_hash == plain
    assert request(recurrent={"variants": [{}]}).config_hash == plain


def test_backtest_that_steps_less_than_the_horizon_is_refused() -> None:
    told = refusal(window={"horizon": 5}, backtest={"cutoffs": 2, "step": 4})
    assert "backtest.step must be window.horizon or more" in told
