"""`flts data`: what recipes read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flts_assets.errors import RawDataError

__all__ = ["add_files", "app", "generate_demo_cell"]

app = typer.Typer(no_args_is_help=True, help="Put raw data into the dataset bucket.")


@app.command()
def add(files: list[Path]) -> None:
    """Check CSVs and copy them into the dataset bucket. Nothing is copied unless all are sound."""
    for name, rows in add_files(files).items():
        typer.echo(f"{name}: {rows:,} rows")


@app.command()
def demo(
    train_rows: Annotated[int, typer.Option(min=20)] = 5040,
    test_rows: Annotated[int, typer.Option(min=20)] = 1260,
    seed: int = 0,
) -> None:
    """Generate DemoCell, a station that nobody measured, in the dataset bucket."""
    for name, rows in generate_demo_cell(train_rows, test_rows, seed).items():
        typer.echo(f"{name}: {rows:,} generated rows")


def add_files(files: list[Path]) -> dict[str, int]:
    """Rows of each file that was added. Raises RawDataError before anything is copied."""
    from flts_assets.cli.platform import open_platform
    from flts_assets.forecasting.raw_frame import read_raw
    from flts_assets.stores.object_store import DATASET, validate_key

    names = [validate_key(path.name) for path in files]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise RawDataError(", ".join(sorted(twice)), "is given twice", remedy="name each file once")
    contents = {path.name: _read(path) for path in files}
    rows = {name: len(read_raw(content, name)) for name, content in contents.items()}
    store = open_platform().store
    for name, content in contents.items():
        store.put(DATASET, name, content)
    return rows


def generate_demo_cell(
    train_rows: int = 5040, test_rows: int = 1260, seed: int = 0
) -> dict[str, int]:
    """Rows of the two generated files, which now stand in the dataset bucket."""
    from flts_assets.cli.platform import open_platform
    from flts_assets.forecasting.demo_cell import demo_cell, to_csv
    from flts_assets.stores.object_store import DATASET

    store = open_platform().store
    frames = dict(
        zip(
            ("DemoCell.csv", "DemoCell_test.csv"),
            demo_cell(train_rows, test_rows, seed),
            strict=True,
        )
    )
    for name, frame in frames.items():
        store.put(DATASET, name, to_csv(frame))
    return {name: len(frame) for name, frame in frames.items()}


def _read(path: Path) -> bytes:
    if path.suffix != ".csv":
        raise RawDataError(str(path), "is no CSV", allowed="a file whose name ends in .csv")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RawDataError(
            str(path), f"cannot be read: {error.strerror}", remedy="name an existing CSV file"
        ) from error
