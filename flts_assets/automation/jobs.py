"""The main job, from raw data to the promoted model, and the one that looks how that model does."""

from __future__ import annotations

import dagster as dg

__all__ = ["monitoring", "pipeline"]

_SERVING = dg.AssetSelection.groups("serving")

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all() - _SERVING,
    description="Raw data to promoted model for one recipe; what is complete is not computed again.",
)

monitoring = dg.define_asset_job(
    "monitoring",
    selection=_SERVING,
    description="Live error and input drift of one recipe's champion, from the prediction log.",
)
