"""`flts`: the command line. Every command imports what it needs when it is called."""

from __future__ import annotations

import gc
import os
import sys

import typer
from dotenv import dotenv_values

from flts_assets.cli import (
    backfill,
    data,
    demo,
    doctor,
    promotion,
    recipes,
    report,
    retention,
    run,
    serve,
    worker,
)
from flts_assets.errors import FltsError
from flts_assets.settings import PROJECT, Settings

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="FLTS: from raw base-station CSVs to a promoted forecasting model, as a Dagster asset graph.",
)
app.command("run")(run.run)
app.command("backfill")(backfill.backfill)
app.command("demo")(demo.demo)
app.command("dev")(doctor.dev)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("promote")(promotion.promote)
app.command("rollback")(promotion.rollback)
app.command("history")(promotion.history)
app.command("doctor")(doctor.doctor)
app.command("env")(doctor.env)
app.command("gc")(retention.collect)
app.add_typer(recipes.app, name="recipe")
app.add_typer(data.app, name="data")


def main() -> None:
    """Entry point: errors FLTS raises on purpose become one line and exit code 1."""
    try:
        # The file that Dagster's own commands read; the environment goes before it.
        for name, value in dotenv_values(PROJECT / ".env").items():
            os.environ.setdefault(name, value or "")
        os.environ.update(Settings.from_environment().exported())
        app()
    except FltsError as error:
        sys.stderr.write(f"flts: {error}\n")
        sys.exit(1)
    finally:
        gc.freeze()  # else the interpreter collects half a million objects on its way out: 0.8 s
