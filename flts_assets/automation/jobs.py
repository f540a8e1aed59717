"""The main job: every stage, from raw data to the promoted model."""

from __future__ import annotations

import dagster as dg

__all__ = ["pipeline"]

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all(),
    description="Raw data to promoted model for one recipe; what is complete is not computed again.",
)
