"""The installed `flts`, as processes, on homes of their own."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest

from flts_assets.recipe import load_recipe
from flts_assets.settings import PROJECT
from flts_assets_tests.assets.deployment import SAMPLE50, Deployment

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own

FLTS = str(Path(sys.executable).with_name("flts"))
HASH = "8999be31be63d86d0bfcd155ea74a56b6192a9dfa2490f077d019571a6deed1f"
FULL_HASH = "6ce79cfae0029f0499e5ca7a14f996ee0fe8c7d4f2a4bbf2fe78d3ae6b155ea9"
STAGES = (
    *("raw_data", "processed_data", "gru_model", "lstm_model", "prophet_model"),
    *("leaderboard", "promoted_model", "verification_report"),
)
READ_BY_FLTS = re.compile(
    "(FLTS|DAGSTER|MLFLOW|SAMPLE)_|FORCE_REPROCESS|IDENTIFIER|EXTRA_HASH_SALT|EXPECTED_MODEL_TYPES"
)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """A user's, with nothing configured but these variables."""
    users = {name: value for name, value in os.environ.items() if not READ_BY_FLTS.match(name)}
    return {**users, "FLTS_HOME": str(home), **variables}


def flts(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FLTS, *arguments],
        env=environment(home, **variables),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def output_of(home: Path, *arguments: str, **variables: str) -> str:
    done = flts(home, *arguments, **variables)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *told: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("flts: ")
    assert done.stderr.count("\n") == 1
    for part in told:
        assert part in done.stderr


# --- recipes, data, settings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "config_hash"), [("sample50.yaml", HASH), ("full.yaml", FULL_HASH)]
)
def test_recipe_hash_prints_the_config_hash_alone(
    tmp_path: Path, file: str, config_hash: str
) -> None:
    assert output_of(tmp_path, "recipe", "hash", f"recipes/{file}") == f"{config_hash}\n"
    assert list(tmp_path.iterdir()) == []


def test_environment_changes_the_recipe_and_its_hash(tmp_path: Path) -> None:
    hash_of = ("recipe", "hash", "recipes/sample50.yaml")
    changed = output_of(tmp_path, *hash_of, SAMPLE_TRAIN_ROWS="51", SAMPLE_TEST_ROWS="31")
    assert changed == "eab7f59ada0acba006771c40c8eae95f37648e24d610f023cb6f29175e93d952\n"


def test_recipe_is_added_listed_and_shown_and_becomes_a_partition(tmp_path: Path) -> None:
    assert output_of(tmp_path, "recipe", "list") == ""
    assert output_of(tmp_path, "recipe", "add", "recipes/sample50.yaml") == f"{HASH}  sample50\n"
    listed = output_of(tmp_path, "recipe", "list")
    assert listed.split() == [HASH, "sample50", "PobleSec.csv", "->", "PobleSec_test.csv"]
    shown = output_of(tmp_path, "recipe", "show", HASH[:10])
    assert shown.startswith(f"# config_hash: {HASH}\n")
    again = tmp_path / "sample50.yaml"
    again.write_text(shown)
    assert load_recipe(again) == load_recipe(SAMPLE50)
    with Deployment(tmp_path).instance as instance:
        assert list(instance.get_dynamic_partitions("config_hash")) == [HASH]


def test_altered_record_of_another_recipe_is_told_and_stands_in_nobodys_way(
    tmp_path: Path,
) -> None:
    output_of(tmp_path, "recipe", "add", "recipes/sample50.yaml")
    altered = tmp_path / "recipes" / f"{'0' * 64}.json"
    altered.write_text("{}")
    assert output_of(tmp_path, "recipe", "hash", HASH) == f"{HASH}\n"
    for arguments in (("recipe", "list"), ("recipe", "show", HASH[:10])):
        done = flts(tmp_path, *arguments)
        assert (done.returncode, HASH in done.stdout) == (0, True)
        assert done.stderr.startswith("flts: passed over: recipes/000")
        assert done.stderr.count("\n") == 1
    assert_one_clear_line(flts(tmp_path, "recipe", "hash", "0" * 64), "recipes/000", "not a valid")
    assert_one_clear_line(flts(tmp_path, "history", "f" * 64), "no recipe is registered")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recipe", "hash", "nowhere.yaml"], ["nowhere.yaml", "remedy: name a YAML file"]),
        (["recipe", "add", "nowhere.yaml"], ["nowhere.yaml", "remedy: name a YAML file"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml", "remedy: name a YAML file"]),
        (["recipe", "show", "nobody"], ["'nobody'", "remedy: flts recipe list"]),
        (["data", "add", "nowhere.csv"], ["nowhere.csv", "remedy: name an existing CSV"]),
        (["data", "add", "README.md"], ["README.md", "ends in .csv"]),
    ],
    ids=" ".join,
)
def test_unknown_file_or_name_is_one_line_and_exit_code_1(
    tmp_path: Path, arguments: list[str], told: list[str]
) -> None:
    assert_one_clear_line(flts(tmp_path, *arguments), *told)


@pytest.mark.parametrize(
    "name", ["FLTS_HOME", "MLFLOW_TRACKING_URI", "FORCE_REPROCESS", "SAMPLE_TRAIN_ROWS"]
)
def test_empty_variable_is_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    done = flts(tmp_path, "recipe", "hash", "recipes/sample50.yaml", **{name: ""})
    assert_one_clear_line(done, f"environment variable {name} is", "received: ''", "unset")


def test_data_is_added_as_it_is(tmp_path: Path) -> None:
    csv = tmp_path / "demo" / "dataset" / "DemoCell.csv"
    output_of(tmp_path / "demo", "data", "demo", "--train-rows", "30", "--test-rows", "20")
    assert output_of(tmp_path / "home", "data", "add", str(csv)) == "DemoCell.csv: 30 rows\n"
    assert (tmp_path / "home" / "dataset" / "DemoCell.csv").read_bytes() == csv.read_bytes()


def test_of_several_files_none_is_copied_if_one_is_bad(tmp_path: Path) -> None:
    output_of(tmp_path, "data", "demo", "--train-rows", "30", "--test-rows", "20")
    good, bad = tmp_path / "dataset" / "DemoCell.csv", tmp_path / "Bad.csv"
    lines = good.read_text().splitlines()
    bad.write_text("\n".join([*lines[:5], lines[5].replace(",", ",x", 1), *lines[6:]]))
    home = tmp_path / "home"
    done = flts(home, "data", "add", str(good), str(bad))
    assert_one_clear_line(done, "Bad.csv, column 'down', data row 5", "remedy")
    assert not home.exists()


def test_demo_cell_is_the_same_everywhere_and_another_with_another_seed(tmp_path: Path) -> None:
    rows = ("--train-rows", "60", "--test-rows", "40")
    told = output_of(tmp_path / "a", "data", "demo", *rows)
    assert told == "DemoCell.csv: 60 generated rows\nDemoCell_test.csv: 40 generated rows\n"
    output_of(tmp_path / "b", "data", "demo", *rows)
    output_of(tmp_path / "c", "data", "demo", *rows, "--seed", "1")
    for name in ("DemoCell.csv", "DemoCell_test.csv"):
        a, b, c = ((tmp_path / home / "dataset" / name).read_bytes() for home in "abc")
        assert a == b != c


def test_env_prints_what_dagsters_own_commands_need(tmp_path: Path) -> None:
    lines = output_of(tmp_path, "env").splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    assert variables["FLTS_HOME"] == str(tmp_path)
    assert variables["FLTS_DAGSTER_STORAGE"] == str(tmp_path / "dagster")
    assert variables["DAGSTER_HOME"] == str(PROJECT)
    assert variables["DAGSTER_DISABLE_TELEMETRY"] == "1"


def test_doctor_finds_a_fresh_home_well(tmp_path: Path) -> None:
    output = output_of(tmp_path, "doctor")
    assert str(tmp_path) in output
    assert re.findall(r"^(ok|FAIL)\b", output, re.MULTILINE) == ["ok"] * 3


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_doctor_says_what_is_not_reachable_and_goes_on(tmp_path: Path, uri: str) -> None:
    variables = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = flts(tmp_path, "doctor", **variables)
    assert done.returncode == 1
    assert re.findall(r"^(ok|FAIL)\b", done.stdout, re.MULTILINE) == ["ok", "FAIL", "ok"]
    assert "remedy: check MLFLOW_TRACKING_URI" in done.stdout
    assert "Traceback" not in done.stderr


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ran(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home after `flts run recipes/sample50.yaml`, and what that said."""
    home = tmp_path_factory.mktemp("ran")
    files = [str(real_data / f"PobleSec{part}.csv") for part in ("", "_test")]
    added = output_of(home, "data", "add", *files)
    assert added == "PobleSec.csv: 15,927 rows\nPobleSec_test.csv: 3,982 rows\n"
    return home, output_of(home, "run", "recipes/sample50.yaml")


@pytest.mark.slow
def test_run_shows_progress_of_every_stage_then_leaderboard_and_pointer(
    ran: tuple[Path, str],
) -> None:
    home, output = ran
    for stage in STAGES:
        assert re.search(rf"\d s  {stage} +started", output)
        assert re.search(rf"\d s  {stage} +done after \d", output)
    for stage in ("trees_model", "ensemble_model", "backtest"):
        assert stage not in output, "not asked for"
    assert "rows 15,927 -> 50, test 3,982 -> 50" in output
    for model in ("gru_model", "lstm_model"):
        assert re.search(rf"{model} +10/10  loss \d.*validation \d.*windows/s", output)
    told = output[output.index("test windows") :]
    for name in ("GRU", "LSTM", "PROPHET", "persistence", "ridge"):
        assert re.search(rf"\d │ {name} +│", told)
    assert re.search(r"^champion (GRU|LSTM|PROPHET)  runs:/[0-9a-f]{32}/\1  ", told, re.MULTILINE)
    pointer = f"model-promotion/global/{HASH}/current.json"
    assert f"pointer  {pointer}\n" in told
    assert json.loads((home / pointer).read_text())["config_hash"] == HASH


@pytest.mark.slow
def test_run_is_a_success_in_the_dagster_instance_with_tags_and_partition(
    ran: tuple[Path, str],
) -> None:
    home, output = ran
    deployment = Deployment(home)
    with deployment.instance as instance:
        (run,) = instance.get_runs()
        assert f"sample50  {HASH}  run {run.run_id}" in output
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.job_name == "pipeline"
        assert run.tags["dagster/partition"] == HASH
        assert run.tags["flts/recipe"] == "sample50"
        assert list(instance.get_dynamic_partitions("config_hash")) == [HASH]
    runs = {one.info.run_name: one.info.status for one in deployment.mlflow_runs()}
    assert runs.items() >= dict.fromkeys(("GRU", "LSTM", "PROPHET"), "FINISHED").items()
    assert deployment.platform.tracking.running() == {}
    assert not list((home / "workers").iterdir())


@pytest.mark.slow
def test_second_run_says_of_every_stage_that_it_is_unchanged(ran: tuple[Path, str]) -> None:
    home, _ = ran
    deployment = Deployment(home)
    objects = deployment.objects()
    output = output_of(home, "run", "sample50")
    for stage in STAGES:
        assert re.search(rf"{stage} +unchanged after", output)
    assert "validation" not in output
    assert f"pointer  model-promotion/global/{HASH}/current.json\n" in output
    assert deployment.objects() == objects


@pytest.mark.slow
def test_report_is_printed_as_markdown_and_written_as_a_page(
    ran: tuple[Path, str], tmp_path: Path
) -> None:
    home, _ = ran
    printed = output_of(home, "report", HASH[:12])
    assert printed.startswith(f"# Verification report: sample50\n\nRecipe `{HASH}`\n")
    assert "FAILED" not in printed
    assert "| PobleSec.csv | train.parquet | 3,158,447 |" in printed
    page = tmp_path / "report.html"
    assert output_of(home, "report", "sample50", "--html", str(page)) == f"{page}\n"
    assert page.read_text().count("data:image/png;base64,") == 6
    nowhere = str(tmp_path / "missing" / "report.html")
    refused = flts(home, "report", "sample50", "--html", nowhere)
    assert_one_clear_line(refused, nowhere, "No such file or directory")


def test_report_that_nobody_wrote_is_one_line_with_the_command_that_writes_it(
    tmp_path: Path,
) -> None:
    done = flts(tmp_path, "report", "sample50")
    assert_one_clear_line(done, "no report of recipe 'sample50'", "flts run sample50")


@pytest.mark.slow
def test_run_that_fails_ends_with_one_message_for_the_stage_and_exit_code_1(
    tmp_path: Path,
) -> None:
    done = flts(tmp_path, "run", "recipes/sample50.yaml")
    assert done.returncode == 1
    messages = [line for line in done.stdout.splitlines() if line.startswith("flts: ")]
    assert messages == [
        "flts: raw_data: PobleSec.csv: is not in the bucket 'dataset';"
        " remedy: add it: flts data add PATH/PobleSec.csv"
    ]
    assert done.stderr == ""


@pytest.mark.slow
def test_champion_is_changed_put_back_and_shown_with_who_and_why(ran: tuple[Path, str]) -> None:
    home, _ = ran
    (before,) = json.loads(output_of(home, "history", "sample50", "--json"))
    other = "GRU" if before["model_type"] != "GRU" else "LSTM"
    assert flts(home, "report", "sample50").stderr == ""
    told = output_of(home, "promote", HASH[:10], other, "--reason", "a hunch")
    assert re.search(rf"{other} .* by hand +\S+@\S+ +a hunch", told)
    overtaken = flts(home, "report", "sample50")
    assert overtaken.stderr.startswith("flts: warning: the champion has changed since this report")
    assert overtaken.stdout.startswith("# Verification report: sample50")
    told = output_of(home, "rollback", "sample50", "--reason", "it was none")
    assert re.search(rf"{before['model_type']} .* rolled back +\S+@\S+ +it was none", told)
    now, hunch, first = json.loads(output_of(home, "history", HASH, "--json"))
    assert first == before
    assert hunch["model_type"] == other
    assert now["run_id"] == first["run_id"]
    with Deployment(home).instance as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("promoted_model"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["reason"].value == "it was none"
    assert_one_clear_line(flts(home, "rollback", "sample50"), "no champion before the current one")


# --- killed runs ---------------------------------------------------------------------------------

KILLED_AT_FIRST_USE = """
import os, signal
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "before_cursor_execute")
def kill(_connection, _cursor, statement, *_):
    if "CREATE TABLE dynamic_partitions" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

from flts_assets.cli import main
main()
"""


@pytest.mark.slow
def test_dagster_home_whose_first_use_was_killed_midway_is_used_by_the_next_command(
    tmp_path: Path,
) -> None:
    add = ("recipe", "add", "recipes/sample50.yaml")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_FIRST_USE, *add],
        env=environment(tmp_path),
        cwd=PROJECT,
        timeout=600,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert output_of(tmp_path, *add) == f"{HASH}  sample50\n"


TRAINING = {
    "name": "killed",
    "data": {"train_file": "DemoCell.csv", "test_file": "DemoCell_test.csv"},
    "models": ["GRU"],
    "recurrent": {"max_epochs": 8},
}
UNDER_TRAINING = f"{'gru_model':<19} 2/8"


def session(leader: int) -> dict[int, int]:
    """The living processes that a leader and its descendants are, each with its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state, parent, _group, leads, *_ = path.read_text().rpartition(")")[2].split()
            if int(leads) == leader and state != "Z":
                found[int(path.parent.name)] = int(parent)
    return found


def left_alive(processes: Iterable[int], timeout_s: float) -> set[int]:
    """Those that have not ended after so long."""
    end = time.monotonic() + timeout_s
    alive = set()
    for process in processes:
        with suppress(ProcessLookupError):
            watched = os.pidfd_open(process)
            if not select.select([watched], [], [], max(0.0, end - time.monotonic()))[0]:
                alive.add(process)
            os.close(watched)
    return alive


@contextmanager
def under_way(
    home: Path, recipe: Path, shows: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A `flts run` in a session of its own that has just shown this. Nothing of it outlives us."""
    with subprocess.Popen(
        [FLTS, "run", str(recipe)],
        env=environment(home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            shown = []
            for line in process.stdout:
                shown.append(line)
                if shows in line:
                    break
            else:
                pytest.fail(f"never showed {shows!r}: {''.join(shown)}")
            yield process
        finally:
            for member in session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            process.kill()


@pytest.fixture
def demo_home(tmp_path: Path) -> Path:
    output_of(tmp_path, "data", "demo", "--train-rows", "2520", "--test-rows", "60")
    return tmp_path


@pytest.fixture
def recipe(demo_home: Path) -> Path:
    path = demo_home / "killed.yaml"
    path.write_text(json.dumps(TRAINING))
    return path


@pytest.mark.integration
@pytest.mark.slow
def test_run_killed_at_any_stage_leaves_no_process_and_the_next_goes_on_from_there(
    demo_home: Path, recipe: Path
) -> None:
    stages = ("raw_data", "leaderboard", "promoted_model")
    moments = [f"{stage:<19} started" for stage in stages]
    moments.insert(1, UNDER_TRAINING)
    for moment in moments:
        with under_way(demo_home, recipe, moment) as process:
            before = session(process.pid)
            process.kill()
            process.wait()
            processes = before.keys() | session(process.pid).keys()
            assert len(before) > 2, "a fork server and a step at least"
            assert left_alive(processes, timeout_s=120) == set(), f"killed at {moment}"

    output = output_of(demo_home, "run", str(recipe))
    assert "closed 1 run(s) whose process is gone" in output
    for stage in ("raw_data", "processed_data", "gru_model", "leaderboard"):
        assert re.search(rf"{stage} +unchanged after", output)
    assert re.search(r"^champion GRU  ", output, re.MULTILINE)

    deployment = Deployment(demo_home)
    with deployment.instance as instance:
        last, *killed = instance.get_runs()
        assert last.status == dg.DagsterRunStatus.SUCCESS
        assert [run.status for run in killed] == [dg.DagsterRunStatus.FAILURE] * len(moments)
    trainings = [run.info.status for run in deployment.mlflow_runs() if run.info.run_name == "GRU"]
    assert sorted(trainings) == ["FINISHED", "KILLED"]
    assert deployment.platform.tracking.running() == {}


@pytest.mark.integration
@pytest.mark.slow
def test_killed_step_is_started_once_more_and_its_mlflow_run_ends(
    demo_home: Path, recipe: Path
) -> None:
    with under_way(demo_home, recipe, UNDER_TRAINING) as process:
        family = session(process.pid)
        steps = [one for one, parent in family.items() if family.get(parent) == process.pid]
        assert len(steps) == 1, "a child of the fork server"
        os.kill(steps[0], signal.SIGKILL)
        assert process.stdout is not None
        rest = process.stdout.read()
        assert process.wait(timeout=900) == 0
    assert re.search("gru_model +its process died; starting it once more", rest)
    deployment = Deployment(demo_home)
    trainings = [run.info.status for run in deployment.mlflow_runs() if run.info.run_name == "GRU"]
    assert trainings == ["FINISHED", "KILLED"]


@pytest.mark.integration
@pytest.mark.slow
def test_what_a_dead_machine_left_is_told_by_doctor_and_closed_by_the_next_run(
    demo_home: Path, recipe: Path
) -> None:
    alone = {"FLTS_STEP_CONCURRENCY": "1"}  # the dead run holds the only slot of the pool
    with under_way(demo_home, recipe, UNDER_TRAINING, **alone) as process:
        members = session(process.pid)
        # Stopped first, so that none sees another die, nor ends its training.
        for member in members:
            os.kill(member, signal.SIGSTOP)
        living = output_of(demo_home, "doctor", **alone)
        assert "nothing is left over" in living, "a live run is left alone"
        for member in members:
            os.kill(member, signal.SIGKILL)

    told = output_of(demo_home, "doctor", **alone)
    assert re.findall("^stale (.+?) ", told, re.MULTILINE) == ["Dagster", "slots", "MLflow"]
    deployment = Deployment(demo_home)
    assert deployment.platform.tracking.running()
    output = output_of(demo_home, "run", str(recipe), **alone)
    assert "closed 1 run(s) whose process is gone" in output
    assert deployment.platform.tracking.running() == {}
    trainings = [run.info.status for run in deployment.mlflow_runs() if run.info.run_name == "GRU"]
    assert trainings == ["FINISHED", "KILLED"]
    with deployment.instance as instance:
        statuses = [run.status for run in instance.get_runs()]
        assert statuses == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    assert "nothing is left over" in output_of(demo_home, "doctor", **alone)


@pytest.mark.integration
@pytest.mark.slow
def test_doctor_cleans_what_a_dead_machine_left(demo_home: Path, recipe: Path) -> None:
    with under_way(demo_home, recipe, UNDER_TRAINING) as process:
        members = session(process.pid)
        for stop_or_kill in (signal.SIGSTOP, signal.SIGKILL):
            for member in members:
                os.kill(member, stop_or_kill)
    unfinished = demo_home / "models" / ".tmp" / "3f"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))

    told = output_of(demo_home, "doctor", "--clean")
    ended = re.findall("^ended (.+?) ", told, re.MULTILINE)
    assert ended == ["Dagster", "slots", "MLflow", "unfinished"]
    assert not unfinished.exists()
    assert "nothing is left over" in output_of(demo_home, "doctor")
    assert list((demo_home / "workers").iterdir()) == []
    deployment = Deployment(demo_home)
    assert deployment.platform.tracking.running() == {}
    with deployment.instance as instance:
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert instance.event_log_storage.get_concurrency_run_ids() == set()


# --- how steps start -----------------------------------------------------------------------------

PROBE = """
import json, sys
import dagster as dg
from flts_assets.automation.executor import step_executor
from flts_assets.automation.launch import warm_up
from flts_assets.settings import Settings

@dg.asset
def probe():
    found = {name: name in sys.modules for name in ("torch", "prophet", "mlflow", "onnxruntime")}
    return dg.MaterializeResult(metadata={"found": found})

defs = dg.Definitions(
    [probe],
    jobs=[dg.define_asset_job("job")],
    executor=step_executor(Settings.from_environment()),
)

if __name__ == "__main__":
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    if sys.argv[1] == "warmed up":
        warm_up()
    job = ReconstructableRepository.for_module("probe", "defs").get_reconstructable_job("job")
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(job, instance)
        event = result.asset_materializations_for_node("probe")[0]
    print(json.dumps({"launcher": "torch" in sys.modules, **event.metadata["found"].value}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("server", ["warmed up", "started by Dagster"])
def test_step_finds_what_it_needs_in_memory_and_its_launcher_needs_none_of_it(
    home: Path, server: str
) -> None:
    (home / "probe.py").write_text(PROBE)
    (home / "dagster").mkdir()
    done = subprocess.run(
        [sys.executable, "probe.py", server],
        cwd=home,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(home), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        **{"launcher": False, "torch": True, "prophet": True, "mlflow": True, "onnxruntime": True}
    }
