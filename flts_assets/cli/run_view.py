"""What a run looks like while it happens, drawn from Dagster's event log alone.

On a terminal: a table of stages that redraws itself. Elsewhere (CI, a pipe): one line an event, and at
least one every two seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    import dagster as dg

__all__ = ["RunView", "StageView", "watch"]

POLL_S = 0.2
SILENCE_S = 1.5
BLOCKED = "Step blocked by limit for pool "
"""how Dagster's record begins"""

_LABELS = {
    "waiting": "[dim]waiting[/]",
    "queued": "[dim]waiting[/]",
    "running": "[yellow]running[/]",
    "done": "[green]done[/]",
    "cached": "[cyan]unchanged[/]",
    "failed": "[red]failed[/]",
}


@dataclass
class StageView:
    """One stage's state."""

    state: str = "waiting"
    detail: str = ""
    started: float | None = None
    ended: float | None = None

    def seconds(self, now: float) -> str:
        if self.started is None:
            return ""
        return f"{(self.ended or now) - self.started:.1f} s"


@dataclass
class RunView:
    """All stages' states, kept up to date by `apply`."""

    stages: dict[str, StageView]
    failures: dict[str, str] = field(default_factory=dict)
    """stage -> message"""
    run_failure: str | None = None
    """what Dagster says of the whole run"""

    def apply(self, entry: dg.EventLogEntry) -> tuple[str, str] | None:
        """Take one record of the run log; returns (stage, what to say) if there is news."""
        name = entry.step_key
        if entry.is_dagster_event and entry.get_dagster_event().is_run_failure:
            self.run_failure = entry.get_dagster_event().message
        if name not in self.stages:
            return None
        stage = self.stages[name]
        if entry.is_dagster_event:
            return self._apply_dagster(name, stage, entry)
        fields = _json(entry.user_message)
        if fields is None:
            return None
        if fields["event"] == "stage_failed":
            self.failures[name] = str(fields["message"])
        if fields["event"] == "skip_idempotent":
            stage.state = "cached"
        text = _told(fields)
        if text is None:
            return None
        stage.detail = text
        return name, text

    def _apply_dagster(
        self, name: str, stage: StageView, entry: dg.EventLogEntry
    ) -> tuple[str, str] | None:
        event = entry.get_dagster_event()
        kind = event.event_type_value
        if kind == "ENGINE_EVENT" and (event.message or "").startswith(BLOCKED):
            stage.state = "queued"
            return name, "waits until another run leaves a place in the pool trainers"
        if kind == "STEP_START":
            stage.state, stage.started = "running", entry.timestamp
            return name, "started"
        if kind == "STEP_SUCCESS":
            stage.ended = entry.timestamp
            if stage.state != "cached":
                stage.state = "done"
            said = "unchanged" if stage.state == "cached" else "done"
            return name, f"{said} after {stage.seconds(0)}"
        if kind == "STEP_UP_FOR_RETRY":
            return name, "its process died; starting it once more"
        if kind == "STEP_FAILURE":
            stage.state, stage.ended = "failed", entry.timestamp
            self.failures.setdefault(name, _failure_message(entry))
            return name, "failed"
        return None

    def under_way(self) -> str:
        """The stages that run, or else those that wait for a place in a pool."""
        running, queued = (
            [name for name, stage in self.stages.items() if stage.state == state]
            for state in ("running", "queued")
        )
        if running or not queued:
            return ", ".join(running)
        return f"{', '.join(queued)}: waiting for a place"

    def table(self) -> Table:
        """The stages as they stand now."""
        now = time.time()
        table = Table(box=None, pad_edge=False)
        for title in ("stage", "state", "time", ""):
            table.add_column(title, justify="right" if title == "time" else "left")
        for name, stage in self.stages.items():
            table.add_row(name, _LABELS[stage.state], stage.seconds(now), stage.detail)
        return table


@contextmanager
def watch(
    instance: dg.DagsterInstance, run_id: str, stages: Sequence[str], console: Console
) -> Iterator[RunView]:
    """Follow a run's event log in the background until the context ends."""
    view = RunView({name: StageView() for name in stages})
    stop = threading.Event()
    follow = _redraw if console.is_terminal else _print_lines
    thread = threading.Thread(
        target=follow, args=(view, console, _news(view, instance, run_id, stop)), daemon=True
    )
    thread.start()
    try:
        yield view
    finally:
        stop.set()
        thread.join(timeout=10)


def _news(
    view: RunView, instance: dg.DagsterInstance, run_id: str, stop: threading.Event
) -> Iterator[list[tuple[str, str]]]:
    """Batches of news (possibly empty), one every poll, until stopped and drained."""
    cursor: str | None = None
    while True:
        last_round = stop.is_set()
        found = instance.get_records_for_run(run_id, cursor=cursor)
        cursor = found.cursor
        news = [view.apply(record.event_log_entry) for record in found.records]
        yield [one for one in news if one is not None]
        if last_round and not found.has_more:
            return
        if not found.has_more:
            stop.wait(POLL_S)


def _redraw(view: RunView, console: Console, news: Iterator[list[tuple[str, str]]]) -> None:
    with Live(view.table(), console=console, auto_refresh=False) as live:
        for _ in news:
            live.update(view.table(), refresh=True)


def _print_lines(view: RunView, console: Console, news: Iterator[list[tuple[str, str]]]) -> None:
    started = last = time.monotonic()
    for batch in news:
        for stage, text in batch:
            console.print(f"{time.monotonic() - started:6.1f} s  {stage:<19} {text}", markup=False)
        if batch:
            last = time.monotonic()
        elif time.monotonic() - last > SILENCE_S:
            what = view.under_way() or "starting"
            console.print(f"{time.monotonic() - started:6.1f} s  … {what}", markup=False)
            last = time.monotonic()


def _json(message: str) -> dict[str, Any] | None:
    if not message.startswith("{"):
        return None
    try:
        fields = json.loads(message)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None


def _told(fields: dict[str, Any]) -> str | None:
    """One line of an event worth showing, None for the others."""
    event = fields["event"]
    if event in ("train_progress", "train_epoch"):
        return _training(fields)
    if event == "backtest_progress":
        of_all = f"cutoff {fields['cutoff']}/{fields['cutoffs']}, {fields['model_type']}"
        return f"{of_all} {_training(fields)}"
    if event == "sampling_applied":
        return (
            f"rows {fields['train_rows_before']:,} -> {fields['train_rows_after']:,},"
            f" test {fields['test_rows_before']:,} -> {fields['test_rows_after']:,}"
        )
    if event == "train_complete":
        return f"MLflow run {fields['run_id']}"
    if event == "promotion_decision":
        return f"{fields['model_type']} promoted, score {fields['score']:.5g}"
    if event == "check_failed":
        return f"check {fields['check']}: {fields['message']}"
    if event == "report_written":
        return str(fields["verdict"])
    if event == "skip_idempotent":
        return "skip_idempotent: nothing to compute"
    if event == "tracking_unavailable":
        return str(fields["message"])
    return None


def _training(fields: dict[str, Any]) -> str:
    parts = [f"{fields['epoch']}/{fields['epochs']}"]
    for name, label in (("train_loss", "loss"), ("validation_loss", "validation")):
        if name in fields:
            parts.append(f"{label} {fields[name]:.3e}")
    if fields["windows_per_s"]:
        parts.append(f"{fields['windows_per_s']:,} windows/s")
    parts.append(f"{fields['remaining_s']:.0f} s left")
    return "  ".join(parts)


def _failure_message(entry: dg.EventLogEntry) -> str:
    """Of a failure that FLTS did not raise on purpose."""
    error = entry.get_dagster_event().step_failure_data.error
    if error is None or "ChildProcessCrashException" in error.message:
        return "the step's process died (killed, or out of memory); run again to go on from here"
    return (error.cause or error).message.strip()
