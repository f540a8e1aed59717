"""What Dagster may do with steps: how many trainers work at once, and which failures it repeats."""

import dagster as dg

__all__ = ["AFTER_A_CRASH", "TRAINERS"]

TRAINERS = "trainers"
"""the pool of all steps that train; `automation.pool` sets its limit"""

AFTER_A_CRASH = dg.RetryPolicy(max_retries=1)
"""A step whose process died is started once more. An error that it raised is not repeated: it would be
raised again (`stage_run` says so to Dagster)."""
