"""Nothing is lost and nothing comes back: stray quotes, odd values, repeats, files in no order."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.ids import Namespace
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.csv_rows import CsvRows
from pipelines.ingestion.ingest import FileReport, IngestReport, ingest, open_dataset
from pipelines.ingestion.rows import Kind
from pipelines.ingestion.sources import Dataset

HEADER = "user_id,post_id,type,timestamp\n"
T0 = 1_710_000_000


def load(home: Path, **files: Path) -> IngestReport:
    with Workspace.open(home) as workspace:
        named = {Kind(kind): path for kind, path in files.items()}
        return ingest(workspace, open_dataset(None, named), Reporter(as_json=True))


def load_events(folder: Path, content: str | bytes, name: str = "events.csv") -> FileReport:
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    return load(folder / "home", events=folder / name).files[0]


def rows_of(report: FileReport) -> list[dict[str, object]]:
    if report.reject_file is None:
        return []
    return [json.loads(line) for line in Path(report.reject_file).read_text().splitlines()]


@pytest.mark.parametrize("stray", [{10}, {10, 700}, {10, 11}, {0}, {999}, {3, 400, 401, 900}])
def test_a_stray_quote_costs_its_own_row(tmp_path: Path, stray: set[int]) -> None:
    lines = [f"u{k},p{k % 40},click,{T0 + k}{chr(34) if k in stray else ''}\n" for k in range(1000)]
    lines = [
        line.replace(f",{T0 + k}", f',"{T0 + k}').replace('"\n', "\n") if k in stray else line
        for k, line in enumerate(lines)
    ]
    report = load_events(tmp_path, HEADER + "".join(lines))
    assert report.accepted + report.duplicates + report.rejected == 1000
    assert report.rejected == len(stray)
    found = rows_of(report)
    assert [row["line"] for row in found] == sorted(k + 2 for k in stray)
    assert [row["raw"] for row in found] == [lines[k].rstrip("\n") for k in sorted(stray)]


cell = st.text(st.sampled_from('ab",\n '), max_size=4)


@given(st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=12))
def test_every_line_is_a_row_or_is_rejected(tmp_path_factory, table: list[list[str]]) -> None:
    """Whatever the quotes: each line that is not blank is in a row or among the broken ones."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    text = "".join(",".join(row) + "\n" for row in table)
    path.write_text("one,two,three\n" + text)
    batches = list(CsvRows(path).batches())
    taken = sum(
        1 + "".join(str(batch.columns[name][at]) for name in batch.columns).count("\n")
        for batch in batches
        for at in range(len(batch.lines))
    )
    broken = [b for batch in batches for b in batch.broken]
    blank = sum(not line for line in text.split("\n")[:-1])
    assert taken + len(broken) >= text.count("\n") - blank
    assert all(len(b.raw.splitlines()) <= 1 for b in broken)


def test_rejects_of_files_of_one_name_lie_beside_each_other(tmp_path: Path) -> None:
    for kind, text in (("people", "user_id,created\nann,never\n"), ("events", HEADER + "a,b\n")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "data.csv").write_text(text)
    done = load(
        tmp_path / "home",
        people=tmp_path / "people" / "data.csv",
        events=tmp_path / "events" / "data.csv",
    )
    people, events = done.files
    assert people.reject_file != events.reject_file
    assert [len(rows_of(each)) for each in done.files] == [1, 1]
    assert "created" in str(rows_of(people)[0]["reason"])


@pytest.mark.parametrize("absurd", ["99999999999999", "9999999999999999999", "253402300800"])
def test_an_absurd_time_costs_its_own_row(tmp_path: Path, absurd: str) -> None:
    good = "".join(f"u{k},p1,click,{T0 + k}\n" for k in range(30))
    report = load_events(tmp_path, f"{HEADER}u,p1,click,{absurd}\n{good}")
    assert (report.accepted, report.rejected) == (30, 1)


@pytest.mark.parametrize(("unit", "most"), [("us", 2**63 - 1), ("s", 2**53), ("s", 253402300800)])
def test_an_absurd_moment_costs_its_own_row(tmp_path: Path, unit: str, most: int) -> None:
    scale = 1 if unit == "s" else 10**6
    times = pa.array([most, T0 * scale, (T0 + 1) * scale], pa.timestamp(unit, tz="UTC"))
    table = {"user_id": ["a", "b", "c"], "post_id": ["p"] * 3, "type": ["click"] * 3}
    pq.write_table(pa.table({**table, "timestamp": times}), tmp_path / "e.parquet")
    report = load(tmp_path / "home", events=tmp_path / "e.parquet").files[0]
    assert (report.accepted, report.rejected) == (2, 1)
    (row,) = rows_of(report)
    assert row["line"] == 1


def jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_column_that_comes_late_is_read(tmp_path: Path) -> None:
    def row(k: int, kind: str, **more: object) -> dict[str, object]:
        return {"user_id": f"u{k}", "type": kind, "timestamp": T0 + k, **more}

    rows = [row(k, "click", post_id="p") for k in range(1500)]
    rows += [row(2000 + k, "follow", target_user_id=f"v{k}") for k in range(5)]
    rows += [row(3000 + k, "dwell", post_id="p", dwell_ms=5.0) for k in range(5)]
    report = load_events(tmp_path, jsonl(rows), "events.jsonl")
    assert (report.accepted, report.rejected) == (1510, 0)
    assert any("target_id from target_user_id" in note for note in report.notes)
    with Workspace.open(tmp_path / "home") as workspace:
        assert workspace.catalog.counts()["follows"] == 5
        values = workspace.log.scan(columns=["value"])["value"].drop_null()
    assert values.to_pylist() == [5.0] * 5


def test_long_numbers_stay_apart(tmp_path: Path) -> None:
    ids = [123456789012345678901230 + k for k in range(3)] + [2**63, 2**64 - 1, 2**64]
    rows = [{"user_id": i, "post_id": 1, "type": "click", "timestamp": T0} for i in ids]
    assert load_events(tmp_path, jsonl(rows), "events.jsonl").accepted == len(ids)
    with Workspace.open(tmp_path / "home") as workspace:
        assert (workspace.ids.lookup(Namespace.PERSON, [str(i) for i in ids]) >= 0).all()


def test_a_mark_before_the_first_line_of_json_is_no_fault(tmp_path: Path) -> None:
    rows = [{"user_id": "a", "post_id": "p", "type": "click", "timestamp": T0}]
    raw = b"\xef\xbb\xbf" + jsonl(rows).encode()
    report = load_events(tmp_path, raw, "events.jsonl")
    assert (report.accepted, report.rejected) == (1, 0)


def test_a_header_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    raw = "user_id,post_id,type,timestamp,größe\na,p,click,1710000000,1\n".encode("latin-1")
    with pytest.raises(InvalidInput, match=r"the header of events\.csv is not UTF-8"):
        load_events(tmp_path, raw)


def test_columns_of_bytes_and_half_floats_are_read(tmp_path: Path) -> None:
    table = {
        "user_id": pa.array([b"ann", b"bob"], pa.binary()),
        "post_id": pa.array([b"\xff" * 16, b"\x00" * 16], pa.binary(16)),
        "type": ["click", "click"],
        "timestamp": [T0, T0 + 1],
        "value": pa.array(np.array([1.5, 2.0], np.float16)),
        "unused": pa.array([b"\xfe", None], pa.large_binary()),
    }
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    assert load(tmp_path / "home", events=tmp_path / "e.parquet").files[0].accepted == 2
    with Workspace.open(tmp_path / "home") as workspace:
        assert workspace.ids.all(Namespace.PERSON)[1] == ["ann", "bob"]
        assert workspace.ids.all(Namespace.POST)[1] == ["ff" * 16, "00" * 16]


GRAPH = [
    ("ann", "block", "bob", T0), ("ann", "unblock", "bob", T0 + 100),
    ("ann", "follow", "cat", T0), ("ann", "unfollow", "cat", T0 + 100),
    ("bob", "block", "ann", T0 + 50), ("bob", "unblock", "ann", T0 + 40),
    ("bob", "mute", "cat", T0 + 10), ("cat", "unfollow", "bob", T0 + 5),
    ("cat", "follow", "bob", T0 + 6),
]  # fmt: skip


def graph_lines(rows: list[tuple[str, str, str, int]]) -> str:
    lines = [f"{who},{kind},{whom},{time}\n" for who, kind, whom, time in rows]
    return "user_id,type,target_id,timestamp\n" + "".join(lines)


def graph_of(home: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    with Workspace.open(home) as workspace:
        ids, names = workspace.ids.all(Namespace.PERSON)
        name = dict(zip(ids.tolist(), names, strict=True))
        follows = workspace.catalog.follows().to_pylist()
        blocks = workspace.catalog.blocks().to_pylist()
    return (
        sorted((name[f["follower_id"]], name[f["followee_id"]]) for f in follows),
        sorted((name[b["blocker_id"]], name[b["blocked_id"]], b["kind"]) for b in blocks),
    )


EXPECTED = ([("cat", "bob")], [("bob", "ann", "block"), ("bob", "cat", "mute")])


@given(st.permutations(GRAPH), st.integers(1, len(GRAPH)))
def test_files_in_any_order_give_one_graph(tmp_path_factory, rows, cut: int) -> None:
    folder = tmp_path_factory.mktemp("graph")
    for number, part in enumerate((rows[:cut], rows[cut:])):
        if part:
            (folder / f"{number}.csv").write_text(graph_lines(part))
            load(folder / "home", events=folder / f"{number}.csv")
    assert graph_of(folder / "home") == EXPECTED


def test_a_file_that_has_grown_brings_nothing_lifted_back(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(graph_lines([("ann", "block", "bob", T0), ("ann", "follow", "cat", T0)]))
    second.write_text(
        graph_lines([("ann", "unblock", "bob", T0 + 9), ("ann", "unfollow", "cat", T0 + 9)])
        + f"cat,person_erased,,{T0 + 20}\n"
    )
    home = tmp_path / "home"
    for path in (first, second):
        load(home, events=path)
    assert graph_of(home) == ([], [])
    with first.open("a") as file:
        file.write(f"ann,follow,dan,{T0 + 1}\n")
    done = load(home, events=first).files[0]
    assert (done.accepted, done.duplicates) == (1, 2)
    assert graph_of(home) == ([("ann", "dan")], [])


def test_an_erased_person_stays_erased(tmp_path: Path) -> None:
    people, events = tmp_path / "people.csv", tmp_path / "events.csv"
    people.write_text("user_id,mail\nann,secret@example.org\nbob,b@example.org\n")
    events.write_text(f"user_id,type,timestamp\nann,person_erased,{T0}\n")
    home = tmp_path / "home"
    load(home, people=people)
    load(home, events=events)
    again = load(home, people=people).files[0]
    assert (again.rejected, again.reasons) == (1, {"the person was erased": 1})
    with Workspace.open(home) as workspace:
        assert "secret" not in str(workspace.catalog.people().to_pylist())
        assert workspace.catalog.counts()["people"] == 1


def facts(home: Path) -> dict[str, object]:
    with Workspace.open(home) as workspace:
        found: dict[str, object] = json.loads(workspace.meta_get("dataset") or "{}")
    return found


def test_a_later_file_keeps_what_is_known_of_the_set(tmp_path: Path) -> None:
    home, events = tmp_path / "home", tmp_path / "events.csv"
    events.write_text(HEADER + f"u1,p1,click,{T0}\n")
    with Workspace.open(home) as workspace:
        plain = open_dataset(None, {Kind.EVENTS: events})
        known = Dataset(
            "known", plain.sources, "lightgcn", "order", "research only", ["times are made"]
        )
        ingest(workspace, known, Reporter(as_json=True))
    before = facts(home)
    (tmp_path / "people.csv").write_text("user_id\nu1\n")
    load(home, people=tmp_path / "people.csv")
    events.write_text(HEADER + f"u1,p1,click,{T0 + 5}\n")
    load(home, events=events)
    assert facts(home) == before
    assert before["split"] == {"kind": "order"}
