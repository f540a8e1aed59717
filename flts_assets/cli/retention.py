"""`flts gc`: what need not be kept for ever, told first and removed on demand."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["collect"]


def collect(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove it; else it is only told.")
    ] = False,
    days: Annotated[
        int, typer.Option(min=1, help="Runs that ended without use are kept for so many days.")
    ] = 30,
    hours: Annotated[
        int,
        typer.Option(min=1, help="Objects are kept so long: longer than any run takes."),
    ] = 24,
) -> None:
    """Remove objects and runs that nothing names. Tells what it would do; --apply does it."""
    from datetime import datetime, timedelta, timezone

    from flts_assets.automation.retention import find_removable
    from flts_assets.cli.platform import open_instance, open_platform

    platform = open_platform()
    now = datetime.now(timezone.utc)
    with open_instance(platform) as instance:
        # All of it is known before anything goes: what cannot be read stops it in time.
        found = list(find_removable(platform, instance, now, days, timedelta(hours=hours)))
        for one in found:
            if apply:
                one.remove()
            size = "" if one.size is None else f" ({one.size:,} bytes)"
            typer.echo(f"{'removed' if apply else 'unused '} {one.what}{size}: {one.why}")
    total = sum(one.size or 0 for one in found)
    typer.echo(f"{len(found)} thing(s), {total:,} bytes{' removed' if apply else ' in objects'}")
    if found and not apply:
        typer.echo("flts gc --apply removes them")
