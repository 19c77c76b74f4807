"""The workspace: one transaction a write, one writer, layout version, settings of the data."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.errors import Conflict, InvalidInput, NotFound
from contracts.events import EVENT_SCHEMA, EventType
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path):
    with Workspace.open(tmp_path / "home") as opened:
        yield opened


def make_event(event_id: int, kind: EventType, at: int = 100, **more: object):
    row = dict.fromkeys(EVENT_SCHEMA.names) | {
        "event_id": event_id,
        "type": int(kind),
        "viewer_id": 1,
        "event_time": at,
        "known_time": at,
        "known_assumed": True,
    }
    return pa.Table.from_pylist([row | more], schema=EVENT_SCHEMA)


def make_post(post_id: int, text: str = "words"):
    row = {"post_id": post_id, "text": text, "topics": [], "created": 1, "known": 1}
    return pa.Table.from_pylist([row | {"deleted": False}], schema=POSTS_SCHEMA)


def test_a_write_changes_entities_and_log_together(workspace: Workspace):
    event = make_event(1, EventType.POST_CREATED, post_id=5)
    assert workspace.write(event, posts=make_post(5)) == (1, 0, 1)
    assert workspace.catalog.posts_by_id([5])["text"].to_pylist() == ["words"]
    workspace.write(make_event(2, EventType.POST_DELETED, post_id=5), deleted_posts=[5])
    assert workspace.catalog.posts(include_deleted=False).num_rows == 0
    assert workspace.log.tail(0)["type"].to_pylist() == [23, 25]
    assert workspace.write(None, posts=make_post(6)) == (0, 0, 2)


def test_a_write_that_fails_leaves_nothing(workspace: Workspace):
    with pytest.raises(InvalidInput, match="event type"):
        workspace.write(make_event(1, 99), posts=make_post(5))
    assert workspace.catalog.posts().num_rows == 0
    assert workspace.write(make_event(1, EventType.POST_CREATED, post_id=5)).last_seq == 1


def test_a_part_that_failed_is_not_forgotten(workspace: Workspace):
    def load() -> None:
        with workspace.atomic():
            workspace.write(None, posts=make_post(5))
            with suppress(InvalidInput):
                workspace.write(make_event(1, 99), posts=make_post(6))

    with pytest.raises(Conflict, match="nothing of it was written"):
        load()
    assert workspace.catalog.posts().num_rows == 0
    workspace.write(None, posts=make_post(7))
    assert workspace.catalog.posts()["post_id"].to_pylist() == [7]


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41", "a b"])
def test_the_data_lie_in_the_home_whatever_its_name(tmp_path: Path, name: str):
    for home in (tmp_path / name, tmp_path / f"{name}2"):
        with Workspace.open(home) as workspace:
            workspace.write(None, posts=make_post(len(home.name)))
            (post,) = workspace.catalog.posts()["post_id"].to_pylist()
            assert post == len(home.name)
        with Workspace.open(home, read_only=True) as reader:
            assert reader.catalog.posts().num_rows == 1
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}2"}


def test_graph_changes_go_with_their_events(workspace: Workspace):
    follow = {"follower_id": [1], "followee_id": [2], "since": [3]}
    block = {"blocker_id": [1], "blocked_id": [3], "kind": ["mute"], "since": [3]}
    workspace.write(
        make_event(1, EventType.FOLLOW, target_id=2),
        follows_added=pa.table(follow, schema=FOLLOWS_SCHEMA),
        blocks_added=pa.table(block, schema=BLOCKS_SCHEMA),
        people=pa.Table.from_pylist([{"person_id": 9}], schema=PEOPLE_SCHEMA),
    )
    assert workspace.catalog.counts() == {"people": 1, "posts": 0, "follows": 1, "blocks": 1}
    workspace.write(
        make_event(2, EventType.UNFOLLOW, target_id=2),
        follows_removed=pa.table({"follower_id": [1], "followee_id": [2]}),
        blocks_removed=pa.table({"blocker_id": [1], "blocked_id": [3], "kind": ["mute"]}),
        erased_people=[9],
    )
    assert workspace.catalog.counts() == {"people": 0, "posts": 0, "follows": 0, "blocks": 0}


def test_settings_of_the_data_are_kept(tmp_path: Path):
    with Workspace.open(tmp_path) as workspace:
        assert workspace.meta_get("dataset") is None
        workspace.meta_set("dataset", '{"name": "a"}')
        workspace.meta_set("dataset", '{"name": "b"}')
    with Workspace.open(tmp_path, read_only=True) as reader:
        assert reader.meta_get("dataset") == '{"name": "b"}'


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from features.workspace import Workspace\n"
        "Workspace.open(Path(sys.argv[1]))"
    )
    with Workspace.open(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        with pytest.raises(Conflict, match=r"process \d+ is writing to .*--home"):
            Workspace.open(tmp_path)
    assert "Conflict" in done.stderr
    with Workspace.open(tmp_path) as again:
        assert again.log.last_seq == 0


def test_a_folder_without_data_cannot_be_read(tmp_path: Path):
    with pytest.raises(NotFound, match=r"no data in .*`headwater ingest` first"):
        Workspace.open(tmp_path, read_only=True)


@pytest.mark.parametrize(
    ("content", "message"), [('{"layout": 99}', "has layout 99"), ("{", "is damaged")]
)
def test_another_layout_is_refused_and_the_lock_given_back(
    tmp_path: Path, content: str, message: str
):
    Workspace.open(tmp_path).close()
    layout = tmp_path / "layout.json"
    right = json.loads(layout.read_text())
    layout.write_text(content)
    for _ in range(2):
        with pytest.raises(Conflict, match=message):
            Workspace.open(tmp_path)
    with pytest.raises(Conflict, match=message):
        Workspace.open(tmp_path, read_only=True)
    layout.write_text(json.dumps(right))
    Workspace.open(tmp_path).close()
