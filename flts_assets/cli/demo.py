"""`flts demo`: the whole way in one command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from flts_assets.errors import RawDataError
from flts_assets.stores.object_store import DATASET

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
        station = _given_station(data)
        typer.echo(f"Station {station}; for another one: flts run recipes/full.yaml --station NAME")
        add_files([data / f"{station}.csv", data / f"{station}_test.csv"])
        return run("full", station=station)
    stored = (head.key for head in open_platform().store.list(DATASET))
    measured = [station for station in _stations(stored) if station != DEMO_CELL]
    if measured:
        typer.echo(f"Station {measured[0]}, which stands in the dataset bucket.")
        return run("full", station=measured[0])
    typer.echo(
        "No measured files in the dataset bucket: generating the station DemoCell."
        " README.md tells where measured ones can be had."
    )
    generate_demo_cell()
    return run("demo")


def _given_station(folder: Path) -> str:
    stations = _stations(path.name for path in folder.glob("*.csv"))
    if not stations:
        raise RawDataError(
            str(folder),
            "holds no pair STATION.csv and STATION_test.csv",
            remedy="name a folder with such files",
        )
    return stations[0]


def _stations(names: Iterable[str]) -> list[str]:
    """Stations whose two files are among these; PobleSec, which the recipes name, first."""
    present = set(names)
    stations = {name.removesuffix("_test.csv") for name in present if name.endswith("_test.csv")}
    complete = {station for station in stations if f"{station}.csv" in present}
    return sorted(complete, key=lambda station: (station != "PobleSec", station))
