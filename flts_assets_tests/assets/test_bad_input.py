"""Each way in which raw files are wrong, told by the step in one message, with nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.recipe import RAW_COLUMNS, TIME_COLUMN, Recipe
from flts_assets.stores.object_store import DATASET
from flts_assets_tests.assets.deployment import Deployment, Run

Change = Callable[[list[bytes]], list[bytes]]
"""of a file's lines, the header first"""

COLUMNS = (TIME_COLUMN, *RAW_COLUMNS)
LINES = to_csv(demo_cell(40, 30)[0]).splitlines()
TEST_FILE = to_csv(demo_cell(40, 30)[1])

RECIPE = Recipe.model_validate(
    {
        "name": "bad-input",
        "data": {"train_file": "Cell.csv", "test_file": "Cell_test.csv"},
        "models": ["GRU"],
        "recurrent": {"hidden_size": 4, "num_layers": 1, "max_epochs": 1},
    }
)


def with_cell(lines: list[bytes], row: int, column: str, text: bytes) -> list[bytes]:
    cells = lines[row].split(b",")
    cells[COLUMNS.index(column)] = text
    return [*lines[:row], b",".join(cells), *lines[row + 1 :]]


def with_column(lines: list[bytes], column: str, text: bytes) -> list[bytes]:
    for row in range(1, len(lines)):
        lines = with_cell(lines, row, column, text)
    return lines


def without_column(lines: list[bytes], column: str) -> list[bytes]:
    at = COLUMNS.index(column)
    cells = [line.split(b",") for line in lines]
    return [b",".join([*row[:at], *row[at + 1 :]]) for row in cells]


def time_of(row: int) -> bytes:
    return LINES[row].split(b",")[0]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path, in_memory=True)


def run(deployment: Deployment, train: bytes | None, test: bytes | None = TEST_FILE) -> Run:
    for name, content in (("Cell.csv", train), ("Cell_test.csv", test)):
        if content is not None:
            deployment.platform.store.put(DATASET, name, content)
    with deployment.instance:
        return deployment.run(RECIPE)


def assert_refused(
    deployment: Deployment, outcome: Run, stage: str, *told: str, file: str = "Cell.csv"
) -> None:
    """One message, from one stage, that begins with the file and holds all that is `told`."""
    assert outcome.failures.keys() == {stage}
    message = outcome.failures[stage]
    assert message.startswith(file)
    assert "; remedy: " in message
    assert "\n" not in message
    for part in told:
        assert part in message
    (event,) = outcome.named("stage_failed")
    assert (event["error"], event["message"]) == ("RawDataError", message)
    written = {key.split("/")[0] for key in deployment.objects()}
    if stage == "raw_data":
        assert written <= {"dataset", "recipes"}
        assert outcome.materialized == {}
    else:
        assert not any(f"/{stage}/" in key for key in deployment.objects())
        assert outcome.materialized.keys() == {"raw_data"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda lines: [], ["the file is empty"], id="empty file"),
        pytest.param(lambda lines: lines[:1], ["a header and no rows"], id="header only"),
        pytest.param(
            partial(without_column, column="up"), ["column 'up'", "lacks"], id="missing column"
        ),
        pytest.param(
            lambda lines: [lines[0] + b",speed", *(line + b",1" for line in lines[1:])],
            ["column 'speed'", "remove 'speed'"],
            id="extra column",
        ),
        pytest.param(
            partial(with_cell, row=7, column="mcs_up", text=b"high"),
            ["column 'mcs_up'", "row 7", "'high'"],
            id="non-numeric column",
        ),
        pytest.param(
            partial(with_cell, row=5, column="time", text=time_of(4)),
            ["column 'time'", "row 5", time_of(4).decode()],
            id="duplicate timestamp",
        ),
        pytest.param(
            lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
            ["column 'time'", "row 6", "sort the rows"],
            id="unordered timestamps",
        ),
        pytest.param(
            lambda lines: [*lines[:9], *lines[11:]],
            ["column 'time'", "row 9", "insert the missing"],
            id="irregular timestamps",
        ),
        pytest.param(
            partial(with_cell, row=3, column="time", text=time_of(3) + b"+01:00"),
            ["column 'time'", "row 3", "time zone"],
            id="time-zoned timestamp",
        ),
        pytest.param(
            partial(with_column, column="rb_up", text=b""),
            ["column 'rb_up'", "no value at all"],
            id="all-empty column",
        ),
        pytest.param(
            partial(with_cell, row=8, column="up", text="1\u00a0000".encode("latin-1")),
            ["row 8", "not UTF-8"],
            id="latin-1 bytes",
        ),
        pytest.param(
            lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],
            ["row 40", "cut off"],
            id="truncated last line",
        ),
    ],
)
def test_wrong_train_file_fails_raw_data_with_place_and_remedy(
    deployment: Deployment, change: Change, told: list[str]
) -> None:
    outcome = run(deployment, b"\n".join(change(LINES)))
    assert_refused(deployment, outcome, "raw_data", *told)


def test_wrong_test_file_is_named_and_not_the_train_file(deployment: Deployment) -> None:
    outcome = run(deployment, b"\n".join(LINES), TEST_FILE.replace(b",up,", b",UP,"))
    assert_refused(
        *(deployment, outcome, "raw_data", "column 'up'", "rename 'UP' to 'up'"),
        file="Cell_test.csv",
    )


@pytest.mark.parametrize("missing", ["Cell.csv", "Cell_test.csv"])
def test_missing_file_fails_raw_data_with_the_command_that_adds_it(
    deployment: Deployment, missing: str
) -> None:
    files = {"Cell.csv": b"\n".join(LINES), "Cell_test.csv": TEST_FILE, missing: None}
    outcome = run(deployment, *files.values())
    assert_refused(
        *(deployment, outcome, "raw_data", f"remedy: add it: flts data add PATH/{missing}"),
        file=missing,
    )


def test_fewer_train_rows_than_windows_need_fails_processed_data(deployment: Deployment) -> None:
    outcome = run(deployment, b"\n".join(LINES[: 1 + 11]))
    assert_refused(
        *(deployment, outcome, "processed_data", "11 usable rows", "allowed: at least 12")
    )


def test_fewer_test_rows_than_a_window_needs_fails_processed_data(deployment: Deployment) -> None:
    few = b"\n".join(TEST_FILE.splitlines()[: 1 + 10])
    outcome = run(deployment, b"\n".join(LINES), few)
    told = ("10 usable rows", "allowed: at least 11")
    assert_refused(deployment, outcome, "processed_data", *told, file="Cell_test.csv")


@pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy",
    "ignore:.*is currently in beta:dagster_shared.utils.warnings.BetaWarning",
)
@pytest.mark.parametrize("column", ["rb_up_var", "down"])
def test_constant_column_divides_nothing_by_zero_and_ends_with_a_champion(
    deployment: Deployment, column: str
) -> None:
    outcome = run(deployment, b"\n".join(with_column(LINES, column, b"5")))
    assert outcome.result.success, outcome.failures
    assert outcome.metadata("promoted_model")["model_type"] == "GRU"
    assert outcome.metadata("leaderboard")["best_score"] >= 0
