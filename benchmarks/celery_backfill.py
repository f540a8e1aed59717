"""A backfill of 12 tiny recipes on one Celery worker, on two, and on two of which one is killed.

    python benchmarks/celery_backfill.py [--recipes 12] [--lost-after 15]

Starts SeaweedFS, PostgreSQL, an MLflow server and Redis (`redis-server` of the system) on free ports of
127.0.0.1. Each worker does one step at a time and has a data directory of its own.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from measuring import finish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flts_assets.settings import PROJECT
from flts_assets_tests.servers.mlflow_server import MlflowServer
from flts_assets_tests.servers.postgres import Postgres
from flts_assets_tests.servers.redis import Redis
from flts_assets_tests.servers.seaweed import Seaweed
from flts_assets_tests.stack.cluster import cluster
from flts_assets_tests.stack.progress import Step, until

LIMIT_S = 3600.0


class Servers:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "apt-get install redis-server"
        folders = {name: folder / name for name in ("s3", "postgres", "mlflow", "redis")}
        for one in folders.values():
            one.mkdir()
        folder.chmod(0o755)  # PostgreSQL is another user's
        self.seaweed = Seaweed.started(folders["s3"])
        stack.callback(self.seaweed.process.stop)
        self.postgres = Postgres.started(folders["postgres"])
        stack.callback(self.postgres.process.stop)
        database = self.postgres.url(self.postgres.database())
        self.mlflow = MlflowServer.started(folders["mlflow"], self.seaweed, database, "tracked-")
        stack.callback(self.mlflow.process.stop)
        self.redis = Redis.started(folders["redis"], program)
        stack.callback(self.redis.process.stop)

    def deployment(self, number: int, lost_after_s: int) -> dict[str, str]:
        """Variables of a fresh one."""
        return {
            "DAGSTER_HOME": str(PROJECT / "docker"),
            **self.seaweed.environment(f"b{number}-"),
            **self.postgres.environment(self.postgres.database()),
            **self.mlflow.environment(),
            "FLTS_EXECUTOR": "celery",
            "FLTS_CELERY_BROKER_URL": self.redis.url.removesuffix("0") + str(number),
            "FLTS_CELERY_LOST_AFTER_S": str(lost_after_s),
        }


class Workers(Protocol):
    """`worker-1` and so on: processes here, containers in celery_containers.py."""

    def queue(self, count: int, prefix: str) -> None: ...
    def statuses(self) -> dict[str, int]: ...
    def steps(self) -> list[Step]: ...
    def in_hand(self, worker: str) -> list[Step]: ...
    def kill(self, worker: str) -> object: ...


def backfill(found: Workers, recipes: int, *, kill: bool) -> dict[str, object]:
    """A backfill from its first step on; with `kill`, worker-1 dies when half of the runs are done."""
    found.queue(recipes, "tiny")
    until(lambda: bool(found.steps()), "the first step", LIMIT_S)
    started = found.steps()[0].began
    taken = lose_a_step(found, recipes // 2) if kill else None
    until(lambda: ended(found) == recipes, "every run", LIMIT_S)
    return {
        "wall_s": time.time() - started,
        "steps": dict(sorted(Counter(one.worker for one in found.steps()).items())),
        "runs": found.statuses(),
        "taken_over_s": taken,
    }


def lose_a_step(found: Workers, after_runs: int) -> float:
    """Seconds from the death of worker-1 to the beginning of its step elsewhere."""
    until(lambda: ended(found) >= after_runs, "half of the runs", LIMIT_S)
    until(lambda: bool(found.in_hand("worker-1")), "a step to lose", LIMIT_S)
    lost = found.in_hand("worker-1")[0]
    found.kill("worker-1")
    killed = time.time()

    def again() -> list[float]:
        return [one.began for one in found.steps() if one[:2] == lost[:2] and one.began > killed]

    until(lambda: bool(again()), "the lost step", LIMIT_S)
    return again()[0] - killed


def ended(found: Workers) -> int:
    statuses = found.statuses()
    return statuses.get("SUCCESS", 0) + statuses.get("FAILURE", 0)


def tell(name: str, one: dict[str, object]) -> None:
    print(
        f"{name:<18}{one['wall_s']:>8.0f} s  runs {one['runs']}  steps {one['steps']}", flush=True
    )
    if one["taken_over_s"] is not None:
        print(f"{'':<18}{one['taken_over_s']:>8.0f} s from the kill to the step elsewhere")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=12)
    parser.add_argument("--lost-after", type=int, default=15)
    options = parser.parse_args()
    cases = {"one worker": (1, False), "two workers": (2, False), "two, one killed": (3, True)}
    figures = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flts-benchmark-")))
        servers = Servers(folder, stack)
        for name, (number, kill) in cases.items():
            home = folder / str(number)
            home.mkdir()
            variables = servers.deployment(number, options.lost_after)
            with cluster(home, variables, servers.postgres, min(number, 2)) as found:
                figures[name] = backfill(found, options.recipes, kill=kill)
            tell(name, figures[name])
    finish("celery_backfill", recipes=options.recipes, cases=figures)


if __name__ == "__main__":
    main()
