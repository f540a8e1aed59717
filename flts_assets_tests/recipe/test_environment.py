from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.errors import EnvironmentValueError
from flts_assets.recipe import Recipe
from flts_assets.recipe.environment import force_from, identifier_from, recipe_from

READERS: dict[str, Callable[[Mapping[str, str]], object]] = {
    **dict.fromkeys(
        (
            "SAMPLE_TRAIN_ROWS",
            "SAMPLE_TEST_ROWS",
            "SAMPLE_STRATEGY",
            "SAMPLE_SEED",
            "EXTRA_HASH_SALT",
            "EXPECTED_MODEL_TYPES",
        ),
        lambda environ: recipe_from(request(), environ),
    ),
    "FORCE_REPROCESS": force_from,
    "IDENTIFIER": identifier_from,
}
ALLOWED = {
    "SAMPLE_TRAIN_ROWS": "a whole number >= 0",
    "SAMPLE_TEST_ROWS": "a whole number >= 0",
    "SAMPLE_STRATEGY": "head, tail, random",
    "SAMPLE_SEED": "a whole number >= 0",
    "EXTRA_HASH_SALT": "any text",
    "EXPECTED_MODEL_TYPES": "GRU, LSTM, PROPHET",
    "FORCE_REPROCESS": "1, true, yes, 0, false, no",
    "IDENTIFIER": "letters, digits and . _ -",
}


def request() -> Recipe:
    files = {"train_file": "PobleSec.csv", "test_file": "PobleSec_test.csv"}
    return Recipe.model_validate({"name": "one", "data": files})


def refusal(name: str, text: str) -> EnvironmentValueError:
    with pytest.raises(EnvironmentValueError) as caught:
        READERS[name]({name: text})
    return caught.value


def test_unset_variables_change_nothing() -> None:
    environ = {"HOME": "", "SAMPLE_ROWS": "5", "sample_seed": "x"}
    assert recipe_from(request(), environ) == request()
    assert force_from(environ) is False
    assert identifier_from(environ) is None


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("SAMPLE_TRAIN_ROWS", "50", {"data": {"sample_train_rows": 50}}),
        ("SAMPLE_TEST_ROWS", " 31\n", {"data": {"sample_test_rows": 31}}),
        ("SAMPLE_STRATEGY", "tail", {"data": {"sample_strategy": "tail"}}),
        ("EXTRA_HASH_SALT", "again 2", {"extra": {"hash_salt": "again 2"}}),
        ("EXPECTED_MODEL_TYPES", "prophet, GRU", {"models": ["GRU", "PROPHET"]}),
    ],
)
def test_variable_changes_its_field_and_no_other(
    name: str, text: str, changes: dict[str, Any]
) -> None:
    changed = recipe_from(request(), {name: text})
    assert changed == request().updated(changes)
    assert changed.config_hash != request().config_hash


def test_variables_turn_the_full_recipe_into_the_verified_50_row_run() -> None:
    environ = {
        "SAMPLE_TRAIN_ROWS": "50",
        "SAMPLE_TEST_ROWS": "50",
        "SAMPLE_STRATEGY": "head",
        "SAMPLE_SEED": "0",
        "EXTRA_HASH_SALT": "forceInfer1",
        "EXPECTED_MODEL_TYPES": "GRU,LSTM,PROPHET",
    }
    assert recipe_from(request(), environ).config_hash.startswith("8999be31be63d86d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("false", False), ("No", False)],
)
def test_force_is_read_from_the_usual_words(text: str, expected: bool) -> None:
    assert force_from({"FORCE_REPROCESS": text}) is expected


@pytest.mark.parametrize("text", ["team-a", "0", "a.b_c-D", "x" * 80])
def test_identifier_is_taken_as_it_stands(text: str) -> None:
    assert identifier_from({"IDENTIFIER": text}) == text


@pytest.mark.parametrize("text", ["", " ", "\t\n"], ids=repr)
@pytest.mark.parametrize("name", READERS)
def test_empty_variable_is_an_error_and_never_the_default(name: str, text: str) -> None:
    error = refusal(name, text)
    assert name in str(error)
    assert error.received == text
    assert ALLOWED[name] in (error.allowed or "")
    assert f"unset {name}" in (error.remedy or "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SAMPLE_TRAIN_ROWS", "fifty"),
        ("SAMPLE_TRAIN_ROWS", "-1"),
        ("SAMPLE_TRAIN_ROWS", "50.0"),
        ("SAMPLE_TRAIN_ROWS", "1e3"),
        ("SAMPLE_TEST_ROWS", "5 0"),
        ("SAMPLE_TEST_ROWS", "٥٠"),
        ("SAMPLE_TEST_ROWS", "9" * 13),
        ("SAMPLE_SEED", "None"),
        ("SAMPLE_STRATEGY", "HEAD"),
        ("SAMPLE_STRATEGY", "head,tail"),
        ("EXPECTED_MODEL_TYPES", "GRU,"),
        ("EXPECTED_MODEL_TYPES", "GRU;LSTM"),
        ("EXPECTED_MODEL_TYPES", "GRU,gru"),
        ("EXPECTED_MODEL_TYPES", "ARIMA"),
        ("FORCE_REPROCESS", "2"),
        ("FORCE_REPROCESS", "on please"),
        ("IDENTIFIER", "a/b"),
        ("IDENTIFIER", "../global"),
        ("IDENTIFIER", "-a"),
        ("IDENTIFIER", "x" * 81),
    ],
)
def test_malformed_variable_is_named_with_what_it_allows(name: str, text: str) -> None:
    error = refusal(name, text)
    assert name in str(error)
    assert error.received == text
    assert ALLOWED[name] in (error.allowed or "")


@pytest.mark.parametrize("name", READERS)
@given(text=st.text(max_size=6) | st.from_regex(r"\A[ 0-9,.+_-]{1,6}\Z"))
@settings(max_examples=30, deadline=None)
def test_any_text_is_either_honoured_or_refused_by_name(name: str, text: str) -> None:
    try:
        READERS[name]({name: text})
    except EnvironmentValueError as error:
        assert name in str(error)
    else:
        assert text.strip()


def test_seed_is_read_where_rows_are_drawn() -> None:
    asked = recipe_from(request(), {"SAMPLE_STRATEGY": "random", "SAMPLE_SEED": "0007"})
    assert asked.data.sample_seed == 7
