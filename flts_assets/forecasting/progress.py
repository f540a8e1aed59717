"""How a training tells where it stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Epoch", "Progress", "Report", "Ticker"]


@dataclass(frozen=True)
class Epoch:
    """One finished epoch. Losses are means of squared errors of scaled targets."""

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training stands; `epoch` counts from 1 and is the one under way."""

    epoch: int
    epochs: int
    done: float
    """share of the whole training, 0 to 1, if it runs all its epochs"""
    windows_per_s: float
    remaining_s: float
    train_loss: float | None = None
    """mean of this epoch so far; None for models without epochs"""
    finished: Epoch | None = None
    """set once at the end of each epoch"""


Report = Callable[[Progress], None]


@dataclass
class Ticker:
    """Says when it is time for another report: at most once every `period_s`."""

    period_s: float = 1.0
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self.period_s:
            return False
        self._last = now
        return True
