"""`flts worker`: this machine does steps for the runs of every machine."""

from __future__ import annotations

from typing import Annotated

import typer

from flts_assets.errors import EnvironmentValueError
from flts_assets.settings import Settings

__all__ = ["worker"]


def worker(
    name: Annotated[
        str, typer.Option(help="two workers of one machine need two names", metavar="NAME")
    ] = "flts",
) -> None:
    """Take steps from the queue at FLTS_CELERY_BROKER_URL, FLTS_STEP_CONCURRENCY at once."""
    from flts_assets.cli.platform import open_instance, open_platform

    settings = Settings.from_environment()
    if settings.executor != "celery":
        raise EnvironmentValueError(
            "environment variable FLTS_EXECUTOR does not ask for workers",
            received=settings.executor,
            allowed="celery",
            remedy="set FLTS_EXECUTOR=celery, here and where runs are started",
        )
    try:
        from flts_assets.automation.celery_worker import run_worker
    except ImportError as error:
        raise EnvironmentValueError(
            "environment variable FLTS_EXECUTOR asks for what is not installed",
            received=settings.executor,
            remedy="pip install 'flts[celery]'",
        ) from error
    with open_instance(open_platform()):
        pass  # its folders and tables exist before steps ask for them at once
    run_worker(settings, name)
