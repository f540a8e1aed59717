from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from flts_assets.forecasting.progress import Epoch, Progress, Ticker, repeated

HALF = Progress(
    epoch=1,
    epochs=2,
    done=0.5,
    windows_per_s=0.0,
    remaining_s=60.0,
    finished=Epoch(1, 0.5, 0.4, 1.0),
)


def test_ticker_is_due_once_a_period_and_not_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    ticker = Ticker(period_s=2.0, _last=now)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    due = []
    for now in (0.5, 1.5, 2.5, 3.0, 4.4, 4.6, 20.0, 21.0, 22.5):
        if ticker.due():
            due.append(now)
    assert due == [2.5, 4.6, 20.0, 22.5]


def tellers() -> list[threading.Thread]:
    """Those of `repeated`, among whatever else this process does."""
    return [one for one in threading.enumerate() if "(repeat)" in one.name]


def test_last_news_of_silent_work_are_told_again_and_again() -> None:
    told: list[Progress] = []
    thrice = threading.Event()

    def report(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 4:
            thrice.set()

    with repeated(report, period_s=0.02) as tell:
        tell(HALF)
        assert thrice.wait(timeout=60)
    assert not tellers(), "nothing is told any more"
    first, *again = told
    assert first == HALF
    assert {replace(one, remaining_s=0.0) for one in again} == {
        replace(HALF, remaining_s=0.0, finished=None)
    }
    remaining = [one.remaining_s for one in told]
    assert remaining == sorted(set(remaining), reverse=True), "less each time"
    assert remaining[-1] >= 0


def test_news_that_come_in_time_are_told_once_and_none_are_made_up() -> None:
    told: list[Progress] = []
    with repeated(told.append):
        assert len(tellers()) == 1
    with pytest.raises(KeyError), repeated(told.append) as tell:
        tell(HALF)
        tell(HALF)
        raise KeyError
    assert not tellers()
    assert told == [HALF, HALF]
