from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from flts_assets.recipe import RAW_COLUMNS, ModelType, Recipe, load_recipe, parse_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
LABELS = ("name", "description", "auto")
Place = tuple[str, ...]

SAMPLE50_HASH = "8999be31be63d86d0bfcd155ea74a56b6192a9dfa2490f077d019571a6deed1f"
FULL_HASH = "6ce79cfae0029f0499e5ca7a14f996ee0fe8c7d4f2a4bbf2fe78d3ae6b155ea9"
GOLDEN_TEXT = (
    '{"_data":{"sample_strategy":"head","sample_test_rows":50,"sample_train_rows":50,'
    '"test_file":"PobleSec_test.csv","train_file":"PobleSec.csv"},'
    '"extra":{"hash_salt":"forceInfer1"},'
    '"handle_nans":{"drop_rows":false,"enabled":true,"knn_neighbors":2,"threshold":0.33},'
    '"lags":{"enabled":false,"n_lags":0,"step":1},'
    '"outliers":{"enabled":false,"factor":1.5,"method":"iqr"},'
    '"scaling":{"add_constant":null,"method":"MinMaxScaler"},'
    '"time_features":{"enabled":true}}'
)

FROZEN_DEFAULTS: dict[str, object] = {
    "data.sample_strategy": "head",
    "data.sample_train_rows": 0,
    "data.sample_test_rows": 0,
    "data.sample_seed": 0,
    "handle_nans.enabled": True,
    "handle_nans.threshold": 0.33,
    "handle_nans.drop_rows": False,
    "handle_nans.fill": "knn",
    "handle_nans.knn_neighbors": 2,
    "outliers.enabled": False,
    "outliers.method": "iqr",
    "outliers.factor": 1.5,
    "scaling.method": "MinMaxScaler",
    "scaling.fit_share": 1.0,
    "scaling.add_constant": None,
    "time_features.enabled": True,
    "time_features.cycles": ("min_of_day", "day_of_week", "day_of_year"),
    "lags.enabled": False,
    "lags.n_lags": 0,
    "lags.step": 1,
    "extra.hash_salt": "",
    "window.size": 10,
    "window.horizon": 1,
    "window.targets": ("down",),
    "models": ("GRU", "LSTM", "PROPHET"),
    "seed": 0,
    "recurrent.hidden_size": 128,
    "recurrent.num_layers": 2,
    "recurrent.batch_size": 64,
    "recurrent.max_epochs": 10,
    "recurrent.learning_rate": 0.001,
    "recurrent.validation_share": 0.2,
    "recurrent.validation_overlap": True,
    "recurrent.shuffle": True,
    "recurrent.initial_weights": "torch",
    "recurrent.predict": "level",
    "recurrent.schedule": "constant",
    "recurrent.gradient_clip": None,
    "recurrent.patience": None,
    "recurrent.change_decay": 0.0,
    "recurrent.loss": "mse",
    "recurrent.refit": False,
    "recurrent.members": 1,
    "recurrent.variants": (),
    "trees.learning_rate": 0.03,
    "trees.max_iter": 250,
    "trees.max_leaf_nodes": 10,
    "trees.min_samples_leaf": 60,
    "trees.l2_regularization": 1.0,
    "trees.max_features": 0.3,
    "prophet.n_changepoints": 25,
    "prophet.changepoint_prior_scale": 0.05,
    "prophet.seasonality_prior_scale": 10.0,
    "prophet.max_rows": 100_000,
    "ensemble.members": (),
    "ensemble.weights": "equal",
    "floor_at_zero": True,
    "intervals.levels": (0.9,),
    "backtest.cutoffs": 0,
    "backtest.step": 720,
    "backtest.refit": True,
    "evaluation.rank_by": "score",
    "evaluation.rank_on": "test",
    "evaluation.targets": None,
    "promotion.must_beat_persistence": False,
    "promotion.confidence": 0.95,
    "promotion.block": None,
    "promotion.tie": "newest_start",
}
"""Never change a line: an old hash would mean something else. A new option adds a line here."""


def request(**changes: object) -> Recipe:
    files = {"train_file": "PobleSec.csv", "test_file": "PobleSec_test.csv"}
    return Recipe.model_validate({"name": "golden", "data": files}).updated(changes)


def leaves(model: type[BaseModel] = Recipe, above: Place = ()) -> dict[Place, type[BaseModel]]:
    """Every field that holds no section, and the model it belongs to."""
    found: dict[Place, type[BaseModel]] = {}
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= leaves(section, (*above, name))
        elif above or name not in LABELS:
            place = (*above, name)
            found[place] = model
    return found


LEAVES = leaves()
OPTIONAL = [
    place for place, model in LEAVES.items() if not model.model_fields[place[-1]].is_required()
]
BACKTESTED: dict[str, object] = {
    "window": {"horizon": 1},
    "backtest": {"cutoffs": 2, "step": 500},
}
CHANGEABLE_WITH: dict[Place, dict[str, object]] = {
    ("data", "sample_seed"): {"data": {"sample_strategy": "random"}},
    ("ensemble", "weights"): {"models": ["GRU", "LSTM"], "ensemble": {"members": ["GRU", "LSTM"]}},
    ("backtest", "step"): BACKTESTED,
    ("backtest", "refit"): BACKTESTED,
    ("recurrent", "change_decay"): {"recurrent": {"predict": "change", "variants": ()}},
    ("ensemble", "members"): {"models": get_args(ModelType)},
    ("evaluation", "rank_on"): BACKTESTED,
}
"""Fields that mean something only beside others."""


def default_of(place: Place) -> Any:
    return LEAVES[place].model_fields[place[-1]].default


def annotation(place: Place) -> Any:
    return LEAVES[place].model_fields[place[-1]].annotation


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotated type, among them some that the field's limits refuse."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return st.one_of([values(each) for each in arguments])
    if origin is Annotated:
        return values(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), unique_by=repr).map(tuple)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {name: values(field.annotation) for name, field in kind.model_fields.items()}
        return st.fixed_dictionaries({}, optional=fields)
    numbers = st.floats(0, 1) | st.floats(-1e9, 1e9) | st.integers(0, 9).map(float)
    known: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 2**40),
        float: numbers,
        str: st.text(max_size=8) | st.from_regex(r"\A[a-z]{1,8}\.csv\Z"),
        NoneType: st.none(),
    }
    return known[kind]


def with_value(recipe: Recipe, place: Place, value: object) -> Recipe | None:
    """The recipe with another value in one place; None if that is not allowed."""
    change: Any = value
    for name in reversed(place):
        change = {name: change}
    try:
        return recipe.updated(change)
    except ValidationError:
        return None


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """The default request with a few fields changed."""
    recipe = request(lags={"n_lags": 1}, window={"targets": RAW_COLUMNS})
    for place in draw(st.lists(st.sampled_from(sorted(LEAVES)), max_size=4)):
        recipe = with_value(recipe, place, draw(values(annotation(place)))) or recipe
    return recipe


def shuffled(draw: st.DrawFn, content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: shuffled(draw, content[key]) for key in draw(st.permutations(list(content)))}


def with_floats(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: with_floats(value) for key, value in content.items()}
    return float(content) if type(content) is int else content


def without_defaults(draw: st.DrawFn, content: Any, model: type[BaseModel]) -> Any:
    """Leaves out some of what stands at its default."""
    kept = {}
    for key, value in content.items():
        field = model.model_fields[key]
        if isinstance(value, dict):
            kept[key] = without_defaults(draw, value, field.annotation)  # type: ignore[arg-type]
            continue
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if value != default or draw(st.booleans()):
            kept[key] = value
    return kept


@pytest.mark.parametrize(
    ("salt", "train_rows", "test_rows", "expected"),
    [
        ("forceInfer1", 50, 50, SAMPLE50_HASH),
        ("", 0, 0, FULL_HASH),
        (
            "forceInfer1",
            51,
            31,
            "eab7f59ada0acba006771c40c8eae95f37648e24d610f023cb6f29175e93d952",
        ),
    ],
)
def test_hashes_and_texts_are_those_of_the_predecessor(
    salt: str, train_rows: int, test_rows: int, expected: str
) -> None:
    recipe = request(
        extra={"hash_salt": salt},
        data={"sample_train_rows": train_rows, "sample_test_rows": test_rows},
    )
    text = (
        GOLDEN_TEXT.replace('"sample_test_rows":50', f'"sample_test_rows":{test_rows}')
        .replace('"sample_train_rows":50', f'"sample_train_rows":{train_rows}')
        .replace("forceInfer1", salt)
    )
    assert recipe.canonical_json == text
    assert recipe.config_hash == expected


@pytest.mark.parametrize(
    ("file", "expected"), [("sample50.yaml", SAMPLE50_HASH), ("full.yaml", FULL_HASH)]
)
def test_recipe_file_hashes_to_its_golden_vector(file: str, expected: str) -> None:
    assert load_recipe(RECIPES / file).config_hash == expected


def test_no_default_ever_moves() -> None:
    defaults = {".".join(place): default_of(place) for place in OPTIONAL}
    assert defaults == FROZEN_DEFAULTS
    assert {place: type(value) for place, value in defaults.items()} == {
        place: type(value) for place, value in FROZEN_DEFAULTS.items()
    }


@pytest.mark.parametrize("place", OPTIONAL, ids=".".join)
def test_written_default_gives_the_hash_of_a_missing_one(place: Place) -> None:
    written = with_value(request(), place, default_of(place))
    assert written is not None
    assert written.config_hash == FULL_HASH


@given(recipe=recipes(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_order_of_keys_spelling_of_numbers_and_written_defaults_leave_the_hash(
    recipe: Recipe, data: st.DataObject
) -> None:
    content = recipe.model_dump(mode="json")
    for variant in (
        shuffled(data.draw, content),
        with_floats(content),
        without_defaults(data.draw, content, Recipe),
    ):
        text = json.dumps(variant)
        assert parse_recipe(text, source="variant").config_hash == recipe.config_hash, text


CHANGEABLE = [
    place
    for place in sorted(LEAVES)
    if get_origin(annotation(place)) is not Literal or len(get_args(annotation(place))) > 1
]


@pytest.mark.parametrize("place", CHANGEABLE, ids=".".join)
@given(recipe=recipes(), data=st.data())
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],  # many values are not allowed
)
def test_any_changed_meaning_gives_another_hash(
    place: Place, recipe: Recipe, data: st.DataObject
) -> None:
    recipe = recipe.updated(CHANGEABLE_WITH.get(place, {}))
    changed = with_value(recipe, place, data.draw(values(annotation(place))))
    assume(changed is not None and changed != recipe)
    assert changed is not None
    assert changed.config_hash != recipe.config_hash


@given(recipe=recipes(), name=st.from_regex(r"\A[a-z]{1,8}\Z"), text=st.text(), auto=st.booleans())
@settings(max_examples=25, deadline=None)
def test_labels_do_not_enter_the_hash(recipe: Recipe, name: str, text: str, auto: bool) -> None:
    labelled = recipe.updated({"name": name, "description": text, "auto": auto})
    assert labelled.canonical_json == recipe.canonical_json


@given(
    targets=st.permutations(RAW_COLUMNS[:5]),
    models=st.permutations(("GRU", "LSTM", "PROPHET")),
)
@settings(max_examples=25, deadline=None)
def test_order_of_targets_and_models_says_nothing(targets: list[str], models: list[str]) -> None:
    evaluation = [target for target in targets if target in RAW_COLUMNS[1:4]]
    asked = request(window={"targets": targets}, models=models, evaluation={"targets": evaluation})
    in_order = request(
        window={"targets": RAW_COLUMNS[:5]}, evaluation={"targets": RAW_COLUMNS[1:4]}
    )
    assert asked.config_hash == in_order.config_hash


@given(recipe=recipes())
@settings(max_examples=50, deadline=None)
def test_text_is_ascii_json_with_sorted_keys_and_no_spaces(recipe: Recipe) -> None:
    text = recipe.canonical_json
    assert text.isascii()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert recipe.config_hash == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(("value", "written"), [(2.0, "2"), (1e21, "1" + "0" * 21), (1.5, "1.5")])
def test_float_with_an_integral_value_is_written_as_an_integer(value: float, written: str) -> None:
    assert f'"factor":{written},' in request(outliers={"factor": value}).canonical_json


def test_option_that_the_predecessor_lacked_is_written_only_off_its_default() -> None:
    drawn = {"sample_strategy": "random"}
    changed = request(seed=1, window={"horizon": 3}, data={**drawn, "sample_seed": 2})
    added = json.loads(changed.canonical_json)
    known = json.loads(request(data=drawn).canonical_json)
    assert added.pop("seed") == 1
    assert added.pop("window") == {"horizon": 3}
    assert added["_data"].pop("sample_seed") == 2
    assert added == known


def test_seed_that_nobody_draws_from_is_no_other_request() -> None:
    assert request(data={"sample_seed": 7}).config_hash == request().config_hash


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_adding_zero_is_adding_nothing(zero: float) -> None:
    assert request(scaling={"add_constant": zero}).config_hash == request().config_hash
