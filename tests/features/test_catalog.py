"""The catalog: upserts, deletes, order, nulls kept, errors named."""

from pathlib import Path

import pyarrow as pa
import pytest

from contracts.errors import Conflict, InvalidInput, SchemaMismatch
from contracts.ids import Namespace
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path):
    with Workspace.open(tmp_path / "home") as opened:
        yield opened


def make_posts(*rows: object):
    defaults = {
        "author_id": None,
        "text": "words",
        "topics": [],
        "language": None,
        "created": 10,
        "known": 10,
        "deleted": False,
    }
    full = [defaults | row for row in rows]
    columns = {name: [row[name] for row in full] for name in POSTS_SCHEMA.names}
    return pa.table(columns, schema=POSTS_SCHEMA)


def make_people(*rows: object):
    defaults = {"created": None, "language": None, "attributes": None}
    return pa.Table.from_pylist([defaults | row for row in rows], schema=PEOPLE_SCHEMA)


def make_follows(*pairs: tuple[int, int], since: int = 5):
    rows = [{"follower_id": a, "followee_id": b, "since": since} for a, b in pairs]
    return pa.Table.from_pylist(rows, schema=FOLLOWS_SCHEMA)


def make_blocks(*rows: object):
    named = [{"blocker_id": a, "blocked_id": b, "kind": k, "since": 1} for a, b, k in rows]
    return pa.Table.from_pylist(named, schema=BLOCKS_SCHEMA)


def test_posts_round_trip_with_nulls_topics_and_old_dates(workspace: Workspace):
    posts = make_posts(
        {"post_id": 1, "topics": [7, 2**60], "text": "", "author_id": 3, "language": "en"},
        {"post_id": 2, "created": -1_500_000_000_000_000, "topics": []},
    )
    workspace.catalog.upsert_posts(posts)
    assert workspace.catalog.posts().equals(posts)


def test_an_upsert_replaces_and_a_delete_marks(workspace: Workspace):
    catalog = workspace.catalog
    catalog.upsert_posts(make_posts({"post_id": 1}, {"post_id": 2}))
    catalog.upsert_posts(make_posts({"post_id": 2, "text": "edited"}))
    catalog.delete_posts([1, 99], at_us=50)
    assert catalog.posts()["text"].to_pylist() == ["words", "edited"]
    assert catalog.posts()["deleted"].to_pylist() == [True, False]
    assert catalog.posts(include_deleted=False)["post_id"].to_pylist() == [2]
    catalog.upsert_posts(make_posts({"post_id": 1}))
    assert catalog.posts()["deleted"].to_pylist() == [False, False]
    assert catalog.counts() == {"people": 0, "posts": 2, "follows": 0, "blocks": 0}


def test_posts_by_id_keep_the_order_asked_for(workspace: Workspace):
    workspace.catalog.upsert_posts(make_posts(*({"post_id": i} for i in (1, 2, 3))))
    assert workspace.catalog.posts_by_id([3, 77, 1])["post_id"].to_pylist() == [3, 1]
    assert workspace.catalog.posts_by_id([]).schema == POSTS_SCHEMA


def test_people_round_trip(workspace: Workspace):
    people = make_people({"person_id": 1, "attributes": '{"age": 3}'}, {"person_id": 2})
    workspace.catalog.upsert_people(people)
    assert workspace.catalog.people().equals(people)
    assert workspace.catalog.people_by_id([2, 5])["person_id"].to_pylist() == [2]


def test_follows_keep_their_first_time_and_go(workspace: Workspace):
    catalog = workspace.catalog
    catalog.set_follows(make_follows((1, 2), (1, 3)))
    catalog.set_follows(make_follows((1, 2), since=99))
    assert catalog.follows()["since"].cast(pa.int64()).to_pylist() == [5, 5]
    catalog.remove_follows([1, 8], [2, 9])
    assert catalog.follows()["followee_id"].to_pylist() == [3]


def test_blocks_and_mutes_are_two_kinds(workspace: Workspace):
    catalog = workspace.catalog
    catalog.set_blocks(make_blocks((1, 2, "block"), (1, 2, "mute")))
    catalog.remove_blocks([1], [2], "block")
    assert catalog.blocks()["kind"].to_pylist() == ["mute"]
    with pytest.raises(InvalidInput, match="block or mute, got shun"):
        catalog.set_blocks(make_blocks((1, 2, "shun")))


def test_erasing_people_removes_what_is_said_about_them(workspace: Workspace):
    catalog = workspace.catalog
    catalog.upsert_people(make_people({"person_id": 1}, {"person_id": 2}))
    catalog.set_follows(make_follows((1, 2), (2, 1), (3, 4)))
    catalog.set_blocks(make_blocks((2, 1, "block"), (3, 2, "mute")))
    catalog.erase_people([1])
    assert catalog.people()["person_id"].to_pylist() == [2]
    assert catalog.follows()["follower_id"].to_pylist() == [3]
    assert catalog.blocks()["blocker_id"].to_pylist() == [3]


def test_topics_come_from_the_id_table(workspace: Workspace):
    ids = workspace.ids.intern(Namespace.TOPIC, ["jazz", "tea"])
    found, names = workspace.catalog.topics()
    assert (found.tolist(), names) == (ids.tolist(), ["jazz", "tea"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (make_posts({"post_id": 1}).drop_columns(["text"]), "lacks the columns text"),
        (pa.table({n: ["x"] for n in POSTS_SCHEMA.names}), "do not fit"),
        (
            make_posts({"post_id": 1}).set_column(2, "text", pa.nulls(1, pa.string())),
            "do not fit: .*'text' with null",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(workspace: Workspace, table: pa.Table, message: str):
    with pytest.raises(SchemaMismatch, match=message):
        workspace.catalog.upsert_posts(table)
    assert workspace.catalog.posts().num_rows == 0


def test_a_reader_cannot_write(tmp_path: Path):
    Workspace.open(tmp_path).close()
    with (
        Workspace.open(tmp_path, read_only=True) as reader,
        pytest.raises(Conflict, match="opened for reading"),
    ):
        reader.catalog.delete_posts([1], 0)
