"""Whether SQLite bears it: pipelines through the queue of a real `dagster dev`, several steps at once.

    python benchmarks/sqlite_pressure.py [--pipelines 20]

Webserver, daemon, code server, run workers and their steps write to the same three databases (Dagster's
runs and events, MLflow). Every pipeline is a recipe of its own, so that all of it is computed. All that
any process said is searched for "database is locked", and every run must succeed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from measuring import finish, flts, own_home

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests know how to start it

from flts_assets.recipe import Recipe
from flts_assets.settings import Settings

STEPS_AT_ONCE = "3"
LOCKED = "database is locked"
TINY = {
    "name": "pressure",
    "data": {"train_file": "DemoCell.csv", "test_file": "DemoCell_test.csv"},
    "models": ["GRU", "LSTM", "PROPHET"],
    "recurrent": {"hidden_size": 4, "num_layers": 1, "max_epochs": 2},
}
TIMEOUT_S = 5400


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipelines", type=int, default=20)
    asked = parser.parse_args().pipelines
    with own_home() as home:
        os.environ.update(Settings.from_environment().exported())
        flts("data", "demo", "--train-rows", "200", "--test-rows", "40")
        sys.exit(0 if pressure(home, asked) else 1)


def pressure(home: Path, asked: int) -> bool:
    """Run it and print the table; True if nothing was locked and every run succeeded."""
    import dagster as dg

    from flts_assets.automation.launch import stages_of
    from flts_assets.automation.registration import register
    from flts_assets.cli.platform import open_instance, open_platform
    from flts_assets_tests.automation.dagster_dev import running_dev, wait_until

    platform = open_platform()
    with (
        open_instance(platform) as instance,
        running_dev(home, FLTS_STEP_CONCURRENCY=STEPS_AT_ONCE) as dev,
    ):
        started = time.monotonic()
        launched = []
        for index in range(asked):
            recipe = Recipe.model_validate({**TINY, "extra": {"hash_salt": str(index)}})
            register(recipe, platform.registry, instance)
            launched.append(dev.launch(recipe.config_hash, *stages_of(recipe)))
        # Automation adds runs of its own, which write too and are not counted.
        ours = dg.RunsFilter(run_ids=launched)
        wait_until(
            lambda: all(run.is_finished for run in instance.get_runs(ours)),
            TIMEOUT_S,
            f"{asked} runs have ended",
        )
        wall = time.monotonic() - started
        statuses = Counter(run.status for run in instance.get_runs(ours))
        records = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
        locked_events = sum(LOCKED in str(entry) for entry in records)
        open_runs = [run for run in platform.tracking.running().values() if run in launched]
    outputs = [home / "dev.log", *home.glob("dagster/**/compute_logs/*")]
    locked_lines = sum(text.read_text(errors="replace").count(LOCKED) for text in outputs)
    succeeded = statuses[dg.DagsterRunStatus.SUCCESS]
    rows = {
        "pipelines": asked,
        "succeeded": succeeded,
        "steps at once in a run": STEPS_AT_ONCE,
        "wall time, s": round(wall, 1),
        "records in Dagster's event log": len(records),
        f'"{LOCKED}" in the event log': locked_events,
        f'"{LOCKED}" in {len(outputs)} outputs': locked_lines,
        "MLflow runs left RUNNING": len(open_runs),
    }
    for name, value in rows.items():
        print(f"{name:<42} {value:>8}")
    finish(
        "sqlite_pressure",
        pipelines=asked,
        succeeded=succeeded,
        wall_s=round(wall, 1),
        events=len(records),
        locked=locked_events + locked_lines,
    )
    return succeeded == asked and not locked_events and not locked_lines and not open_runs


if __name__ == "__main__":
    main()
