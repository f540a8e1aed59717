"""The application as uvicorn starts it: places and limits from the environment."""

from __future__ import annotations

import logging
import os

from fastapi import FastAPI

from flts_assets.logs import event_log
from flts_assets.recipe.environment import identifier_from
from flts_assets.serving.app import create_app
from flts_assets.serving.champions import Champions
from flts_assets.serving.settings import ServingSettings
from flts_assets.settings import Settings
from flts_assets.stores.opening import open_store

__all__ = ["app"]


def app() -> FastAPI:
    """Raises EnvironmentValueError for a malformed setting."""
    # Events go to stdout, one JSON object a line; nobody else is told.
    silent = logging.Logger("flts.serving", level=logging.CRITICAL)
    log = event_log(silent)
    platform = Settings.from_environment()
    settings = ServingSettings.from_environment()
    champions = Champions(
        open_store(platform),
        identifier=identifier_from(os.environ),
        config_hash=settings.config_hash,
        threads=1,
        log=log,
    )
    return create_app(settings, champions, log, platform.kafka)
