"""Asset checks as the stages report them: one property each, told with the recipe it was looked at for.

A check of a partitioned asset keeps its latest result alone (partitioned checks are a preview in
Dagster 1.13 and warn at every start), so each result says which recipe it speaks of.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from flts_assets.errors import FltsError, RawDataError

__all__ = ["check_spec", "checked", "refused", "with_recipe"]


def check_spec(
    asset: str, name: str, description: str, *, blocking: bool = False
) -> dg.AssetCheckSpec:
    """`blocking`: what follows the asset does not run where the check fails with severity ERROR."""
    return dg.AssetCheckSpec(name, asset=asset, description=description, blocking=blocking)


def checked(
    name: str,
    passed: bool,
    told: str,
    facts: Mapping[str, Any] | None = None,
    *,
    warn: bool = False,
) -> dg.AssetCheckResult:
    """What was found. `warn`: a failure is worth a look and stops nothing."""
    severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=name,
        passed=bool(passed),
        severity=severity,
        description=told,
        metadata=dict(facts or {}),
    )


def refused(name: str, error: FltsError) -> dg.AssetCheckResult:
    """A failed check that says what the error says, its place and remedy apart."""
    facts: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, RawDataError):
        facts.update(file=error.file, column=error.column, row=error.row)
    facts["remedy"] = error.remedy
    return checked(
        name, False, str(error), {key: one for key, one in facts.items() if one is not None}
    )


def with_recipe(
    results: Iterable[dg.AssetCheckResult], name: str, config_hash: str
) -> list[dg.AssetCheckResult]:
    """The results with the recipe that each speaks of."""
    asked = {"recipe": name, "config_hash": config_hash}
    return [one.with_metadata({**asked, **one.metadata}) for one in results]
