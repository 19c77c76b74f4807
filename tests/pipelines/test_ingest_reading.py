"""Reading files: line numbers, delimiters, types, times, column guesses, made event ids."""

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.clock import to_us
from pipelines.ingestion.columns import match_columns
from pipelines.ingestion.csv_rows import CsvRows
from pipelines.ingestion.event_keys import Occurrences, made_event_ids
from pipelines.ingestion.readers import open_rows
from pipelines.ingestion.rows import Kind
from pipelines.ingestion.times import ABSENT_US, UNREADABLE_US, TimeColumn

CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x00", exclude_categories=("Cs",)),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=12))
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
):
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("a", "b"), *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    read: list[tuple[str, str]] = []
    lines: list[int] = []
    for batch in CsvRows(path).batches():
        assert batch.broken == []
        columns = (batch.columns[name].to_pylist() for name in "ab")
        read += zip(*columns, strict=True)
        lines += batch.lines.tolist()
    assert read == rows
    ends = np.cumsum([2, *(1 + a.count("\n") + b.count("\n") for a, b in rows)])
    assert lines == ends[: len(rows)].tolist()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str):
    path = tmp_path / "a.tsv"
    path.write_text(f"\ufeffuser id{delimiter}b\n1{delimiter}x\r\n")
    rows = CsvRows(path)
    assert rows.columns == ["user id", "b"]
    (batch,) = rows.batches()
    assert batch.row(0) == {"user id": "1", "b": "x"}


def test_lines_are_those_of_the_file_on_the_fast_and_the_careful_way(tmp_path: Path):
    path = tmp_path / "a.csv"
    plain = "".join(f"{i},x\n" for i in range(5))
    path.write_text("a,b\n" + plain + "\n7\n" + plain + '"q\nr",y\n8\n9,z')
    batches = list(CsvRows(path).batches())
    lines = np.concatenate([batch.lines for batch in batches]).tolist()
    assert lines == [2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 17]
    assert [b.line for batch in batches for b in batch.broken] == [8, 16]


def test_blank_lines_count_as_lines(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("\na,b\n1,x\n\n\n2,y\n\n")
    batches = list(CsvRows(path).batches())
    assert [line for batch in batches for line in batch.lines.tolist()] == [3, 6]
    assert [batch.broken for batch in batches] == [[]] * len(batches)


def test_json_values_become_text_and_late_columns_count(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "x": 2.0, "t": ["a", 3]}\n\n{"id": "b", "late": true, "t": null}\n')
    (batch,) = open_rows(path).batches()
    assert batch.row(0) == {"id": "1", "x": "2", "t": ["a", "3"], "late": None}
    assert batch.row(1) == {"id": "b", "x": None, "t": None, "late": "true"}
    assert batch.lines.tolist() == [1, 3]


def test_parquet_types_become_text_lists_and_times(tmp_path: Path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "gaps": pa.array([1.0, None, 3.0]),
            "real": pa.array([1.5, float("nan"), 2.0]),
            "word": pa.array(["a", "b", "a"]).dictionary_encode(),
            "day": pa.array([0, 1, 2], pa.date32()),
            "tags": pa.array([[1], [], None], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, path)
    (batch,) = open_rows(path).batches()
    assert batch.columns["gaps"].to_pylist() == ["1", None, "3"]
    assert batch.columns["real"].to_pylist() == ["1.5", None, "2"]
    assert batch.columns["word"].to_pylist() == ["a", "b", "a"]
    assert pa.types.is_timestamp(batch.columns["day"].type)
    assert batch.columns["tags"].to_pylist() == [["1"], [], None]


@given(
    moment=st.datetimes(*map(datetime.fromisoformat, ("1971-01-01", "2100-01-01"))),
    hours=st.integers(-12, 12),
)
def test_iso_times_are_read_in_every_form(moment: datetime, hours: int):
    zone = f"{hours:+03d}:00"
    forms = [
        moment.isoformat(),
        moment.isoformat(sep=" ") + "Z",
        (moment + timedelta(hours=hours)).isoformat() + zone,
        moment.isoformat(timespec="microseconds") + "+0000",
    ]
    times = TimeColumn("t").read(pa.array(forms))
    assert times.tolist() == [to_us(moment.replace(tzinfo=UTC))] * 4


@given(
    seconds=st.integers(200_000_000, 4_000_000_000),
    unit=st.sampled_from([("s", 1), ("ms", 1_000), ("us", 1_000_000)]),
)
def test_epoch_units_are_guessed_and_said(seconds: int, unit: tuple[str, int]):
    reader = TimeColumn("t")
    times = reader.read(pa.array([str(seconds * unit[1]), None]))
    assert times.tolist() == [seconds * 1_000_000, ABSENT_US]
    assert len(reader.notes) == 1
    assert "guessed" in reader.notes[0]


def test_odd_times_are_marked_and_zones_said():
    reader = TimeColumn("t")
    texts = ["2024-02-30", "nonsense", "2024-02-29 12:00", "2024-02-29T12:00:00.123456789Z"]
    times = reader.read(pa.array(texts)).tolist()
    assert times[:2] == [UNREADABLE_US] * 2
    assert times[3] - times[2] == 123_456
    assert reader.notes == ["t has no zone: taken as UTC"]


def test_a_unit_that_is_told_is_not_guessed():
    reader = TimeColumn("t", "ms")
    assert reader.read(pa.array(["1000"])).tolist() == [1_000_000]
    assert reader.notes == []


@pytest.mark.parametrize(
    ("kind", "columns", "expected"),
    [
        (
            Kind.EVENTS,
            ["uid", "Item-ID", "Event Type", "ts"],
            ["uid", "Event Type", "ts", "Item-ID"],
        ),
        (Kind.EVENTS, ["user_id", "viewer_id", "type", "time"], ["viewer_id", "type", "time"]),
        (Kind.POSTS, ["id", "title", "body", "date"], ["id", "body", "date"]),
        (Kind.PEOPLE, ["user_id:token", "age:token"], ["user_id:token"]),
        (Kind.FOLLOWS, ["src", "dst"], ["src", "dst"]),
    ],
)
def test_columns_are_guessed_by_name(kind: Kind, columns: list[str], expected: list[str]):
    assert [column for column, _ in match_columns(kind, columns, {}).values()] == expected


def test_a_chosen_column_wins_and_is_used_once():
    table = match_columns(Kind.EVENTS, ["user_id", "other", "type"], {"viewer_id": "other"})
    assert table == {"viewer_id": ("other", "chosen"), "type": ("type", "same name")}


@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=40), cuts=st.lists(st.integers(1, 9)))
def test_made_ids_do_not_depend_on_the_batches(rows: list[int], cuts: list[int]):
    whole = made_event_ids(Occurrences(), [np.array(rows)])
    parts, start, counter = [], 0, Occurrences()
    for cut in [*cuts, len(rows)]:
        part = np.array(rows[start : start + cut], dtype=np.int64)
        if len(part):
            parts.append(made_event_ids(counter, [part]))
        start += cut
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert len(set(whole.tolist())) == len(rows)
    assert (whole >= 0).all()
