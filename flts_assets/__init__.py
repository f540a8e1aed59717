"""FLTS: an asset-based forecasting platform on Dagster."""

__version__ = "0.1.0"
