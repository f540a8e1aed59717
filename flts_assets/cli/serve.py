"""`flts serve`: the promoted models behind HTTP."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="serve this recipe's champion alone (a YAML file, a registered name or hash);"
            " none: every recipe's"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes")] = 1,
) -> None:
    """Answer forecasts over HTTP with the promoted models; see /docs."""
    from flts_assets.recipe.environment import identifier_from
    from flts_assets.serving.settings import ServingSettings
    from flts_assets.settings import Settings

    if recipe is not None:
        os.environ["FLTS_SERVING_CONFIG_HASH"] = _hash_of(recipe)
    # Whatever is malformed is told here, in one line, rather than by each worker.
    ServingSettings.from_environment()
    Settings.from_environment()
    identifier_from(os.environ)
    if workers > 1:
        os.environ["FLTS_SERVING_WORKERS"] = tempfile.mkdtemp(prefix="flts-serve-")
    command = [
        *(sys.executable, "-m", "uvicorn", "flts_assets.serving.server:app", "--factory"),
        *("--host", host, "--port", str(port), "--workers", str(workers)),
        *("--loop", "flts_assets.serving.listening:event_loop"),
        *("--http", "flts_assets.serving.whole_answers:WholeAnswers"),
        *("--log-level", "warning", "--no-access-log", "--backlog", "4096"),
        *("--timeout-graceful-shutdown", "30"),
        # uvicorn kills a worker that is silent for so long; five seconds may be a busy machine's.
        *("--timeout-worker-healthcheck", "15"),
    ]
    os.execv(sys.executable, command)


def _hash_of(recipe: str) -> str:
    """A whole hash need not be registered yet."""
    if re.fullmatch("[0-9a-f]{64}", recipe):
        return recipe
    from flts_assets.cli.platform import open_platform
    from flts_assets.cli.recipes import find_recipe

    return find_recipe(recipe, open_platform()).config_hash
