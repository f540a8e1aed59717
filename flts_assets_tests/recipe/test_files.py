from __future__ import annotations

from pathlib import Path

import pytest

from flts_assets.errors import RecipeError
from flts_assets.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DATA = "data: {train_file: X.csv, test_file: X_test.csv}\n"


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, source="mine.yaml", default_name="mine")
    told = str(caught.value)
    assert "mine.yaml" in told
    return told


def test_recipe_without_a_name_is_called_like_its_file(tmp_path: Path) -> None:
    file = tmp_path / "weekly.yaml"
    file.write_text(DATA)
    assert load_recipe(file).name == "weekly"
    file.write_text("name: mine\n" + DATA)
    assert load_recipe(file).name == "mine"


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_recipe_that_comes_with_the_project_is_valid(file: Path) -> None:
    assert load_recipe(file).name == file.stem


def test_json_is_read_like_yaml() -> None:
    text = '{"name": "x", "data": {"train_file": "X.csv", "test_file": "X_test.csv"}}'
    assert parse_recipe(text, source="body") == parse_recipe("name: x\n" + DATA, source="file")


@pytest.mark.parametrize("content", [None, b"name: \xff\xfe"], ids=["missing", "latin-1"])
def test_file_that_cannot_be_read_is_named_with_a_remedy(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "gone.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    assert str(file) in str(caught.value)
    assert caught.value.remedy is not None


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=str(tmp_path)):
        load_recipe(tmp_path)


@pytest.mark.parametrize("text", ["data: [", "\tdata: 1", "a: b: c", "!!python/object:os.x {}"])
def test_text_that_is_not_yaml_is_refused(text: str) -> None:
    assert "is not YAML" in refusal(text)


@pytest.mark.parametrize("text", ["", "# nothing", "- 1\n- 2", "just words", "42"])
def test_yaml_without_a_mapping_is_refused_with_what_a_recipe_looks_like(text: str) -> None:
    told = refusal(text)
    assert "holds no recipe" in told
    assert "train_file" in told


@pytest.mark.parametrize(
    ("text", "field", "received", "allowed"),
    [
        (DATA + "window: {size: 0}", "window.size", "0", "greater than or equal to 1"),
        (DATA + "scaling: {method: Log}", "scaling.method", "'Log'", "'MinMaxScaler'"),
        (DATA + "models: [GRU, ARIMA]", "models.1", "'ARIMA'", "'PROPHET'"),
        (DATA + "widow: {size: 3}", "widow", "{'size': 3}", "no such field"),
        (DATA + "recurrent: {lr: 0.1}", "recurrent.lr", "0.1", "no such field"),
        (DATA + "name: 2018-01-01", "name", "datetime.date(2018, 1, 1)", "valid string"),
        (DATA + "1: one", "1", "1", "Keys should be strings"),
        ("name: x", "data", "data", "is missing"),
        ("data: {train_file: a/b.csv, test_file: c.csv}", "data.train_file", "a/b.csv", "CSV"),
        (DATA + "lags: {enabled: true}", "lags", "{'enabled': True}", "n_lags of at least 1"),
        (DATA + "seed: yes", "seed", "True", "must not be yes or no"),
        (DATA + "scaling: {add_constant: on}", "scaling.add_constant", "True", "not be yes or no"),
        (DATA + "recurrent: {patience: no}", "recurrent.patience", "False", "not be yes or no"),
        (DATA + "outliers: {factor: true}", "outliers.factor", "True", "must not be yes or no"),
        (DATA + "window: yes", "window", "True", "must not be yes or no"),
    ],
)
def test_error_names_file_field_value_and_what_is_allowed(
    text: str, field: str, received: str, allowed: str
) -> None:
    told = refusal(text)
    assert f" {field}: " in told
    assert received in told
    assert allowed in told


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (DATA + "seed: 1\nseed: 2", "seed"),
        (DATA + DATA, "data"),
        (DATA + "window: {size: 3, horizon: 2, size: 3}", "size"),
        (DATA + 'extra: {}\n"extra": {}', "extra"),
    ],
)
def test_key_that_stands_twice_is_refused_with_its_line(text: str, key: str) -> None:
    told = refusal(text)
    assert f"{key} stands twice" in told
    assert "line " in told


def test_same_key_in_two_sections_is_no_repetition() -> None:
    text = DATA + "handle_nans: {enabled: false}\noutliers: {enabled: true}"
    recipe = parse_recipe(text, source="mine.yaml", default_name="mine")
    assert (recipe.handle_nans.enabled, recipe.outliers.enabled) == (False, True)


@pytest.mark.parametrize("text", ["2018-13-45", "2018-02-30", "2018-01-01 25:00:00"])
def test_what_looks_like_a_date_and_is_none_is_refused(text: str) -> None:
    assert "is not YAML" in refusal(DATA + f"description: {text}")


def test_all_faults_of_a_recipe_are_told_at_once() -> None:
    told = refusal(DATA + "seed: -1\nwindow: {size: x}")
    assert " seed: " in told
    assert " window.size: " in told
