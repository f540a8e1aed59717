from __future__ import annotations

import time

import pytest

from flts_assets.forecasting.progress import Ticker


def test_ticker_is_due_once_a_period_and_not_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ticker = Ticker(period_s=2.0)
    started = time.monotonic()
    due = []
    for seconds in (0.5, 1.5, 2.5, 3.0, 4.4, 4.6, 20.0, 21.0, 22.5):
        monkeypatch.setattr(time, "monotonic", lambda now=started + seconds: now)
        if ticker.due():
            due.append(seconds)
    assert due == [2.5, 4.6, 20.0, 22.5]
