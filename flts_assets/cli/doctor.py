"""`flts doctor`, `flts env`, `flts dev`: how things stand, and the web UI on the same state."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from flts_assets.settings import Settings, cores

if TYPE_CHECKING:
    from flts_assets.assets.platform import Platform

__all__ = ["dev", "doctor", "env"]


def env() -> None:
    """The variables Dagster's own commands need, as NAME=value lines: flts env > .env"""
    for name, value in Settings.from_environment().exported().items():
        typer.echo(f"{name}={value}")


def dev(port: Annotated[int, typer.Option(min=1, max=65535)] = 3000) -> None:
    """Open `dagster dev` on the same state."""
    from flts_assets.cli.platform import open_instance, open_platform

    with open_instance(open_platform()):
        pass  # its folders and tables exist before three services ask for them at once
    workspace = os.path.join(os.environ["DAGSTER_HOME"], "workspace.yaml")
    command = [sys.executable, "-m", "dagster", "dev", "-w", workspace, "-p", str(port)]
    # Dagster lets a .env of the working directory override the environment; there is none here.
    os.chdir(Settings.from_environment().home)
    os.execv(sys.executable, command)


def doctor(
    clean: Annotated[
        bool, typer.Option("--clean", help="End what killed processes left behind.")
    ] = False,
) -> None:
    """What is configured, reachable, and left over. Exit code 1 if something is not reachable."""
    from flts_assets.cli.platform import open_platform

    platform = open_platform()
    settings = platform.settings
    typer.echo(f"data directory   {settings.home}")
    typer.echo(f"MLflow           {settings.tracking_uri}")
    typer.echo(f"Dagster home     {os.environ.get('DAGSTER_HOME', 'not set')}")
    typer.echo(
        f"cores            {cores()}: {settings.step_concurrency} steps at once,"
        f" {settings.step_threads} thread(s) each"
    )
    checks: dict[str, Callable[[Platform], str]] = {
        "object store": _object_store,
        "MLflow store": _tracking,
        "Dagster": _instance,
    }
    faults = [name for name, check in checks.items() if not _passes(name, check, platform)]
    typer.echo(f"      service: {_service(settings.serving_url)}")
    if not faults:
        _tell_stale(platform, clean)
    if faults:
        raise typer.Exit(1)


def _service(url: str) -> str:
    """Not an error if it does not run: nobody need serve here."""
    import requests

    try:
        requests.get(f"{url}/healthz", timeout=2).raise_for_status()
        models = requests.get(f"{url}/model", timeout=2)
    except requests.RequestException as error:
        return f"none answers at {url} ({type(error).__name__}); flts serve starts it"
    if not models.ok:
        return f"{url} answers, without a champion"
    told = models.json()
    champion, others = told["champion"], len(told["others"])
    return (
        f"{url} answers; champion of {told['station']} is {champion['model_type']}"
        f" {champion['run_id']}" + (f", and of {others} other station(s)" if others else "")
    )


def _tell_stale(platform: Platform, clean: bool) -> None:
    from flts_assets.automation.stale import find_stale
    from flts_assets.cli.platform import open_instance

    with open_instance(platform) as instance:
        found = list(find_stale(platform, instance))
        for one in found:
            done = "left " if one.end is None else "ended" if clean else "stale"
            if clean and one.end is not None:
                one.end()
            typer.echo(f"{done} {one.what}: {one.why}")
    if not found:
        typer.echo("      nothing is left over from killed processes")
    elif not clean:
        typer.echo("flts doctor --clean ends them")


def _passes(name: str, check: Callable[[Platform], str], platform: Platform) -> bool:
    try:
        typer.echo(f"ok    {name}: {check(platform)}")
    except Exception as error:  # whatever is wrong is what a doctor is asked for
        typer.echo(f"FAIL  {name}: {error}")
        return False
    return True


def _object_store(platform: Platform) -> str:
    from flts_assets.stores.object_store import BUCKETS, DATASET
    from flts_assets.stores.opening import check_store, prepare_store

    prepare_store(platform.store)
    where = check_store(platform.store)
    files = sum(1 for _ in platform.store.list(DATASET))
    return f"{where}, {len(BUCKETS)} buckets writable, {files} files in {DATASET}"


def _tracking(platform: Platform) -> str:
    platform.tracking.prepare()
    running = platform.tracking.running()
    return f"reachable, {len(running)} run(s) RUNNING"


def _instance(platform: Platform) -> str:
    import dagster as dg

    from flts_assets.cli.platform import open_instance

    with open_instance(platform) as instance:
        hashes = instance.get_dynamic_partitions("config_hash")
        under_way = instance.get_runs_count(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
        )
    return f"{len(hashes)} recipe(s) registered, {under_way} run(s) under way"
