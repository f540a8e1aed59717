"""The main job, from raw data to the promoted model, and those that look at what became of it."""

from __future__ import annotations

import dagster as dg

from flts_assets.assets.champion_checks import champion_checks

__all__ = ["STARTED_BY_TAG", "WHOLE_TAG", "champions_look", "monitoring", "pipeline"]

STARTED_BY_TAG = "flts/started_by"
"""the sensor that requested a run; those that a person started have none"""

WHOLE_TAG = "flts/whole"
"""marks a run that goes on to all that follows from what it changes"""

# champions is about all recipes, not one.
_OVERVIEW = dg.AssetSelection.assets("champions")
_SERVING = dg.AssetSelection.groups("serving")

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all() - _SERVING - _OVERVIEW,
    description="Raw data to promoted model for one recipe; what is complete is not computed again.",
)

monitoring = dg.define_asset_job(
    "monitoring",
    selection=_SERVING,
    description="Live error and input drift of one recipe's champion, from the prediction log.",
)

champions_look = dg.define_asset_job(
    "champions_look",
    selection=dg.AssetSelection.checks(champion_checks),
    description="Pointer, files, alias, score and age of every champion, read again.",
)
