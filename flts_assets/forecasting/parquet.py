"""The processed frames as parquet: what was asked for travels in the file's own metadata."""

from __future__ import annotations

import io
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flts_assets.forecasting.dataset import PreparedRows
from flts_assets.recipe.columns import TIME_COLUMN
from flts_assets.recipe.model import Recipe

__all__ = ["measured_parquet", "prepared_rows", "processed_parquet", "to_parquet"]

CONFIG_KEY: Final = "preprocess_config"
HASH_KEY: Final = "config_hash"


def processed_parquet(frame: pd.DataFrame, recipe: Recipe) -> bytes:
    """The scaled columns and nothing else, one row a moment in time order."""
    return _written(pa.Table.from_pandas(frame, preserve_index=False), recipe)


def measured_parquet(frame: pd.DataFrame, recipe: Recipe) -> bytes:
    """The same rows as they were measured: time first, then raw columns with their empty cells."""
    return _written(pa.Table.from_pandas(frame.reset_index(), preserve_index=False), recipe)


def prepared_rows(processed: bytes, measured: bytes) -> PreparedRows:
    """Both frames again, indexed by time."""
    rows = pq.read_table(io.BytesIO(measured)).to_pandas().set_index(TIME_COLUMN)
    features = pq.read_table(io.BytesIO(processed)).to_pandas()
    features.index = rows.index[len(rows) - len(features) :]
    return PreparedRows(measured=rows, processed=features)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A frame's columns, its index left out."""
    return _bytes(pa.Table.from_pandas(frame, preserve_index=False))


def _written(table: pa.Table, recipe: Recipe) -> bytes:
    metadata = {CONFIG_KEY: recipe.canonical_json, HASH_KEY: recipe.config_hash}
    return _bytes(table.replace_schema_metadata(metadata))


def _bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=131_072)
    return buffer.getvalue()
