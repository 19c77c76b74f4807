"""Snapshots and checkpoint: what is stored is what was known, and loads as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import DAY_US, HOUR_US
from contracts.events import EventType
from features.caches import FeatureCache
from features.checkpoint import read_checkpoint
from features.event_arrays import int_column, visible_from
from features.frames import FeatureFrames, replay
from features.materialize import materialize, read_snapshots, snapshot_schema
from features.views import AUTHOR_VIEW, PERSON_VIEW, POST_VIEW, VIEWS
from features.workspace import Workspace

MakeWorld = Callable[..., FeatureFrames]
Fill = Callable[[Path, FeatureFrames], Workspace]


def test_a_snapshot_is_the_state_that_was_known_then(
    tmp_path: Path, world: MakeWorld, filled: Fill
) -> None:
    frames = world(11)
    with filled(tmp_path, frames) as workspace:
        materialize(workspace, cadence_us=DAY_US)
        snapshots = read_snapshots(tmp_path, POST_VIEW)
    moments = np.unique(int_column(snapshots, "event_timestamp"))
    visible = visible_from(
        int_column(frames.events, "event_time"), int_column(frames.events, "known_time")
    )
    for now in moments[[1, len(moments) // 2, -1]].tolist():
        known = FeatureFrames(
            frames.events.filter(pa.array(visible <= now)), frames.posts, frames.people
        )
        state = replay(known)
        rows = snapshots.filter(pa.array(int_column(snapshots, "event_timestamp") == now))
        slots = state.posts.slots_of(int_column(rows, "post_id"))
        stored = np.column_stack([rows.column(c).to_numpy() for c in POST_VIEW.columns])
        expected = np.column_stack(
            [state.posts.counters.exact(slots, now), state.posts.window.read(slots, now)]
        )
        assert stored == pytest.approx(expected, abs=1e-9)


def test_each_change_is_in_the_snapshot_that_ends_its_period(
    tmp_path: Path,
    t0: int,
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
    filled: Fill,
) -> None:
    day = DAY_US - t0 % DAY_US + t0  # the first midnight
    frames = FeatureFrames(
        log_of(
            [
                (EventType.LIKE, 1, 11, None, day - 5, day - 5),
                (EventType.LIKE, 1, 11, None, day - 4, day + 1),  # known after midnight
                (EventType.FOLLOW, 1, None, 2, day + DAY_US, day + DAY_US),
            ]
        ),
        posts_of([11, 12], [2, 2], [[], []], [t0, t0]),
        people_of([1, 2]),
    )
    with filled(tmp_path, frames) as workspace:
        done = materialize(workspace)
    assert done.rows == {"post_state": 3, "author_state": 3, "person_state": 3}
    assert done.end_us == day + DAY_US + 1
    likes = read_snapshots(tmp_path, POST_VIEW).to_pydict()
    assert likes["post_id"] == [11, 12, 11], "a new post has a row before anything happens to it"
    assert likes["like_all"] == [1.0, 0.0, 2.0]
    assert [int(t.timestamp()) for t in likes["event_timestamp"]] == [
        day // 10**6, day // 10**6, (day + DAY_US) // 10**6,
    ]  # fmt: skip
    followers = read_snapshots(tmp_path, AUTHOR_VIEW).column("followers").to_pylist()
    follows = read_snapshots(tmp_path, PERSON_VIEW).column("follows").to_pylist()
    assert followers == follows == [0.0, 0.0, 1.0]


def test_materialising_twice_writes_the_same(
    tmp_path: Path, world: MakeWorld, filled: Fill
) -> None:
    with filled(tmp_path, world(12)) as workspace:
        first = materialize(workspace, cadence_us=12 * HOUR_US)
        tables = [read_snapshots(tmp_path, view) for view in VIEWS]
        second = materialize(workspace, cadence_us=12 * HOUR_US)
        again = [read_snapshots(tmp_path, view) for view in VIEWS]
    assert first[:4] == second[:4]
    assert all(one.equals(two) for one, two in zip(tables, again, strict=True))
    assert [t.num_rows for t in tables] == [first.rows[v.name] for v in VIEWS]
    assert len(list((tmp_path / "features").glob("checkpoint-*"))) == 1


def test_the_checkpoint_is_skipped_where_it_does_not_fit(
    tmp_path: Path, world: MakeWorld, filled: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(tmp_path, world(13)) as workspace:
        assert read_checkpoint(workspace) is None
        done = materialize(workspace)
        held = read_checkpoint(workspace)
        assert held is not None
        assert held.seq == done.seq
        assert read_checkpoint(workspace, up_to_seq=done.seq - 1) is None
        monkeypatch.setattr("features.checkpoint.FEATURE_HASH", "of other code")
        assert read_checkpoint(workspace) is None
        assert FeatureCache.load(workspace).applied_seq == done.seq


def test_posts_ingested_after_the_checkpoint_count_for_their_authors(
    tmp_path: Path, t0: int, world: MakeWorld, filled: Fill, posts_of: Callable[..., pa.Table]
) -> None:
    """A bulk ingest of posts leaves no event; the catalog tells of them."""
    with filled(tmp_path, world(14)) as workspace:
        materialize(workspace)
        workspace.write(None, posts=posts_of([900, 901], [3, 3], [[], []], [t0 + 1, t0 + 2]))
        workspace.note_bulk_load()
        cache = FeatureCache.load(workspace)
        fresh = replay(FeatureFrames.read(workspace))
    now = t0 + 12 * DAY_US
    for person in range(1, 13):
        one = cache.people.as_author.exact(cache.people.slots_of(np.array([person])), now)
        two = fresh.people.as_author.exact(fresh.people.slots_of(np.array([person])), now)
        assert one == pytest.approx(two, abs=1e-9)


def test_nothing_materialised_reads_as_empty(tmp_path: Path) -> None:
    for view in VIEWS:
        table = read_snapshots(tmp_path, view)
        assert table.num_rows == 0
        assert table.schema == snapshot_schema(view)
