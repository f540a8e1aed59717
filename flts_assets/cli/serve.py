"""`flts serve`: the promoted models behind HTTP."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="serve this config hash's champion alone; none: every station's newest"
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes")] = 1,
) -> None:
    """Answer forecasts over HTTP with the promoted models; see /docs."""
    if recipe is not None:
        os.environ["FLTS_SERVING_CONFIG_HASH"] = recipe
    command = [
        *(sys.executable, "-m", "uvicorn", "flts_assets.serving.server:app", "--factory"),
        *("--host", host, "--port", str(port), "--workers", str(workers)),
        *("--log-level", "warning", "--no-access-log", "--backlog", "4096"),
        *("--timeout-graceful-shutdown", "30"),
    ]
    os.execv(sys.executable, command)
