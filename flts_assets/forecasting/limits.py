"""What may be asked of a model, by whichever service."""

from typing import Final

__all__ = ["LARGEST", "MAX_STEPS"]

LARGEST: Final = 1e15
"""Far above any measurement, far below where scaled numbers overflow."""
MAX_STEPS: Final = 10_000
"""of the grid, ahead of the last row"""
