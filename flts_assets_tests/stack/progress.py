"""A backfill of tiny recipes on Celery workers, as Dagster's own tables tell it."""

from __future__ import annotations

import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["ADD", "STATION", "Progress", "Step", "tiny_recipe", "until"]

STATION = "DemoCell"
_RECIPE = """\
name: {name}
data:
  train_file: DemoCell.csv
  test_file: DemoCell_test.csv
  sample_strategy: head
  sample_train_rows: {train_rows}
  sample_test_rows: {test_rows}
models: [GRU]
recurrent: {{hidden_size: 4, num_layers: 1, max_epochs: 1}}
extra: {{hash_salt: {name}}}
"""
ADD = """
import sys
from pathlib import Path
from flts_assets.cli.recipes import add
for file in sys.argv[1:]:
    add(Path(file))
"""
"""Registers recipe files in one process."""


def tiny_recipe(name: str, train_rows: int = 50, test_rows: int = 50) -> str:
    """A recipe file; each name is a partition of its own."""
    return _RECIPE.format(name=name, train_rows=train_rows, test_rows=test_rows)


class Step(NamedTuple):
    """A step in a worker's hands."""

    run_id: str
    key: str
    worker: str
    began: float
    """seconds since 1970"""


class Progress(ABC):
    """Of whatever has Dagster's PostgreSQL and workers with names."""

    @abstractmethod
    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of Dagster's database."""

    @abstractmethod
    def worker_named(self, name: str, host: str) -> str:
        """What is called here what Celery calls `name@host`."""

    def statuses(self) -> dict[str, int]:
        """status -> how many runs of the backfill; what automation starts by itself is left out"""
        found = self.query(
            "SELECT runs.status, count(*) FROM runs JOIN run_tags ON run_tags.run_id = runs.run_id"
            " WHERE run_tags.key = 'flts/backfill' GROUP BY runs.status"
        )
        return {str(status): int(count) for status, count in found}

    def steps(self) -> list[Step]:
        """Every step that a worker began, the oldest first."""
        found = self.query(
            "SELECT run_id, step_key, event FROM event_logs"
            " WHERE event LIKE '%in celery worker%' ORDER BY id"
        )
        return [self._step(*row) for row in found]

    def in_hand(self, worker: str) -> list[Step]:
        """Steps that this worker began and that have not ended."""
        ended = set(
            self.query(
                "SELECT run_id, step_key FROM event_logs"
                " WHERE dagster_event_type IN ('STEP_SUCCESS', 'STEP_FAILURE')"
            )
        )
        return [one for one in self.steps() if one.worker == worker and one[:2] not in ended]

    def _step(self, run_id: str, key: str, event: str) -> Step:
        worker = re.search(r'"([\w-]+)@([\w.-]+)', event)
        assert worker is not None, event
        began = float(json.loads(event)["timestamp"])
        return Step(run_id, key, self.worker_named(*worker.groups()), began)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 900) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.2)
