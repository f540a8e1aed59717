"""How a training tells where it stands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

__all__ = ["Epoch", "FitCounter", "Progress", "Report", "Ticker", "repeated"]


@dataclass(frozen=True)
class Epoch:
    """One finished epoch; `epoch` counts from 1 through all nets of a training.

    Losses are of scaled targets. A net that is fitted again on all rows has no validation loss.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    seconds: float
    net: int = 1
    """which of the averaged nets"""


@dataclass(frozen=True)
class Progress:
    """Where a training stands; `epoch` counts from 1 through all nets and is the one under way."""

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


@contextmanager
def repeated(report: Report, period_s: float = 2.0) -> Iterator[Report]:
    """A report that says the last news again whenever there was none for so long."""
    news: list[tuple[Progress, float]] = []
    finished = threading.Event()

    def told(progress: Progress) -> None:
        news[:] = [(progress, time.monotonic())]
        report(progress)

    def repeat() -> None:
        while not finished.wait(period_s / 4):
            for progress, since in tuple(news):
                silent_s = time.monotonic() - since
                if silent_s >= period_s:
                    left = max(0.0, progress.remaining_s - silent_s)
                    told(replace(progress, remaining_s=left, finished=None))

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        finished.set()
        thread.join()


@dataclass
class FitCounter:
    """Reports of a training that fits several things one after the other."""

    fits: int
    report: Report
    _done: int = 0
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """The next fit begins."""
        self._tell()

    def finish(self) -> None:
        self._done += 1
        if self._done == self.fits:
            self._tell()

    def _tell(self) -> None:
        elapsed = time.monotonic() - self._started
        # The fit under way counts as half done.
        done = min(self._done + 0.5, self.fits)
        self.report(
            Progress(
                epoch=min(self._done + 1, self.fits),
                epochs=self.fits,
                done=self._done / self.fits,
                windows_per_s=0.0,
                remaining_s=elapsed / done * (self.fits - done),
            )
        )
