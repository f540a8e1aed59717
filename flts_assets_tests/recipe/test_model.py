from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flts_assets.recipe import RAW_COLUMNS, Recipe, load_recipe
from flts_assets.settings import PROJECT


def request(**changes: object) -> Recipe:
    files = {"train_file": "PobleSec.csv", "test_file": "PobleSec_test.csv"}
    return Recipe.model_validate({"name": "one", "data": files}).updated(changes)


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    return str(caught.value)


def test_recipe_needs_a_name_and_two_files_and_nothing_else() -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate({"data": {}})
    missing = {fault["loc"] for fault in caught.value.errors()}
    assert missing == {("name",), ("data", "train_file"), ("data", "test_file")}


def test_recipe_and_its_sections_cannot_be_changed() -> None:
    recipe = request()
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.window.size = 5  # type: ignore[misc]


@pytest.mark.parametrize("changes", [{"sed": 1}, {"data": {"rows": 1}}, {"window": {"steps": 1}}])
def test_unknown_field_is_refused(changes: dict[str, Any]) -> None:
    assert "Extra inputs are not permitted" in refusal(changes)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".csv", "-x.csv", "..csv", "x.txt", "x", "a/x.csv", "../x.csv", "/x.csv", "x.csv/"),
        *("x.csv\n", "x\n.csv", "\nx.csv", "two words.csv", " x.csv", "x.csv ", "x\t.csv"),
        *("x\0.csv", "ü.csv", "x" * 197 + ".csv"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("field", ["train_file", "test_file"])
def test_file_that_is_no_csv_of_the_dataset_bucket_is_refused(field: str, name: str) -> None:
    assert "must be the name of a CSV in the dataset bucket" in refusal({"data": {field: name}})


def test_scoring_on_the_train_file_is_refused() -> None:
    told = refusal({"data": {"test_file": "PobleSec.csv"}})
    assert "train_file and test_file are both 'PobleSec.csv'" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"sample_train_rows": -1}}, "greater than or equal to 0"),
        ({"data": {"sample_train_rows": 1.5}}, "integer"),
        ({"data": {"sample_strategy": "middle"}}, "'head', 'tail' or 'random'"),
        ({"handle_nans": {"threshold": 1.01}}, "less than or equal to 1"),
        ({"handle_nans": {"knn_neighbors": 0}}, "greater than or equal to 1"),
        ({"outliers": {"factor": 0}}, "greater than 0"),
        ({"outliers": {"factor": float("nan")}}, "finite"),
        ({"scaling": {"method": "RobustScaler"}}, "'MinMaxScaler', 'StandardScaler'"),
        ({"scaling": {"add_constant": float("inf")}}, "finite"),
        ({"lags": {"enabled": True}}, "enabled lags need n_lags of at least 1"),
        ({"lags": {"step": 0}}, "greater than or equal to 1"),
        ({"window": {"size": 0}}, "greater than or equal to 1"),
        ({"window": {"horizon": 0}}, "greater than or equal to 1"),
        ({"window": {"targets": []}}, "at least 1"),
        ({"window": {"targets": ["sideways"]}}, "'down', 'up'"),
        ({"window": {"targets": ["up", "down", "up"]}}, "targets repeat a column"),
        ({"models": []}, "at least 1"),
        ({"models": ["gru"]}, "'GRU', 'LSTM', 'PROPHET' or 'TREES'"),
        ({"models": ["GRU", "GRU"]}, "models repeat one"),
        ({"recurrent": {"validation_share": 0}}, "greater than 0"),
        ({"recurrent": {"validation_share": 1}}, "less than 1"),
        ({"recurrent": {"learning_rate": float("inf")}}, "finite"),
        ({"recurrent": {"patience": 0}}, "greater than or equal to 1"),
        ({"prophet": {"n_changepoints": -1}}, "greater than or equal to 0"),
        ({"evaluation": {"rank_by": "r2"}}, "'score', 'rmse', 'mae'"),
        ({"evaluation": {"targets": []}}, "at least 1"),
        ({"evaluation": {"targets": ["down", "down"]}}, "targets repeat a column: down, down"),
        ({"evaluation": {"targets": ["down", "up"]}}, "evaluation.targets are not forecast: up"),
        ({"scaling": {"fit_share": 0}}, "greater than 0"),
        ({"scaling": {"fit_share": 1.01}}, "less than or equal to 1"),
        ({"handle_nans": {"fill": "mean"}}, "'knn' or 'zero'"),
        ({"recurrent": {"gradient_clip": 0}}, "greater than 0"),
        ({"recurrent": {"predict": "both"}}, "'level' or 'change'"),
        ({"recurrent": {"schedule": "cosine"}}, "'constant' or 'one_cycle'"),
        ({"recurrent": {"loss": "mae"}}, "'mse' or 'score'"),
        ({"recurrent": {"members": 0}}, "greater than or equal to 1"),
        ({"recurrent": {"change_decay": 0.5}}, "only with predict: change"),
        ({"recurrent": {"predict": "change", "change_decay": 1}}, "less than 1"),
        ({"recurrent": {"variants": [{"change_decay": 0.5}]}}, "only with predict: change"),
        (
            {"recurrent": {"predict": "change", "variants": [{"predict": "level"}]}},
            "give predict and change_decay to each of the variants",
        ),
        ({"recurrent": {"initial_weights": "zero"}}, "'torch' or 'published'"),
        ({"time_features": {"cycles": ["hour"]}}, "'min_of_day', 'day_of_week'"),
        ({"ensemble": {"members": ["GRU"]}}, "an ensemble needs two models at least"),
        ({"ensemble": {"members": ["GRU", "GRU"]}}, "models repeat one: GRU, GRU"),
        ({"ensemble": {"members": ["GRU", "ENSEMBLE"]}}, "'GRU', 'LSTM', 'PROPHET' or 'TREES'"),
        ({"trees": {"max_leaf_nodes": 1}}, "greater than or equal to 2"),
        (
            {"models": ["GRU"], "ensemble": {"members": ["GRU", "LSTM"]}},
            "ensemble.members are not trained: LSTM",
        ),
        ({"intervals": {"levels": [0.9, 1]}}, "less than or equal to 0.999"),
        ({"backtest": {"cutoffs": -1}}, "greater than or equal to 0"),
        ({"backtest": {"step": 0}}, "greater than or equal to 1"),
        ({"evaluation": {"rank_on": "backtest"}}, "backtest.cutoffs must be 1 or more"),
        ({"promotion": {"confidence": 1}}, "less than 1"),
        ({"promotion": {"block": 0}}, "greater than or equal to 1"),
        ({"promotion": {"tie": "oldest"}}, "'newest_start' or 'rank'"),
        ({"seed": True}, "must not be yes or no"),
        ({"data": {"sample_train_rows": False}}, "must not be yes or no"),
        ({"name": "x\n"}, "match pattern"),
        ({"name": "two words"}, "match pattern"),
        ({"name": "-x"}, "match pattern"),
        ({"name": "x" * 81}, "match pattern"),
    ],
    ids=str,
)
def test_value_that_is_not_allowed_is_refused_with_what_is(
    changes: dict[str, Any], told: str
) -> None:
    assert told in refusal(changes)


@given(
    targets=st.lists(st.sampled_from(RAW_COLUMNS), unique=True, min_size=1),
    models=st.lists(st.sampled_from(["GRU", "LSTM", "PROPHET"]), unique=True, min_size=1),
)
@settings(max_examples=30, deadline=None)
def test_targets_stand_in_column_order_and_models_are_sorted(
    targets: list[str], models: list[str]
) -> None:
    recipe = request(window={"targets": targets}, models=models)
    assert recipe.window.targets == tuple(name for name in RAW_COLUMNS if name in targets)
    assert recipe.models == tuple(sorted(models))


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        (
            {"time_features": {"cycles": ["day_of_year", "min_of_day", "min_of_day"]}},
            {"time_features": {"cycles": ["min_of_day", "day_of_year"]}},
        ),
        ({"intervals": {"levels": [0.9, 0.5, 0.9]}}, {"intervals": {"levels": [0.5, 0.9]}}),
        (
            {"ensemble": {"members": ["PROPHET", "GRU"]}},
            {"ensemble": {"members": ["GRU", "PROPHET"]}},
        ),
    ],
    ids=["cycles", "levels", "members"],
)
def test_order_and_repetition_that_say_nothing_give_the_same_recipe(
    asked: dict[str, Any], same: dict[str, Any]
) -> None:
    assert request(**asked) == request(**same)


def test_update_changes_what_it_names_and_leaves_the_original_and_the_rest() -> None:
    recipe = request(window={"size": 7}, seed=3)
    updated = recipe.updated({"window": {"horizon": 2}})
    assert (updated.window.size, updated.window.horizon, updated.seed) == (7, 2, 3)
    assert recipe.window.horizon == 1
    assert updated.data == recipe.data


def test_recipe_for_another_station_differs_in_its_files_and_name_only() -> None:
    recipe = request(data={"sample_train_rows": 5})
    other = recipe.for_station("ElBorn")
    assert (other.data.train_file, other.data.test_file) == ("ElBorn.csv", "ElBorn_test.csv")
    assert (recipe.station, other.station) == ("PobleSec", "ElBorn")
    assert other.name == f"{recipe.name}-ElBorn"
    assert other.for_station("PobleSec").config_hash == recipe.config_hash


def test_recipe_for_a_station_with_an_odd_name_has_a_name_that_is_allowed() -> None:
    other = request().for_station("A=b+c")
    assert other.station == "A=b+c"
    assert other.name.endswith("-A-b-c")


def test_full_recipe_is_a_template_and_the_mark_does_not_enter_its_hash() -> None:
    recipe = load_recipe(PROJECT / "recipes" / "full.yaml")
    assert recipe.auto
    assert recipe.config_hash == recipe.updated({"auto": False}).config_hash


def test_recipe_comes_back_equal_from_its_json() -> None:
    recipe = request(window={"targets": ["up", "down"]}, scaling={"add_constant": 1e-3})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
