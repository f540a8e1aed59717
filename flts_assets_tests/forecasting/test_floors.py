from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from flts_assets.forecasting import baselines
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.floors import floored_targets, floors
from flts_assets.forecasting.forecaster import load_forecaster
from flts_assets.recipe import CandidateType, Recipe
from flts_assets_tests.forecasting.datasets import demo_dataset
from flts_assets_tests.forecasting.trained import ROWS, demo_models, every_kind_recipe

KINDS = get_args(CandidateType)
LOW = 1e-3
"""Rows this small are followed by forecasts below 0 of whoever does not know better."""


def floored() -> Recipe:
    return every_kind_recipe(recurrent={"max_epochs": 1})


def free() -> Recipe:
    return floored().updated({"floor_at_zero": False})


def forecasts(recipe: Recipe, kind: CandidateType, steps: int = 9) -> np.ndarray:  # type: ignore[type-arg]
    """Of every start among falling rows: [B, steps, T]."""
    rows = demo_cell(*ROWS)[1].copy()
    rows *= np.linspace(1, LOW, len(rows))[:, None]
    forecaster = load_forecaster(demo_models(recipe)[kind].files, 1)
    starts = np.arange(len(rows) - forecaster.rows_needed)
    seen = starts[:, None] + np.arange(forecaster.rows_needed)
    return forecaster.forecast_after(rows.to_numpy()[seen], rows.index.to_numpy()[seen], steps)


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_forecasts_below_zero_however_far_ahead(kind: CandidateType) -> None:
    assert (forecasts(floored(), kind) >= 0).all()


def test_some_model_would_without_the_floor() -> None:
    assert any((forecasts(free(), kind) < 0).any() for kind in KINDS)


@pytest.mark.parametrize("kind", ["GRU", "TREES", "PROPHET"])
def test_floor_changes_nothing_above_it(kind: CandidateType) -> None:
    as_it_comes = forecasts(free(), kind, steps=3)
    assert np.array_equal(forecasts(floored(), kind, steps=3), np.maximum(as_it_comes, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_scored_and_served_forecasts_have_the_same_floor(kind: CandidateType) -> None:
    recipe = floored()
    data = demo_dataset(recipe, *ROWS)
    forecaster = load_forecaster(demo_models(recipe)[kind].files, 1)
    scored = forecaster.forecast(data.test)
    assert (scored >= 0).all()
    bands = forecaster.bands(data.test, scored)
    for band in bands.values():
        assert (band.lower >= 0).all()
        assert (band.lower <= scored * (1 + 1e-12) + 1e-9).all()
        assert (scored <= band.upper * (1 + 1e-12) + 1e-9).all()


def test_only_targets_without_a_train_row_below_zero_have_a_floor() -> None:
    recipe = floored()
    train = demo_dataset(recipe, *ROWS).train
    assert floored_targets(train, recipe) == ("down", "up")
    measured = train.measured.copy()
    measured[3, 1] = -0.5
    measured[4, 0] = np.nan
    assert floored_targets(replace(train, measured=measured), recipe) == ("down",)
    assert floored_targets(train, free()) == ()
    assert floors(("down", "up"), ("up",)).tolist() == [-np.inf, 0.0]


def test_baselines_have_the_floor_of_the_models() -> None:
    recipe = floored()
    data = demo_dataset(recipe, *ROWS)
    fallen = replace(data.test, features=data.test.features - 5)
    for name in ("ridge", "linear_ar"):
        plain = baselines.BASELINES[name](data)(fallen)
        assert (plain < 0).any()
        assert np.array_equal(baselines.fitted(name, data, recipe)(fallen), np.maximum(plain, 0))
        assert np.array_equal(baselines.fitted(name, data, free())(fallen), plain)
