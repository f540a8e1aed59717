"""Models that the tests of this folder train once and share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, get_args

import pandas as pd

from flts_assets.forecasting.dataset import Dataset
from flts_assets.forecasting.demo_cell import demo_cell
from flts_assets.forecasting.ensemble import train_ensemble
from flts_assets.forecasting.training import TrainedModel, train_model
from flts_assets.recipe import CandidateType, ModelType, Recipe
from flts_assets_tests.forecasting.datasets import demo_dataset, demo_recipe, silent

__all__ = [
    "FAMILIES",
    "LEVELS",
    "ROWS",
    "demo_models",
    "every_kind_recipe",
    "train_all",
]

ROWS: Final = (120, 160)
"""train and test rows of `demo_models`"""
LEVELS: Final = (0.5, 0.9)
FAMILIES: Final[tuple[ModelType, ...]] = ("GRU", "PROPHET", "TREES")


def every_kind_recipe(horizon: int = 3, **changes: object) -> Recipe:
    """Two targets, all models and an ensemble of one of each family."""
    return demo_recipe(
        window={"size": 6, "horizon": horizon, "targets": ["down", "up"]},
        models=get_args(ModelType),
        ensemble={"members": FAMILIES, "weights": "validated"},
        intervals={"levels": LEVELS},
    ).updated(changes)


@cache
def demo_models(recipe: Recipe) -> Mapping[CandidateType, TrainedModel]:
    """All that the recipe trains, on DemoCell."""
    return train_all(demo_dataset(recipe, *ROWS), demo_cell(*ROWS)[0], recipe)


def train_all(
    data: Dataset, measured: pd.DataFrame, recipe: Recipe
) -> dict[CandidateType, TrainedModel]:
    """The recipe's models, and its ensemble if it has one; `measured`: raw train rows."""
    trained: dict[CandidateType, TrainedModel] = {}
    for kind in recipe.models:
        trained[kind] = train_model(kind, data, measured, recipe, 1, silent)
    if recipe.ensemble.members:
        files = {name: trained[name].files for name in recipe.ensemble.members}
        trained["ENSEMBLE"] = train_ensemble(files, data, measured, recipe, 1)
    return trained
