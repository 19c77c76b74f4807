"""Broken files: each kind gives its clear error, or rejects with a reason; the rest is kept."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import HeadwaterError, InvalidInput, NotFound
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.ingest import FileReport, ingest, open_dataset
from pipelines.ingestion.mapping import load_mapping
from pipelines.ingestion.rows import Kind

HEADER = b"user_id,post_id,type,timestamp\n"
GOOD = b"ann,p1,like,1710000000\n"

WHOLE_FILE = [
    ("missing file", "nowhere.csv", None, NotFound, "does not exist"),
    ("empty file", "events.csv", b"", InvalidInput, "events.csv is empty"),
    ("only blank lines", "events.csv", b"\n\n", InvalidInput, "no header line"),
    ("unknown ending", "events.xml", b"<a/>", InvalidInput, "ending that is not known"),
    ("packed", "events.csv.gz", b"\x1f\x8b\x08", InvalidInput, "unpack it first"),
    ("one JSON array", "events.json", b"[]", InvalidInput, "one JSON object a line"),
    ("UTF-16", "events.csv", "a,b\n".encode("utf-16"), InvalidInput, "is UTF-16"),
    ("a spreadsheet", "events.csv", b"PK\x03\x04\x14\x00", InvalidInput, "is not text"),
    ("old Mac line ends", "events.csv", b"a,b\r1,2\r", InvalidInput, "carriage returns alone"),
    ("column twice", "events.csv", b"a,b,a\n1,2,3\n", InvalidInput, "has a more than once"),
    ("column unnamed", "events.csv", b"a,,c\n1,2,3\n", InvalidInput, "no name for column 2"),
    (
        "no column for a field",
        "events.csv",
        b"user_id,type,colour\nann,like,red\n",
        InvalidInput,
        "no column for event_time; it has user_id, type, colour",
    ),
    (
        "no header",
        "events.csv",
        b"ann,p1,like,1710000000\n",
        InvalidInput,
        "no column for viewer_id",
    ),
    ("no JSON objects", "events.jsonl", b"[1,2]\n[3]\n", InvalidInput, "holds no JSON object"),
    ("not Parquet", "events.parquet", b"user_id,post_id\n", InvalidInput, "not a Parquet file"),
    ("cut-off Parquet", "events.parquet", b"PAR1\x15\x04", InvalidInput, "not a Parquet file"),
]


def opened(path: Path) -> Workspace:
    return Workspace.open(path / "home")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [case[1:] for case in WHOLE_FILE],
    ids=[case[0] for case in WHOLE_FILE],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes | None, error: type[HeadwaterError], message: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with opened(tmp_path) as workspace, pytest.raises(error, match=message) as caught:
        ingest(
            workspace,
            open_dataset(None, {Kind.EVENTS: tmp_path / name}),
            Reporter(as_json=True),
        )
    assert caught.value.hint


BROKEN_ROWS = [
    ("too few columns", b"ann,p1\n", "2 columns, the header has 4"),
    ("too many columns", b"ann,p1,like,1710000000,x\n", "5 columns, the header has 4"),
    ("not UTF-8", b"\xff\xfe,p1,like,1710000000\n", "not UTF-8 text"),
    ("quote left open", b'"ann,p1,like,1710000000\n', "the quote opened at line 3 is not closed"),
    ("text after a quote", b'"ann"x,p1,like,1710000000\n', "not CSV: ',' expected after '\"'"),
    ("no viewer", b" ,p1,like,1710000000\n", "viewer_id is missing"),
    ("no post", b"ann,,like,1710000000\n", "post_id is missing, this event type needs it"),
    ("no target", b"ann,,follow,1710000000\n", "target_id is missing, this event type needs it"),
    ("no type", b"ann,p1,,1710000000\n", "type is missing"),
    ("unknown type", b"ann,p1,adore,1710000000\n", "type is no event type"),
    ("no time", b"ann,p1,like,\n", "event_time is missing"),
    ("words for a time", b"ann,p1,like,yesterday\n", "event_time is not a time that can be read"),
    ("month 13", b"ann,p1,like,2024-13-01\n", "event_time is not a time that can be read"),
    ("absurd year", b"ann,p1,like,1956-01-01\n", "event_time is before 1990"),
    ("the future", b"ann,p1,like,2999-01-01\n", "event_time is in the future"),
    ("endless id", b"a" * 300 + b",p1,like,1710000000\n", "viewer_id is longer than 256 bytes"),
]


def ingest_events(folder: Path, content: bytes, name: str = "events.csv") -> FileReport:
    (folder / name).write_bytes(content)
    with opened(folder) as workspace:
        dataset = open_dataset(None, {Kind.EVENTS: folder / name})
        return ingest(workspace, dataset, Reporter(as_json=True)).files[0]


@pytest.mark.parametrize(
    ("line", "reason"), [case[1:] for case in BROKEN_ROWS], ids=[case[0] for case in BROKEN_ROWS]
)
def test_a_broken_row_is_rejected_and_the_rest_kept(tmp_path: Path, line: bytes, reason: str):
    after = b"bob,p1,like,1710000009\n"
    file = ingest_events(tmp_path, HEADER + GOOD + line + after)
    assert file.reasons == {reason: 1}
    assert file.accepted == 2
    assert file.reject_file is not None
    assert json.loads(Path(file.reject_file).read_text())["line"] == 3


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("value", "many", "value is not a number"),
        ("value", "1e999", "value is not a number"),
        ("position", "-1", "position is no whole number 0..32767"),
        ("position", "40000", "position is no whole number 0..32767"),
        ("position", "2.5", "position is no whole number 0..32767"),
        ("known_time", "2020-01-01", "known_time is before event_time"),
        ("known_time", "later", "known_time is not a time that can be read"),
    ],
)
def test_a_broken_value_is_rejected(tmp_path: Path, field: str, value: str, reason: str):
    lines = f"user_id,post_id,type,timestamp,{field}\nann,p1,like,1710000000,{value}\n"
    assert ingest_events(tmp_path, lines.encode()).reasons == {reason: 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"user_id": "ann", \n', "not JSON: "),
        (b"[1]\n", "not a JSON object but list"),
        (b'{"user_id": "ann", "x": NaN}\n', "not JSON: "),
    ],
)
def test_a_broken_json_line_is_rejected(tmp_path: Path, line: bytes, reason: str):
    good = b'{"user_id": "ann", "post_id": 1, "type": "like", "timestamp": "2024-01-01"}\n'
    file = ingest_events(tmp_path, good + line + good, "events.jsonl")
    assert (file.accepted, file.rejected) == (2, 1)
    assert next(iter(file.reasons)).startswith(reason)


@pytest.mark.parametrize(
    ("kind", "content", "reasons"),
    [
        ("people", "person_id\n\nann\n\n", {}),
        ("people", 'person_id,age\n"",3\nann,4\n', {"person_id is missing": 1}),
        ("people", "person_id,created\nann,never\n", {"created is not a time that can be read": 1}),
        ("posts", "post_id,text,created\np1,hello,\n", {"created is missing": 1}),
        ("posts", "post_id,text,created\n,hello,2024-01-01\n", {"post_id is missing": 1}),
        (
            "posts",
            f"post_id,text,created\np1,{'x' * 100_001},2024-01-01\n",
            {"text is longer than 100000 characters": 1},
        ),
        (
            "posts",
            "post_id,text,created,known\np1,a,2024-01-02,2024-01-01\n",
            {"known is before created": 1},
        ),
        (
            "follows",
            "follower_id,followee_id\nann,ann\nann,bob\n",
            {"follower and followee are the same person": 1},
        ),
        ("follows", "follower_id,followee_id\nann,\n", {"followee_id is missing": 1}),
    ],
)
def test_other_kinds_reject_their_broken_rows(
    tmp_path: Path, kind: str, content: str, reasons: dict[str, int]
):
    path = tmp_path / f"{kind}.csv"
    path.write_text(content)
    with opened(tmp_path) as workspace:
        dataset = open_dataset(None, {Kind(kind): path})
        file = ingest(workspace, dataset, Reporter(as_json=True)).files[0]
    assert file.reasons == reasons


def test_a_nested_parquet_column_is_refused(tmp_path: Path):
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"user_id": [{"id": 1}]}), path)
    with pytest.raises(InvalidInput, match=r"column user_id .* is struct"):
        open_dataset(None, {Kind.EVENTS: path})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[events", "is not TOML"),
        ("[clicks]\na = 1", "no kind of file"),
        ('[events]\ncolour = "red"', "colour = 'red' is not understood"),
        ('[events]\ntypes = { buy = "purchase" }', "purchase is no event type"),
        ('[events]\ntime_unit = "days"', "time_unit = 'days' is not understood"),
    ],
)
def test_a_broken_mapping_file_says_what_is_wrong(tmp_path: Path, content: str, message: str):
    (tmp_path / "map.toml").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        load_mapping(tmp_path / "map.toml")


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("events.viewer_id", "wants KIND.FIELD=COLUMN"),
        ("clicks.viewer_id=a", "wants KIND.FIELD=COLUMN"),
        ("events.viewer_id=colour", "no column 'colour' for events.viewer_id"),
        ("events.shade=user_id", "events have no field shade"),
    ],
)
def test_a_wrong_column_flag_says_what_is_wrong(tmp_path: Path, pair: str, message: str):
    (tmp_path / "events.csv").write_bytes(HEADER + GOOD)
    with pytest.raises(InvalidInput, match=message):
        open_dataset(None, {Kind.EVENTS: tmp_path / "events.csv"}, load_mapping(None, [pair]))


def test_folders_that_are_not_clear_are_refused(tmp_path: Path):
    with pytest.raises(NotFound, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="none of the four files"):
        open_dataset(tmp_path)
    with pytest.raises(InvalidInput, match="no adapter movielens"):
        open_dataset(tmp_path, adapter="movielens")
    (tmp_path / "events.csv").write_bytes(HEADER + GOOD)
    (tmp_path / "events.jsonl").write_bytes(b"{}\n")
    with pytest.raises(InvalidInput, match=r"has events\.csv and events\.jsonl"):
        open_dataset(tmp_path)
