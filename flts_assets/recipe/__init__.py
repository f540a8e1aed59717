"""What a user asks for: frozen models, canonical JSON, config hash, files, environment overrides."""

from flts_assets.recipe.columns import CALENDAR_COLUMNS, RAW_COLUMNS, TIME_COLUMN
from flts_assets.recipe.files import load_recipe, parse_recipe
from flts_assets.recipe.model import CandidateType, ModelType, Recipe

__all__ = [
    "CALENDAR_COLUMNS",
    "RAW_COLUMNS",
    "TIME_COLUMN",
    "CandidateType",
    "ModelType",
    "Recipe",
    "load_recipe",
    "parse_recipe",
]
