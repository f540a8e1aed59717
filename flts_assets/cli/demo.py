"""`flts demo`: the whole way in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flts_assets.stores.object_store import DATASET, ObjectStore

__all__ = ["demo"]

DEMO_CELL = "DemoCell"


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder with STATION.csv and STATION_test.csv files.")
    ] = None,
) -> None:
    """Run the main job on measured files if there are any, otherwise on a generated station."""
    from flts_assets.cli.data import add_files, generate_demo_cell
    from flts_assets.cli.platform import open_platform
    from flts_assets.cli.run import run

    if data is not None:
        add_files(sorted(data.glob("*.csv")))
    platform = open_platform()
    measured = [name for name in _stations(platform.store) if name != DEMO_CELL]
    if not measured:
        typer.echo(
            "No measured files in the dataset bucket: generating the station DemoCell."
            " README.md tells where measured ones can be had."
        )
        generate_demo_cell()
        return run("demo")
    station = "PobleSec" if "PobleSec" in measured else measured[0]
    return run("full", station=station)


def _stations(store: ObjectStore) -> list[str]:
    names = {head.key for head in store.list(DATASET)}
    return sorted(
        name.removesuffix("_test.csv")
        for name in names
        if name.endswith("_test.csv") and f"{name.removesuffix('_test.csv')}.csv" in names
    )
