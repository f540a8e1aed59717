"""One partition is one recipe."""

import dagster as dg

__all__ = ["CONFIG_HASH"]

CONFIG_HASH = dg.DynamicPartitionsDefinition(name="config_hash")
"""Keys are config hashes; registering a recipe adds its key."""
