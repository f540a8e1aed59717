"""The variables of a deployment, which a test must not inherit."""

from __future__ import annotations

__all__ = ["OWN_VARIABLES"]

OWN_VARIABLES = (
    "DAGSTER_HOME",
    "FLTS_DAGSTER_STORAGE",
    "MLFLOW_TRACKING_URI",
    "FORCE_REPROCESS",
    "IDENTIFIER",
    "FLTS_OBJECT_STORE",
    "FLTS_S3_BUCKET_PREFIX",
    "AWS_ENDPOINT_URL",
)
"""what would lead a test to somebody else's deployment"""
