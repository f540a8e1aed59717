"""What celery_backfill.py measures, with every worker in a container of its own.

    docker compose -f docker/docker-compose.yaml build
    python benchmarks/celery_containers.py [--recipes 12] [--lost-after 15] [--worker-cpus 0.5] [--cases]

A compose stack beside any that runs, with empty volumes for each case, taken down with them. A worker
has a network namespace and a file system of its own and shares no volume; its cores are limited,
so that two workers and the rest of the stack do not compete. It does one step at a time. `docker kill`
ends the one that dies, with SIGKILL for all its processes at once.
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from celery_backfill import backfill, tell
from measuring import finish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flts_assets_tests.docker.containers import COMPOSE_FILE, SECRETS, filled_in
from flts_assets_tests.stack.progress import ADD, STATION, Progress, tiny_recipe, until

NAME = "flts-benchmark"
CASES = {"one worker": (1, False), "two workers": (2, False), "two, one killed": (2, True)}
"""name -> workers, and whether one is killed"""
ASKED_FOR = ("SAMPLE_", "EXPECTED_MODEL_TYPES")  # the recipes say it


@dataclass
class Containers(Progress):
    """The code server, the daemon, what they need, and workers."""

    folder: Path
    files: tuple[Path, ...]
    env_file: Path
    password: str
    """of Dagster's user in PostgreSQL"""
    workers: dict[str, str] = field(default_factory=dict)
    """name -> container"""

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "--project-name", NAME, "--env-file", str(self.env_file)]
        command += [part for file in self.files for part in ("--file", str(file))]
        done = subprocess.run(
            [*command, "--profile", "celery", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"docker compose {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, workers: int) -> None:
        """Each when what it needs is healthy; the workers wait for steps."""
        wanted = ("--detach", "--scale", f"worker={workers}")
        self.compose("up", *wanted, "code-server", "daemon", "worker")
        until(lambda: self.compose("logs", "worker").count(" ready.") == workers, "the workers")
        found = self.compose("ps", "--quiet", "worker").split()
        self.workers = {f"worker-{number}": one for number, one in enumerate(found, start=1)}

    def queue(self, count: int, prefix: str) -> None:
        """A backfill of so many tiny recipes."""
        for number in range(count):
            name = f"{prefix}-{number}"
            (self.folder / f"{name}.yaml").write_text(tiny_recipe(name))
        files = [f"/recipes/{prefix}-{number}.yaml" for number in range(count)]
        self.compose("exec", "-T", "code-server", "flts", "data", "demo")
        self.compose("exec", "-T", "code-server", "python", "-c", ADD, *files)
        self.compose("exec", "-T", "code-server", "flts", "backfill", STATION)

    def kill(self, worker: str) -> None:
        subprocess.run(["docker", "kill", "--signal", "KILL", self.workers[worker]], check=True)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    @cached_property
    def connection(self) -> Any:
        """To Dagster's database; a `docker compose exec` at each look would cost more than a worker."""
        host, _, port = self.compose("port", "postgres", "5432").strip().partition(":")
        found = psycopg2.connect(
            host=host, port=port, user="dagster", dbname="dagster", password=self.password
        )
        found.autocommit = True
        return found

    def worker_named(self, name: str, host: str) -> str:
        (found,) = (one for one, container in self.workers.items() if container.startswith(host))
        return found


@contextmanager
def stack(folder: Path, workers: int, options: argparse.Namespace) -> Iterator[Containers]:
    recipes = folder / "recipes"
    recipes.mkdir(parents=True)
    folder.chmod(0o755)  # the platform is another user's
    read = {
        "volumes": [f"{recipes}:/recipes:ro"],
        "environment": {"FLTS_RECIPES_FOLDER": "/recipes"},
    }
    limits = {"resources": {"limits": {"cpus": str(options.worker_cpus)}}}
    changes = {
        "code-server": read,
        "daemon": read,
        "postgres": {"ports": ["127.0.0.1::5432"]},
        "worker": {"environment": {"FLTS_STEP_CONCURRENCY": "1"}, "deploy": limits},
    }
    changed = folder / "changed.yaml"
    changed.write_text(yaml.safe_dump({"services": changes}))
    given = {name: secrets.token_hex(16) for name in (*SECRETS, "FLTS_REDIS_PASSWORD")}
    env_file = filled_in(
        folder,
        **given,
        FLTS_EXECUTOR="celery",
        FLTS_CELERY_LOST_AFTER_S=str(options.lost_after),
    )
    lines = env_file.read_text().splitlines()
    env_file.write_text("\n".join(one for one in lines if not one.startswith(ASKED_FOR)))
    found = Containers(recipes, (COMPOSE_FILE, changed), env_file, given["FLTS_POSTGRES_PASSWORD"])
    try:
        found.start(workers)
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=12)
    parser.add_argument("--lost-after", type=int, default=15)
    parser.add_argument("--worker-cpus", type=float, default=0.5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory(prefix="flts-benchmark-") as name:
        Path(name).chmod(0o755)
        for number, case in enumerate(options.cases):
            workers, kill = CASES[case]
            with stack(Path(name) / str(number), workers, options) as found:
                figures[case] = backfill(found, options.recipes, kill=kill)
            tell(case, figures[case])
    finish("celery_containers", **{**vars(options), "cases": figures})


if __name__ == "__main__":
    main()
