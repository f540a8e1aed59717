"""The platform at a glance."""

from __future__ import annotations

import os

import dagster as dg

from flts_assets.assets import (
    backtest,
    leaderboard,
    models,
    prediction_log,
    processed,
    promotion,
    raw,
)
from flts_assets.assets.platform import Platform
from flts_assets.automation.executor import step_executor
from flts_assets.automation.jobs import monitoring, pipeline
from flts_assets.recipe.environment import force_from, identifier_from
from flts_assets.settings import Settings

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [raw, processed, models, backtest, leaderboard, promotion, prediction_log]
    ),
    jobs=[pipeline, monitoring],
    resources={
        "platform": Platform(force=force_from(os.environ), identifier=identifier_from(os.environ))
    },
    executor=step_executor(Settings.from_environment()),
)
