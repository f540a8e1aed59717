"""Recipes and datasets that the tests of this folder share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flts_assets.forecasting.baselines import BASELINES
from flts_assets.forecasting.dataset import Dataset, prepare, split_of
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.progress import Progress
from flts_assets.forecasting.raw_frame import read_raw
from flts_assets.forecasting.split import Split
from flts_assets.recipe import Recipe

__all__ = ["demo_dataset", "demo_recipe", "first_validation_window", "real_dataset", "silent"]

TINY = {
    "recurrent": {"hidden_size": 8, "max_epochs": 2, "batch_size": 16},
    "trees": {"max_iter": 12, "min_samples_leaf": 5},
}


def demo_recipe(**changes: object) -> Recipe:
    """DemoCell with models that train in a moment, and nested changes to that."""
    names = {"train_file": "DemoCell.csv", "test_file": "DemoCell_test.csv"}
    return Recipe.model_validate({"name": "demo", "data": names, **TINY}).updated(changes)


def demo_dataset(recipe: Recipe, train_rows: int = 80, test_rows: int = 40) -> Dataset:
    """The splits of a small DemoCell."""
    train, test, fitted = prepare(*demo_cell(train_rows, test_rows), recipe)
    return Dataset(split_of(train, recipe), split_of(test, recipe), fitted)


def first_validation_window(split: Split, recipe: Recipe) -> int:
    """Windows before it are fitted on."""
    return round(split.windows * (1 - recipe.recurrent.validation_share))


@cache
def real_dataset(folder: Path, station: str = "PobleSec") -> Dataset:
    """All rows of a measured station by the default recipe."""
    recipe = demo_recipe().for_station(station)
    files = (recipe.data.train_file, recipe.data.test_file)
    train, test = (read_raw((folder / file).read_bytes(), file) for file in files)
    train_rows, test_rows, fitted = prepare(train, test, recipe)
    return Dataset(split_of(train_rows, recipe), split_of(test_rows, recipe), fitted)


def silent(_: Progress) -> None:
    """A report that nobody reads."""


def baseline_forecasts(name: str, data: Dataset) -> npt.NDArray[np.float64]:
    """Of the test split, by a baseline fitted on the train split."""
    return BASELINES[name](data)(data.test)
