from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.errors import RawDataError
from flts_assets.forecasting.demo_cell import demo_cell, to_csv
from flts_assets.forecasting.raw_frame import (
    RawFile,
    count_empty_cells,
    grid_step,
    raw_schema,
    read_raw,
)
from flts_assets.recipe import RAW_COLUMNS, TIME_COLUMN

FILE = "Station.csv"
HEADER = ",".join((TIME_COLUMN, *RAW_COLUMNS))
TIMES = [f"2018-02-05 23:{minute:02}:00" for minute in range(40, 52, 2)]


def csv_lines() -> list[str]:
    """The header and six good rows, in which cell k of row r is 10 r + k."""
    rows = (
        ",".join([time, *(f"{10 * row + k}.5" for k in range(1, 12))])
        for row, time in enumerate(TIMES, start=1)
    )
    return [HEADER, *rows]


def csv(**cells: str) -> bytes:
    """The good rows, but with `column_row="text"` in place of one cell: `down_3="x"`."""
    lines = csv_lines()
    for place, text in cells.items():
        column, row = place.rsplit("_", 1)
        line = lines[int(row)].split(",")
        line[HEADER.split(",").index(column)] = text
        lines[int(row)] = ",".join(line)
    return join(lines)


def join(lines: list[str], end: str = "\n") -> bytes:
    return (end.join(lines) + end).encode()


def with_line(row: int, change: Callable[[str], str]) -> bytes:
    lines = csv_lines()
    lines[row] = change(lines[row])
    return join(lines)


def with_header(header: str) -> bytes:
    return with_line(0, lambda _: header)


def refusal(data: bytes) -> RawDataError:
    with pytest.raises(RawDataError) as caught:
        read_raw(data, FILE)
    error = caught.value
    assert error.file == FILE
    assert str(error).startswith(FILE)
    assert error.allowed, "an error says what is allowed"
    assert error.remedy, "an error says what to do"
    assert error.received is not None, "an error says what was received"
    return error


def assert_refused(
    data: bytes, *, column: str | None, row: int | None, received: Any, what: str, remedy: str
) -> None:
    error = refusal(data)
    assert (error.column, error.row) == (column, row)
    assert error.received == received
    assert what in error.what
    assert remedy in (error.remedy or "")


# --- what is read -------------------------------------------------------------------------------


def test_good_file_becomes_float_columns_on_a_named_time_index() -> None:
    frame = read_raw(csv(), FILE)
    assert tuple(frame.columns) == RAW_COLUMNS
    assert set(frame.dtypes) == {np.dtype("float64")}
    assert frame.index.name == TIME_COLUMN
    assert frame.index.dtype == np.dtype("datetime64[ns]")
    assert [str(time) for time in frame.index] == TIMES
    assert frame["down"].tolist() == [11.5, 21.5, 31.5, 41.5, 51.5, 61.5]
    assert frame.loc[pd.Timestamp(TIMES[2]), "rb_up_var"] == 41.5


@given(order=st.permutations(HEADER.split(",")))
@settings(max_examples=25, deadline=None)
def test_order_of_the_columns_in_the_file_is_irrelevant(order: list[str]) -> None:
    at = [HEADER.split(",").index(name) for name in order]
    shuffled = [",".join(line.split(",")[k] for k in at) for line in csv_lines()]
    pd.testing.assert_frame_equal(read_raw(join(shuffled), FILE), read_raw(csv(), FILE))


@pytest.mark.parametrize("empty", ["", "nan", "NaN", '""'])
def test_empty_cell_is_nan_however_it_is_written(empty: str) -> None:
    frame = read_raw(csv(mcs_up_4=empty), FILE)
    assert np.isnan(frame["mcs_up"].iloc[3])
    assert count_empty_cells(frame) == dict.fromkeys(RAW_COLUMNS, 0) | {"mcs_up": 1}


@pytest.mark.parametrize(
    "cell", ["7", "7.", "+7.0", " 7 ", "7e0", "70E-1", ".7e+01", '"7"'], ids=repr
)
def test_number_is_read_however_it_is_written(cell: str) -> None:
    assert read_raw(csv(up_2=cell), FILE)["up"].iloc[1] == 7.0


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + csv(),
        join(csv_lines(), "\r\n"),
        join(csv_lines(), "\r"),
        csv().rstrip(b"\n"),
        csv() + b"\n\n",
        csv().replace(TIME_COLUMN.encode(), b'"time"').replace(b"23:44:00", b"23:44"),
        csv().replace(b"05 23:", b"05T23:"),
    ],
    ids=["BOM", "CRLF", "CR", "no last line end", "blank lines at the end", "quotes", "T in time"],
)
def test_variants_of_csv_that_lose_nothing_are_read_alike(data: bytes) -> None:
    pd.testing.assert_frame_equal(read_raw(data, FILE), read_raw(csv(), FILE))


def test_last_number_may_end_the_file_because_a_cut_number_cannot_be_told() -> None:
    assert read_raw(csv().rstrip(b"\n")[:-2], FILE)["rb_up_var"].iloc[-1] == 71.0


def test_constant_column_is_read() -> None:
    data = csv(**{f"rb_up_{row}": "0" for row in range(1, 7)})
    assert read_raw(data, FILE)["rb_up"].tolist() == [0.0] * 6


def test_single_row_is_read_and_has_no_grid_step() -> None:
    frame = read_raw(join(csv_lines()[:2]), FILE)
    assert len(frame) == 1
    assert grid_step(frame) is None


@pytest.mark.parametrize(
    ("file", "rows", "rows_with_an_empty_cell"),
    [
        ("PobleSec.csv", 15_927, 11),
        ("PobleSec_test.csv", 3_982, 0),
        ("ElBorn.csv", 4_192, 39),
        ("ElBorn_test.csv", 1_049, 3),
    ],
)
def test_real_files_are_read_with_all_rows_and_empty_cells(
    real_data: Path, file: str, rows: int, rows_with_an_empty_cell: int
) -> None:
    frame = read_raw((real_data / file).read_bytes(), file)
    assert frame.shape == (rows, 11)
    assert frame.isna().any(axis=1).sum() == rows_with_an_empty_cell
    empty = count_empty_cells(frame)
    assert (empty["mcs_up"], empty["down"]) == (rows_with_an_empty_cell, 0)
    assert grid_step(frame) == pd.Timedelta(minutes=2)


def test_real_file_is_read_to_the_last_bit(real_data: Path) -> None:
    path = real_data / "ElBorn.csv"
    expected = pd.read_csv(
        path, index_col=TIME_COLUMN, parse_dates=True, float_precision="round_trip"
    )
    frame = read_raw(path.read_bytes(), path.name)
    pd.testing.assert_frame_equal(frame, expected.astype("float64"), check_exact=True)


@st.composite
def valid_frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    start = draw(st.datetimes(pd.Timestamp("1970-01-01"), pd.Timestamp("2200-01-01")))
    step = draw(st.timedeltas(pd.Timedelta(microseconds=1), pd.Timedelta(days=400)))
    index = pd.DatetimeIndex([start + k * step for k in range(rows)], name=TIME_COLUMN)
    number = st.floats(min_value=0, allow_infinity=False, allow_nan=False)
    columns = {}
    for name in RAW_COLUMNS:
        rest = draw(st.lists(number | st.just(np.nan), min_size=rows - 1, max_size=rows - 1))
        columns[name] = [draw(number), *rest]
    return pd.DataFrame(columns, index=index.as_unit("ns"), dtype="float64")


@given(frame=valid_frames())
@settings(max_examples=60, deadline=None)
def test_any_valid_frame_written_as_csv_is_read_back_equal(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(read_raw(to_csv(frame), FILE), frame, check_exact=True)


@given(data=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: csv() + text.encode()))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused_with_a_raw_data_error(data: bytes) -> None:
    try:
        frame = read_raw(data, FILE)
    except RawDataError as error:
        assert error.remedy
    else:
        raw_schema().validate(frame)


# --- the file as a whole ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"\xef\xbb\xbf"], ids=["0", "blank", "BOM"])
def test_empty_file_is_refused(data: bytes) -> None:
    error = refusal(data)
    assert (error.column, error.row) == (None, None)
    assert "the file is empty" in error.what
    assert "upload the file again" in (error.remedy or "")


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"], ids=repr)
def test_header_without_rows_is_refused(end: str) -> None:
    assert_refused(
        (HEADER + end).encode(),
        column=None,
        row=None,
        received=HEADER,
        what="no rows",
        remedy="upload the file again",
    )


def test_latin_1_cell_is_refused_with_row_and_byte() -> None:
    data = csv(up_2="1.5é").decode().encode("latin-1")
    assert_refused(
        data,
        column=None,
        row=2,
        received=b"\xe9",
        what=f"offset {data.index(0xE9)} is not UTF-8",
        remedy="save the file again as UTF-8",
    )


def test_latin_1_header_is_refused_without_a_row() -> None:
    data = csv().decode().replace("down", "dôwn", 1).encode("latin-1")
    assert_refused(
        data,
        column=None,
        row=None,
        received=b"\xf4",
        what="offset 6 in the header line",
        remedy="UTF-8",
    )


def test_utf_16_file_is_refused_as_not_utf_8() -> None:
    assert "UTF-8" in (refusal(csv().decode().encode("utf-16")).allowed or "")


# --- the header ---------------------------------------------------------------------------------


def test_missing_columns_are_refused_by_name() -> None:
    lines = [line.rsplit(",", 2)[0] for line in csv_lines()]
    assert_refused(
        join(lines),
        column="rb_up",
        row=None,
        received=HEADER.rsplit(",", 2)[0],
        what="lacks 'rb_up', 'rb_up_var'",
        remedy="export the file again",
    )


def test_missing_time_column_is_refused() -> None:
    lines = [line.split(",", 1)[1] for line in csv_lines()]
    assert refusal(join(lines)).column == TIME_COLUMN


def test_extra_columns_are_refused_by_name() -> None:
    lines = [line + ",1,2" for line in csv_lines()]
    lines[0] = HEADER + ",ping,loss"
    assert_refused(
        join(lines),
        column="ping",
        row=None,
        received=HEADER + ",ping,loss",
        what="'ping', 'loss'",
        remedy="remove 'ping', 'loss'",
    )


def test_index_column_that_pandas_writes_is_refused_with_a_hint() -> None:
    lines = ["," + HEADER, *(f"{row},{line}" for row, line in enumerate(csv_lines()[1:]))]
    error = refusal(join(lines))
    assert error.column == ""
    assert "pandas" in (error.remedy or "")


def test_repeated_column_name_is_refused() -> None:
    assert_refused(
        join([line + ",1" if row else line + ",up" for row, line in enumerate(csv_lines())]),
        column="up",
        row=None,
        received=HEADER + ",up",
        what="2 times",
        remedy="all but one",
    )


@pytest.mark.parametrize(
    ("right", "misspelled"),
    [("down", "dwon"), ("rnti_count", "RNTI_COUNT"), ("mcs_up_var", " mcs_up_var"), ("up", "Up")],
)
def test_misspelled_header_is_refused_with_the_right_spelling(right: str, misspelled: str) -> None:
    names = [misspelled if name == right else name for name in HEADER.split(",")]
    assert_refused(
        with_header(",".join(names)),
        column=right,
        row=None,
        received=",".join(names),
        what=f"{misspelled!r} instead",
        remedy=f"rename {misspelled!r} to {right!r}",
    )


def test_file_without_a_header_line_is_refused() -> None:
    assert_refused(
        join(csv_lines()[1:]),
        column=TIME_COLUMN,
        row=None,
        received=csv_lines()[1],
        what="the first line is not the header",
        remedy=f"make the first line {HEADER}",
    )


def test_semicolons_are_refused_with_a_word_on_commas() -> None:
    assert "with commas" in (refusal(csv().replace(b",", b";")).remedy or "")


# --- rows and their fields ----------------------------------------------------------------------


def test_row_with_too_few_fields_is_refused_at_the_first_absent_cell() -> None:
    data = with_line(3, lambda line: line.rsplit(",", 2)[0])
    assert_refused(
        data,
        column="rb_up",
        row=3,
        received=csv_lines()[3].rsplit(",", 2)[0],
        what="ends after 10 of 12 cells",
        remedy="every comma",
    )


def test_row_with_too_many_fields_is_refused() -> None:
    data = with_line(2, lambda line: line.replace("21.5", "21,5"))
    assert_refused(
        data,
        column=None,
        row=2,
        received=csv_lines()[2].replace("21.5", "21,5"),
        what="13 cells, 1 too many",
        remedy="a decimal sign is a point",
    )


def test_blank_line_between_rows_is_refused() -> None:
    lines = csv_lines()
    lines.insert(4, "")
    assert_refused(
        join(lines),
        column="down",
        row=4,
        received="",
        what="blank",
        remedy="remove the blank line",
    )


@pytest.mark.parametrize(
    ("kept", "column"),
    [("2018-02-05 23:5", "down"), ("2018-02-05 23:50:00,61.5,62.", "rnti_count")],
)
def test_truncated_last_line_with_too_few_fields_is_refused_as_cut_off(
    kept: str, column: str
) -> None:
    assert_refused(
        join(csv_lines()[:6]) + kept.encode(),
        column=column,
        row=6,
        received=kept,
        what="cut off before this cell",
        remedy="copy the complete file again",
    )


@pytest.mark.parametrize("kept", ["1.23e", "1.23e-", "-", "n"])
def test_truncated_last_cell_that_is_no_number_is_refused_as_cut_off(kept: str) -> None:
    assert_refused(
        csv(rb_up_var_6=kept).rstrip(b"\n"),
        column="rb_up_var",
        row=6,
        received=kept,
        what="cut off within this cell",
        remedy="copy the complete file again",
    )


def test_short_last_line_that_has_its_line_end_was_not_cut_off() -> None:
    assert "cut off" not in refusal(with_line(6, lambda line: line[:30])).what


@pytest.mark.parametrize("column", ["mcs_up", "rb_up_var"])
def test_quote_that_never_closes_is_refused_in_its_cell(column: str) -> None:
    assert_refused(
        csv(**{f"{column}_2": '"5'}),
        column=column,
        row=2,
        received='"5',
        what="not a number",
        remedy="correct the cell",
    )


# --- cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["abc", "1_000", "0x1F", "1.2.3", "1e", "-", "NA", "\u0661"])
def test_cell_that_is_no_number_is_refused(cell: str) -> None:
    assert_refused(
        csv(rb_down_5=cell),
        column="rb_down",
        row=5,
        received=cell,
        what="not a number",
        remedy="leave it empty",
    )


def test_first_faulty_cell_in_reading_order_is_the_one_refused() -> None:
    error = refusal(csv(down_5="x", rb_up_2="y", up_3="z", mcs_up_2="first"))
    assert (error.column, error.row, error.received) == ("mcs_up", 2, "first")


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity", "1e999"])
def test_infinite_cell_is_refused(cell: str) -> None:
    assert_refused(
        csv(up_4=cell),
        column="up",
        row=4,
        received=float(cell),
        what="not finite",
        remedy="leave it empty",
    )


def test_infinite_cell_does_not_hide_a_cell_that_is_no_number() -> None:
    assert refusal(csv(up_2="inf", up_4="x")).row == 4


@pytest.mark.parametrize("column", RAW_COLUMNS)
def test_negative_cell_is_refused_in_every_column(column: str) -> None:
    assert_refused(
        csv(**{f"{column}_3": "-0.5", f"{column}_5": "-7"}),
        column=column,
        row=3,
        received=-0.5,
        what="negative",
        remedy="leave it empty",
    )


def test_negative_zero_is_zero() -> None:
    assert read_raw(csv(up_1="-0.0"), FILE)["up"].iloc[0] == 0.0


def test_column_without_any_value_is_refused() -> None:
    assert_refused(
        csv(**{f"mcs_up_{row}": "" for row in range(1, 7)}),
        column="mcs_up",
        row=None,
        received="6 empty cells",
        what="no value at all",
        remedy="export the column again",
    )


# --- timestamps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "05/02/2018 23:44",
        "2018-2-5 23:44",
        "1517874240",
        "2018-02-30 00:00:00",
        "2018-02-05 24:44:00",
        "0001-01-01 00:00:00",
        "2500-01-01 00:00:00",
    ],
)
def test_unreadable_timestamp_is_refused(time: str) -> None:
    assert_refused(
        csv(time_3=time),
        column=TIME_COLUMN,
        row=3,
        received=time,
        what="not a timestamp that can be read",
        remedy="2018-02-05 23:40:00",
    )


@pytest.mark.parametrize("zone", ["Z", "+02:00", "-0300", " +01"])
def test_timestamp_with_a_time_zone_is_refused(zone: str) -> None:
    assert_refused(
        csv(time_3=TIMES[2] + zone),
        column=TIME_COLUMN,
        row=3,
        received=TIMES[2] + zone,
        what="has a time zone",
        remedy="without the zone",
    )


@pytest.mark.parametrize("empty", ["", "NaN"])
def test_empty_timestamp_is_refused(empty: str) -> None:
    assert_refused(
        csv(time_4=empty),
        column=TIME_COLUMN,
        row=4,
        received=empty,
        what="the timestamp is empty",
        remedy="write the timestamp",
    )


@pytest.mark.parametrize(("row", "copy_of"), [(5, 4), (6, 2)])
def test_duplicate_timestamp_is_refused_with_both_rows(row: int, copy_of: int) -> None:
    time = TIMES[copy_of - 1]
    assert_refused(
        csv(**{f"time_{row}": time}),
        column=TIME_COLUMN,
        row=row,
        received=time,
        what=f"stands in row {copy_of} already",
        remedy="keep one of the two rows",
    )


def test_unordered_timestamps_are_refused() -> None:
    assert_refused(
        csv(time_3=TIMES[3], time_4=TIMES[2]),
        column=TIME_COLUMN,
        row=4,
        received=TIMES[2],
        what=f"before {TIMES[3]} in row 3",
        remedy="sort the rows by time",
    )


@pytest.mark.parametrize(
    ("removed", "span"),
    [
        ([4], "timestamp 2018-02-05 23:46:00"),
        ([3, 4], "timestamps 2018-02-05 23:44:00 to 2018-02-05 23:46:00"),
    ],
)
def test_gap_in_the_grid_is_refused_with_the_missing_timestamps(
    removed: list[int], span: str
) -> None:
    lines = [line for row, line in enumerate(csv_lines()) if row not in removed]
    assert_refused(
        join(lines),
        column=TIME_COLUMN,
        row=removed[0],
        received="2018-02-05 23:48:00",
        what="the grid's step is 0 days 00:02:00",
        remedy=f"insert the missing {span} with empty cells",
    )


def test_gap_that_is_found_is_told_beside_the_step() -> None:
    lines = csv_lines()
    del lines[4]
    assert "0 days 00:04:00 lie between row 3 and this one" in refusal(join(lines)).what


def test_timestamp_off_the_grid_is_refused() -> None:
    assert_refused(
        csv(time_5="2018-02-05 23:49:00"),
        column=TIME_COLUMN,
        row=5,
        received="2018-02-05 23:49:00",
        what="0 days 00:03:00 lie between row 4",
        remedy="on one grid of 0 days 00:02:00",
    )


def test_grid_step_is_the_most_common_one_and_the_smallest_of_equals() -> None:
    def step(*minutes: int) -> pd.Timedelta | None:
        times = [pd.Timestamp("2024-01-01") + pd.Timedelta(minutes=m) for m in minutes]
        return grid_step(pd.DataFrame(index=pd.DatetimeIndex(times)))

    assert step(0, 2, 4, 9, 11) == pd.Timedelta(minutes=2)
    assert step(0, 5, 7) == pd.Timedelta(minutes=2)


def test_grid_step_does_not_depend_on_the_unit_of_the_index() -> None:
    index = pd.DatetimeIndex(TIMES).as_unit("s")
    assert grid_step(pd.DataFrame(index=index)) == pd.Timedelta(minutes=2)


# --- the schema and the cost --------------------------------------------------------------------


def test_schema_holds_the_columns_in_order_as_floats() -> None:
    schema = raw_schema()
    assert tuple(schema.columns) == RAW_COLUMNS
    assert {str(column.dtype) for column in schema.columns.values()} == {"float64"}


def test_a_fault_at_the_end_of_a_long_file_is_found(real_data: Path) -> None:
    data = (real_data / "PobleSec.csv").read_bytes()[:-3]
    error = refusal(data + b"x")
    assert (error.column, error.row) == ("rb_up_var", 15_927)


def test_file_of_many_read_blocks_is_read_in_pieces_that_are_the_whole() -> None:
    frame = demo_cell(30_000, 1)[0]
    file = RawFile(io.BytesIO(data := to_csv(frame) + b"\r\n" * 9), FILE)
    pieces = list(file.frames())
    assert len(data) > 3 << 20
    assert len(pieces) > 3
    pd.testing.assert_frame_equal(pd.concat(pieces), frame, check_exact=True, check_freq=False)
    seen = file.summary
    assert (seen.size, seen.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (seen.rows, seen.first, seen.last) == (30_000, frame.index[0], frame.index[-1])
    assert seen.step == grid_step(frame)
    assert seen.empty_cells == count_empty_cells(frame)


def test_cell_beyond_the_size_of_a_read_block_is_refused_without_a_place() -> None:
    error = refusal(csv(up_2="0." + "1" * 2_500_000))
    assert (error.column, error.row) == (None, None)
    assert "plain CSV" in (error.remedy or "")
    assert len(str(error)) < 500


def test_long_run_of_digits_does_not_stall_the_diagnosis() -> None:
    assert refusal(csv(up_2="1" * 50_000 + "x")).row == 2


def test_importing_the_module_does_not_import_pandera() -> None:
    code = "import sys, flts_assets.forecasting.raw_frame; sys.exit('pandera' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
