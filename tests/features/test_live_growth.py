"""The cache while it grows, shrinks and restarts: nobody waits for a copy, nothing is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import DAY_US, HOUR_US
from contracts.events import EVENT_SCHEMA, UTC_US, EventType
from contracts.tables import POSTS_SCHEMA
from features import checkpoint
from features.caches import FeatureCache
from features.event_arrays import EventArrays
from features.frames import FeatureFrames, event_arrays, replay, without_erased
from features.graph import EdgeChanges, EdgeKind, Graph
from features.materialize import materialize
from features.recent_posts import PER_AUTHOR
from features.state import FeatureState
from features.workspace import Workspace

E = EventType
T0 = 1_700_000_000_000_000
MakeWorld = Callable[..., FeatureFrames]
Fill = Callable[[Path, FeatureFrames], Workspace]


def append(workspace: Workspace, events: pa.Table) -> None:
    workspace.write(events.select(EVENT_SCHEMA.names))


def test_a_slot_is_never_ahead_of_its_row(
    tmp_path: Path,
    world: MakeWorld,
    filled: Fill,
    log_of: Callable[..., pa.Table],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strangers and their posts come one by one; when a slot is seen, every table has its row."""
    add, seen = FeatureState.ensure_people, []
    with filled(tmp_path, world(3)) as workspace:
        cache = FeatureCache.load(workspace)

        def watched(state: FeatureState, ids: np.ndarray) -> None:
            tables = (state.histories.actions.posts, state.graph.followers)
            before = [id(table) for table in (*tables, state.people.as_viewer.values)]
            add(state, ids)
            tables = (state.histories.actions.posts, state.graph.followers)
            seen.append([id(t) for t in (*tables, state.people.as_viewer.values)] == before)
            assert all(len(t) >= len(state.people) for t in tables)

        monkeypatch.setattr(FeatureState, "ensure_people", watched)
        for number in range(60):
            at = T0 + 30 * DAY_US + number
            row = (E.LIKE, 5000 + number, 13, None, at, at)
            append(workspace, log_of([row], first_seq=workspace.log.last_seq + 1))
            cache.apply(workspace.log.tail(cache.applied_seq), workspace)
        assert len(seen) == 120
        assert all(seen)  # no table was copied under the lock
        assert cache.histories.version(cache.viewer_slot(5059)) == 1


def test_an_undo_without_its_action_is_no_negative_reception(
    tmp_path: Path, world: MakeWorld, filled: Fill, log_of: Callable[..., pa.Table]
) -> None:
    with filled(tmp_path, world(3, events=0)) as workspace:
        cache = FeatureCache.load(workspace)
        rows = [(E.UNLIKE, person, 13, None, T0 + DAY_US, T0 + DAY_US) for person in (1, 2, 3)]
        append(workspace, log_of(rows))
        cache.apply(workspace.log.tail(0), workspace)
        impressions, positives = cache.reception(cache.posts.slots_of(np.array([13, 14])))
        assert impressions.tolist() == positives.tolist() == [0.0, 0.0]


def test_an_edit_does_not_make_a_post_younger(
    tmp_path: Path, world: MakeWorld, filled: Fill
) -> None:
    """Training sees the post from its first day on, as serving did."""
    with filled(tmp_path, world(3)) as workspace:
        before = workspace.catalog.posts_by_id([13])
        late = pa.array([int(before["known"].cast(pa.int64())[0].as_py()) + 30 * DAY_US])
        place = POSTS_SCHEMA.get_field_index("known")
        edit = before.set_column(place, POSTS_SCHEMA.field("known"), late.cast(UTC_US))
        place = POSTS_SCHEMA.get_field_index("text")
        edit = edit.set_column(place, POSTS_SCHEMA.field("text"), pa.array(["other words"]))
        for restore in (True, False):
            workspace.catalog.upsert_posts(edit, restore=restore)
            after = workspace.catalog.posts_by_id([13])
            assert after["text"].to_pylist() == ["other words"]
            assert after["known"] == before["known"]


def test_deletes_bring_older_posts_back(
    tmp_path: Path,
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
    log_of: Callable[..., pa.Table],
    filled: Fill,
) -> None:
    n = PER_AUTHOR + 10
    ids = list(range(100, 100 + n))
    frames = FeatureFrames(
        log_of([]),
        posts_of(ids, [1] * n, [[]] * n, [T0 + k * HOUR_US for k in range(n)]),
        people_of([1, 2]),
    )
    with filled(tmp_path, frames) as workspace:
        cache = FeatureCache.load(workspace)
        gone = ids[10:]
        at = T0 + 90 * DAY_US
        rows = [(E.POST_DELETED, 1, post, None, at, at) for post in gone]
        workspace.write(log_of(rows).select(EVENT_SCHEMA.names), deleted_posts=gone)
        cache.apply(workspace.log.tail(0), workspace)
        for one in (cache, FeatureCache.load(workspace)):
            slots = one.recent_by_authors(np.array([one.viewer_slot(1)], np.int32))
            assert one.posts.post_id[slots].tolist() == ids[9::-1]


def test_whom_an_erasure_touches_is_found_in_one_look() -> None:
    rng = np.random.default_rng(2)
    pairs = np.unique(rng.integers(0, 30, (400, 2)), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    graph, people = Graph(30), np.arange(30)
    parts = [
        EdgeChanges.since(pairs[k::3, 0], pairs[k::3, 1], kind, np.zeros(len(pairs[k::3]), int))
        for k, kind in enumerate(EdgeKind)
    ]
    graph.fill(EdgeChanges.in_order(parts))
    graph.forget(7)
    for k, held in enumerate((graph.followees, graph.blocked, graph.muted)):
        left = {(a, b) for a, b in pairs[k::3].tolist() if 7 not in (a, b)}
        assert {(int(a), int(b)) for a in people for b in held(int(a))} == left
    assert graph.followers[7] == graph.follows[7] == 0
    assert not len(graph.blocked_by(7))


def test_people_are_blank_before_their_last_erasure(world: MakeWorld) -> None:
    """As one look after the other finds it; who comes back is blank up to the last one only."""
    frames = world(5, events=300)
    events = event_arrays(frames, replay(frames))
    rng = np.random.default_rng(1)
    types = events.types.copy()
    places = np.sort(rng.choice(len(events), 40, replace=False))
    types[places] = E.PERSON_ERASED
    erasing = EventArrays(
        **{name: getattr(events, name) for name in events.__slots__ if name != "types"}, types=types
    )
    viewers, targets = erasing.viewers.copy(), erasing.targets.copy()
    for at in places.tolist():
        for people in (viewers, targets):
            people[:at][people[:at] == erasing.viewers[at]] = -1
    found = without_erased(erasing)
    assert found.viewers.tolist() == viewers.tolist()
    assert found.targets.tolist() == targets.tolist()


@pytest.mark.parametrize("damage", ["empty", "gone", "cut"])
@pytest.mark.parametrize("part", ["posts", "people", "seen", "catalog-posts"])
def test_a_damaged_checkpoint_is_replayed(
    tmp_path: Path, world: MakeWorld, filled: Fill, part: str, damage: str
) -> None:
    with filled(tmp_path, world(3)) as workspace:
        materialize(workspace)
        whole = FeatureCache.load(workspace)
        (folder,) = (tmp_path / "features").glob("checkpoint-*/")
        path = folder / f"{part}.parquet"
        if damage == "gone":
            path.unlink()
        else:
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"")
        again = FeatureCache.load(workspace)
        assert again.applied_seq == whole.applied_seq
        people = whole.people.person_id
        assert again.people.slots_of(people).min() >= 0
        slots, there = whole.people.slots_of(people), again.people.slots_of(people)
        assert (whole.histories.versions[slots] == again.histories.versions[there]).all()


def test_a_reader_goes_on_with_the_checkpoint_that_came_meanwhile(
    tmp_path: Path, world: MakeWorld, filled: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path, world(3)) as workspace:
        materialize(workspace)
        pointer = (tmp_path / "features" / "checkpoint.json").read_text()
        (folder,) = (tmp_path / "features").glob("checkpoint-*/")
        old = folder.with_name("checkpoint-old")
        (tmp_path / "features" / "checkpoint.json").write_text(
            pointer.replace(folder.name, old.name)
        )
        shutil.copytree(folder, old)
        (old / "seen.parquet").unlink()
        read = checkpoint._read

        def replaced(*args: object) -> object:
            (tmp_path / "features" / "checkpoint.json").write_text(pointer)
            return read(*args)

        monkeypatch.setattr(checkpoint, "_read", replaced)
        held = checkpoint.read_checkpoint(workspace)
        assert held is not None
        assert held.seq == workspace.log.last_seq
