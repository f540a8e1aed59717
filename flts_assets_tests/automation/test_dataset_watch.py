"""When a pair of files counts as complete."""

from __future__ import annotations

import pytest

from flts_assets.automation.dataset_watch import DatasetCursor, DatasetWatch, Pair, stations_in

X = Pair("X.csv", "X_test.csv")


def look(cursor: DatasetCursor, **versions: str) -> DatasetWatch:
    """`X="1"` stands for X.csv at version 1."""
    return DatasetWatch(cursor, {f"{name}.csv": version for name, version in versions.items()})


def test_pair_is_due_once_both_files_stood_still_for_a_look() -> None:
    first = look(DatasetCursor(), X="1", X_test="1")
    assert first.due == []
    second = look(first.cursor(), X="1", X_test="1")
    assert second.due == ["X.csv", "X_test.csv"]
    assert second.is_settled(X)


def test_file_that_grows_waits_and_its_pair_with_it() -> None:
    watch = look(DatasetCursor(), X="1", X_test="1")
    for version in ("2", "3", "4"):
        watch = look(watch.cursor(), X="1", X_test=version)
        assert watch.due == ["X.csv"]
        assert not watch.is_settled(X)
    watch = look(watch.cursor(), X="1", X_test="4")
    assert watch.due == ["X.csv", "X_test.csv"]
    assert watch.is_settled(X)


def test_half_pair_is_not_settled_and_the_other_half_brings_it_along() -> None:
    watch = look(look(DatasetCursor(), X="1").cursor(), X="1")
    assert watch.due == ["X.csv"]
    assert not watch.is_settled(X)
    watch.done("X.csv")
    watch = look(watch.cursor(), X="1", X_test="1")
    assert watch.due == []
    watch = look(watch.cursor(), X="1", X_test="1")
    assert watch.due == ["X_test.csv"]
    assert watch.is_settled(X)


def test_what_was_worked_off_is_not_due_again_until_it_changes() -> None:
    watch = look(look(DatasetCursor(), X="1", X_test="1").cursor(), X="1", X_test="1")
    for file in watch.due:
        watch.done(file)
    watch = look(watch.cursor(), X="1", X_test="1")
    assert watch.waiting == ()
    watch = look(watch.cursor(), X="2", X_test="1")
    assert watch.waiting == ("X.csv",)


def test_postponed_file_comes_after_all_others() -> None:
    watch = look(look(DatasetCursor(), A="1", B="1").cursor(), A="1", B="1")
    watch.postpone("A.csv")
    assert look(watch.cursor(), A="1", B="1").due == ["B.csv", "A.csv"]


def test_file_that_is_wanted_again_is_due_after_those_that_changed() -> None:
    watch = look(look(DatasetCursor(), A="1", B="1").cursor(), A="1", B="1")
    watch.done("A.csv")
    watch.again(["A.csv", "B.csv"])
    assert watch.due == ["B.csv", "A.csv"]


def test_deleted_file_is_forgotten_and_new_when_it_comes_back() -> None:
    watch = look(look(DatasetCursor(), X="1").cursor(), X="1")
    watch.done("X.csv")
    gone = look(watch.cursor())
    assert gone.cursor() == DatasetCursor()
    assert look(gone.cursor(), X="1").waiting == ("X.csv",)


def test_stations_are_those_with_both_files() -> None:
    files = {"A.csv", "A_test.csv", "B.csv", "C_test.csv", "A_test_test.csv", "_test.csv"}
    assert stations_in(files) == ["A"]


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "3", '{"seen": 3}', '{"waiting": 3}', '{"templates": 3}']
)
def test_cursor_that_cannot_be_read_counts_as_none(text: str | None) -> None:
    assert DatasetCursor.parsed(text) == DatasetCursor()


def test_cursor_survives_its_text_and_is_small_where_nothing_waits() -> None:
    cursor = DatasetCursor({"X.csv": "0123abcd"}, ("X.csv",), ("deadbeef",), {"cafe0123": True})
    assert DatasetCursor.parsed(str(cursor)) == cursor
    watch = look(DatasetCursor(), **{f"Station{n}": "1-2-3-4-5-6-7" for n in range(1000)})
    assert len(str(DatasetCursor(watch.cursor().seen))) < 30_000
