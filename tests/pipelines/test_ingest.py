"""Ingest end to end: formats agree, repeats add nothing, rejects are kept, memory is bounded."""

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.events import EventType
from contracts.ids import Namespace, hash63
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.ingest import IngestReport, ingest, open_dataset
from pipelines.ingestion.mapping import load_mapping
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.sources import Dataset, batch_of

PEOPLE = [
    {"person_id": "ann", "language": "en", "age": "34"},
    {"person_id": "bob", "created": "2024-01-02T03:04:05Z"},
]
POSTS = [
    {"post_id": "p1", "text": 'Tea, "hot"', "topics": "tea|rain| tea", "created": "2024-02-01"},
    {"post_id": "p2", "author_id": "cy", "text": "two\nlines", "created": "2024-02-02"},
]
FOLLOWS = [{"follower_id": "ann", "followee_id": "bob", "since": "2024-01-03"}]
EVENTS = [
    {"user_id": "ann", "post_id": "p1", "type": "Like", "timestamp": 1710000000},
    {"user_id": "bob", "post_id": "p2", "type": "dwell", "timestamp": 1710000060, "value": 900.0},
    {"user_id": "ann", "post_id": "p2", "type": "impression", "timestamp": 1710000090},
]


def write(folder: Path, kind: str, rows: list[dict[str, object]], ending: str) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    path = folder / f"{kind}.{ending}"
    if ending == "csv":
        cells = [[_cell(row.get(name)) for name in names] for row in rows]
        path.write_text("\n".join([",".join(names), *(",".join(row) for row in cells)]) + "\n")
    elif ending == "jsonl":
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist([{n: r.get(n) for n in names} for r in rows]), path)
    return path


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def write_all(folder: Path, ending: str) -> Path:
    folder.mkdir()
    for kind, rows in zip(Kind, (PEOPLE, POSTS, FOLLOWS, EVENTS), strict=True):
        write(folder, kind.value, rows, ending)
    return folder


def run(home: Path, dataset: Dataset) -> IngestReport:
    with Workspace.open(home) as workspace:
        return ingest(workspace, dataset, Reporter(as_json=True))


def contents(home: Path) -> dict[str, object]:
    with Workspace.open(home, read_only=True) as workspace:
        return {
            "people": workspace.catalog.people().to_pylist(),
            "posts": workspace.catalog.posts().to_pylist(),
            "follows": workspace.catalog.follows().to_pylist(),
            "events": workspace.log.scan().drop_columns(["seq"]).to_pylist(),
            "ids": {n.value: workspace.ids.all(n)[1] for n in Namespace},
        }


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_contents(tmp_path: Path, ending: str):
    report = run(tmp_path / "home", open_dataset(write_all(tmp_path / "in", ending)))
    found = contents(tmp_path / "home")
    assert [(f.kind, f.accepted, f.duplicates, f.rejected) for f in report.files] == [
        ("people", 2, 0, 0),
        ("posts", 2, 0, 0),
        ("follows", 1, 0, 0),
        ("events", 3, 0, 0),
    ]
    assert found["ids"] == {
        "person": ["ann", "bob", "cy"],
        "post": ["p1", "p2"],
        "topic": ["tea", "rain"],
    }
    people, posts, events = found["people"], found["posts"], found["events"]
    assert [p["attributes"] for p in people] == ['{"age":"34"}', "{}", None]
    assert [p["text"] for p in posts] == ['Tea, "hot"', "two\nlines"]
    assert [len(p["topics"]) for p in posts] == [2, 0]
    assert [e["type"] for e in events] == [6, 4, 2]
    assert [e["value"] for e in events] == [None, 900.0, None]
    assert all(e["known_assumed"] and e["known_time"] == e["event_time"] for e in events)
    assert report.implied_people == 1


def test_a_repeat_adds_nothing_and_changes_nothing(tmp_path: Path):
    folder = write_all(tmp_path / "in", "csv")
    run(tmp_path / "home", open_dataset(folder))
    before = contents(tmp_path / "home")
    again = run(tmp_path / "home", open_dataset(folder))
    assert [(f.accepted, f.duplicates) for f in again.files] == [(0, 2), (0, 2), (0, 1), (0, 3)]
    assert contents(tmp_path / "home") == before


def test_equal_rows_in_one_file_are_different_events(tmp_path: Path):
    path = write(tmp_path, "events", [EVENTS[0]] * 3 + [EVENTS[1]], "csv")
    dataset = open_dataset(None, {Kind.EVENTS: path})
    assert run(tmp_path / "home", dataset).files[0].accepted == 4
    dataset = open_dataset(None, {Kind.EVENTS: path})
    assert run(tmp_path / "home", dataset).files[0].duplicates == 4


def test_event_ids_of_the_file_are_hashed_as_the_api_does(tmp_path: Path):
    rows = [EVENTS[0] | {"event_id": "e-1"}, EVENTS[1] | {"event_id": "e-1"}, EVENTS[2]]
    path = write(tmp_path, "events", rows, "jsonl")
    file = run(tmp_path / "home", open_dataset(None, {Kind.EVENTS: path})).files[0]
    assert (file.accepted, file.duplicates) == (2, 1)
    ids = [e["event_id"] for e in contents(tmp_path / "home")["events"]]
    assert hash63("e-1") in ids


def test_rejected_rows_keep_line_reason_and_content(tmp_path: Path):
    path = tmp_path / "events.csv"
    path.write_text(
        "user_id,post_id,type,timestamp\nann,p1,like,1710000000\n\nann,p1,adore,1710000001\n"
        "bob,p1\nbob,p1,like,soon\ncy,p1,click,1710000009\n"
    )
    with Workspace.open(tmp_path / "home") as workspace:
        dataset = open_dataset(None, {Kind.EVENTS: path})
        file = ingest(workspace, dataset, Reporter(as_json=True)).files[0]
    assert (file.accepted, file.rejected) == (2, 3)
    assert file.reject_file is not None
    entries = [json.loads(line) for line in Path(file.reject_file).read_text().splitlines()]
    assert {e["line"]: e["reason"] for e in entries} == {
        5: "2 columns, the header has 4",
        4: "type is no event type",
        6: "event_time is not a time that can be read",
    }
    assert [e["row"]["type"] for e in entries if e["line"] == 4] == ["adore"]
    assert [e["raw"] for e in entries if e["line"] == 5] == ["bob,p1"]


def test_known_time_is_kept_where_it_is_given(tmp_path: Path):
    rows = [
        EVENTS[0] | {"known_time": "2024-03-10T00:00:00+01:00"},
        EVENTS[1] | {"known_time": "2024-03-09T15:59:00Z"},
        EVENTS[2],
    ]
    path = write(tmp_path, "events", rows, "jsonl")
    report = run(tmp_path / "home", open_dataset(None, {Kind.EVENTS: path}))
    assert report.files[0].reasons == {"known_time is before event_time": 1}
    events = contents(tmp_path / "home")["events"]
    assert [e["known_assumed"] for e in events] == [False, True]
    assert events[0]["known_time"].isoformat() == "2024-03-09T23:00:00+00:00"


def test_without_a_posts_file_posts_are_made_of_events(tmp_path: Path):
    first = write(tmp_path, "events", EVENTS[1:], "csv")
    assert run(tmp_path / "home", open_dataset(None, {Kind.EVENTS: first})).bare_posts
    earlier = [EVENTS[1] | {"timestamp": 1700000000}]
    second = write(tmp_path, "events", earlier, "jsonl")
    run(tmp_path / "home", open_dataset(None, {Kind.EVENTS: second}))
    posts = contents(tmp_path / "home")["posts"]
    assert [(p["text"], p["created"].timestamp()) for p in posts] == [("", 1700000000)]


def test_events_on_unknown_posts_are_rejected_beside_a_posts_file(tmp_path: Path):
    folder = write_all(tmp_path / "in", "csv")
    write(folder, "events", [*EVENTS, EVENTS[0] | {"post_id": "p9"}], "csv")
    report = run(tmp_path / "home", open_dataset(folder))
    assert report.files[3].reasons == {"post_id is not among the posts": 1}
    assert not report.bare_posts


def test_graph_events_change_the_catalog_once(tmp_path: Path):
    folder = write_all(tmp_path / "in", "csv")
    rows = [
        {"user_id": "ann", "type": "follow", "target_id": "cy", "timestamp": 1710000000},
        {"user_id": "ann", "type": "unfollow", "target_id": "bob", "timestamp": 1710000001},
        {"user_id": "bob", "type": "follow", "target_id": "cy", "timestamp": 1710000009},
        {"user_id": "bob", "type": "unfollow", "target_id": "cy", "timestamp": 1710000008},
        {"user_id": "bob", "type": "block", "target_id": "ann", "timestamp": 1710000004},
        {"user_id": "bob", "type": "unblock", "target_id": "ann", "timestamp": 1710000005},
        {"user_id": "ann", "type": "mute", "target_id": "dan", "timestamp": 1710000002},
        {"user_id": "cy", "type": "post_deleted", "post_id": "p2", "timestamp": 1710000003},
    ]
    write(folder, "events", rows, "csv")
    run(tmp_path / "home", open_dataset(folder))
    with Workspace.open(tmp_path / "home") as workspace:
        people = dict(zip(*reversed(workspace.ids.all(Namespace.PERSON)), strict=True))
        pairs = [tuple(row.values())[:2] for row in workspace.catalog.follows().to_pylist()]
        assert set(pairs) == {(people["ann"], people["cy"]), (people["bob"], people["cy"])}
        assert workspace.catalog.blocks()["kind"].to_pylist() == ["mute"]
        assert workspace.catalog.posts()["deleted"].to_pylist() == [False, True]
        workspace.catalog.remove_follows([people[n] for n in ("ann", "bob")], [people["cy"]] * 2)
        ingest(
            workspace,
            open_dataset(None, {Kind.EVENTS: folder / "events.csv"}),
            Reporter(as_json=True),
        )
        assert workspace.catalog.follows().num_rows == 0


def test_a_mapping_file_names_columns_words_and_constants(tmp_path: Path):
    (tmp_path / "clicks.csv").write_text("who,what,when,kind\nann,p1,1710000000000,buy\n")
    (tmp_path / "map.toml").write_text(
        '[events]\nfile = "clicks.csv"\nviewer_id = "who"\npost_id = "what"\n'
        'event_time = "when"\ntype = "kind"\ntime_unit = "ms"\ntypes = { buy = "save" }\n'
        'constants = { feed_id = "00000000000000ff" }\n'
    )
    dataset = open_dataset(None, {}, load_mapping(tmp_path / "map.toml"))
    run(tmp_path / "home", dataset)
    (event,) = contents(tmp_path / "home")["events"]
    assert (event["type"], event["feed_id"]) == (EventType.SAVE, 255)
    assert event["event_time"].timestamp() == 1710000000


def test_the_data_set_is_remembered(tmp_path: Path):
    folder = write_all(tmp_path / "in", "csv")
    run(tmp_path / "home", open_dataset(folder))
    with Workspace.open(tmp_path / "home", read_only=True) as workspace:
        facts = json.loads(workspace.meta_get("dataset") or "")
    assert facts["name"] == "in"
    assert facts["split"] == {"kind": "time"}
    assert facts["has_impressions"] is True


def test_batches_are_let_go_one_by_one(tmp_path: Path):
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def batches() -> Iterator[RowBatch]:
        nonlocal most
        for number in range(8):
            ids = [f"u{number}-{k}" for k in range(500)]
            columns = {"viewer_id": ids, "post_id": ["p"] * 500, "type": ["like"] * 500}
            times = pa.array(np.arange(500) + 1_700_000_000).cast(pa.string())
            batch = batch_of(
                {**columns, "event_time": times}, range(number * 500, 500 + number * 500)
            )
            alive.append(weakref.ref(batch.lines))
            yield batch
            del batch
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))

    report = run(tmp_path / "home", Dataset("d", [Source(Kind.EVENTS, "generated", batches())]))
    assert report.events_in_log == 4000
    assert most <= 2


def test_the_command_prints_one_json_line_and_shows_columns(tmp_path: Path):
    folder = write_all(tmp_path / "in", "csv")
    program = "from pipelines.cli import main; main()"
    command = [sys.executable, "-c", program, "ingest", str(folder), "--json", "--home"]
    done = subprocess.run(
        [*command, str(tmp_path / "home")], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert sum(file["accepted"] for file in result["files"]) == 8
    assert "user_id" in done.stderr
    assert "guess" in done.stderr
