"""The platform at a glance."""

from __future__ import annotations

import os

import dagster as dg

from flts_assets.assets import (
    backtest,
    champion_checks,
    champions,
    leaderboard,
    models,
    prediction_log,
    processed,
    promotion,
    raw,
    verification_report,
)
from flts_assets.assets.platform import Platform
from flts_assets.automation.backfill import station_backfill
from flts_assets.automation.conditions import automated, keep_up_to_date
from flts_assets.automation.ended_runs import ended_runs
from flts_assets.automation.executor import step_executor
from flts_assets.automation.jobs import champions_look, monitoring, pipeline
from flts_assets.automation.lost_runs import lost_runs
from flts_assets.automation.promotion_jobs import promote_model, roll_back_model
from flts_assets.automation.raw_data_sensor import raw_data_sensor
from flts_assets.automation.recipes_sensor import recipes_sensor
from flts_assets.automation.relay_sensor import relay_sensors
from flts_assets.automation.schedules import daily_champions_look, hourly_monitoring
from flts_assets.recipe.environment import force_from, identifier_from
from flts_assets.settings import Settings

settings = Settings.from_environment()

defs = dg.Definitions(
    assets=dg.map_asset_specs(
        automated,
        # The loader's type also allows what modules no longer hold.
        dg.load_assets_from_modules(
            [
                raw,
                processed,
                models,
                backtest,
                leaderboard,
                promotion,
                verification_report,
                champions,
                prediction_log,
            ]
        ),  # type: ignore[arg-type]
    ),
    asset_checks=dg.load_asset_checks_from_modules([champion_checks]),
    jobs=[pipeline, monitoring, champions_look, station_backfill, promote_model, roll_back_model],
    schedules=[hourly_monitoring, daily_champions_look],
    sensors=[
        raw_data_sensor,
        recipes_sensor,
        keep_up_to_date,
        ended_runs,
        lost_runs,
        *relay_sensors(settings),
    ],
    resources={
        "platform": Platform(force=force_from(os.environ), identifier=identifier_from(os.environ))
    },
    executor=step_executor(settings),
)
