"""How steps start: forked from a server that has imported everything once."""

from __future__ import annotations

import dagster as dg

from flts_assets.settings import Settings

__all__ = ["PRELOAD_MODULE", "step_executor"]

PRELOAD_MODULE = "flts_assets.automation.preload"


def step_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Steps in own processes, as many at once as the deployment allows."""
    methods: dict[str, dict[str, object]] = {
        "forkserver": {"preload_modules": [PRELOAD_MODULE]},
        "spawn": {},
    }
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": settings.step_concurrency,
            "start_method": {settings.step_start: methods[settings.step_start]},
        }
    )
