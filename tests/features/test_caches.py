"""The live cache: patched equals reloaded, and what sources and filters ask of it."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.clock import DAY_US, HOUR_US
from contracts.events import EVENT_SCHEMA, UTC_US, EventType
from contracts.policy import FAMILIES
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA
from features.caches import FeatureCache
from features.event_arrays import EventArrays, int_column
from features.frames import FeatureFrames, replay
from features.graph import EdgeChanges, Graph
from features.materialize import materialize
from features.workspace import Workspace

E = EventType
ANN, BOB, CAT = 1, 2, 3
T0 = 1_700_000_000_000_000


def assert_equal_caches(one: FeatureCache, other: FeatureCache, now: int) -> None:
    """Compare everything that serving reads, by id, so that slots may differ."""
    posts, people = np.sort(one.posts.post_id), np.sort(one.people.person_id)
    assert posts.tolist() == np.sort(other.posts.post_id).tolist()
    assert people.tolist() == np.sort(other.people.person_id).tolist()
    rng = np.random.default_rng(0)
    scores = rng.random((len(posts), len(FAMILIES)), dtype=np.float32)
    for person in people.tolist():
        left, right = (
            c.feature_matrix(person, c.posts.slots_of(posts), now, scores) for c in (one, other)
        )
        assert left == pytest.approx(right, rel=1e-5, abs=1e-6, nan_ok=True)
        for part in (history_of, seen_of, edges_of):
            assert part(one, person) == part(other, person)
        assert version_of(one, person) == version_of(other, person)
    assert posts_by_velocity(one, now) == posts_by_velocity(other, now)
    assert (
        one.posts.post_id[one.newest(9)].tolist() == other.posts.post_id[other.newest(9)].tolist()
    )
    assert one.applied_seq == other.applied_seq


def version_of(cache: FeatureCache, person: int) -> int:
    return cache.histories.version(cache.viewer_slot(person))


def history_of(cache: FeatureCache, person: int):
    history = cache.histories.get(np.array([cache.viewer_slot(person)]))
    held = history.post_slots[0] >= 0
    posts = cache.posts.post_id[history.post_slots[0][held]]
    return posts.tolist(), history.types[0][held].tolist(), history.times_us[0][held].tolist()


def seen_of(cache: FeatureCache, person: int):
    slots, _ = cache.histories.seen_posts(cache.viewer_slot(person))
    return sorted(set(cache.posts.post_id[slots].tolist()))


def edges_of(cache: FeatureCache, person: int):
    viewer, graph = cache.viewer_slot(person), cache.graph
    blocks = np.concatenate([graph.blocked(viewer), graph.blocked_by(viewer)])
    parts = (graph.followees(viewer), blocks, graph.muted(viewer))
    return [sorted(cache.people.person_id[part].tolist()) for part in parts]


def posts_by_velocity(cache: FeatureCache, now: int):
    return cache.posts.post_id[cache.trending(now, 10)].tolist()


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(0, 400))
def test_patched_equals_reloaded(
    world: Callable[..., FeatureFrames],
    filled: Callable[[Path, FeatureFrames], Workspace],
    seed: int,
    size: int,
    materialized_events: int,
) -> None:
    """In any batch size, from a checkpoint anywhere in the log, and from none.

    A late event also arrives late: the log's order is that in which events became known.
    """
    frames = world(seed, events=200)
    known = frames.events.sort_by([("known_time", "ascending"), ("seq", "ascending")])
    before = pa.array([T0] * frames.follows.num_rows).cast(UTC_US)  # the catalog is of now
    follows = frames.follows.set_column(2, FOLLOWS_SCHEMA.field("since"), before)
    first = known.slice(0, materialized_events)
    with TemporaryDirectory() as home:
        start = FeatureFrames(first, frames.posts, frames.people, follows)
        with filled(Path(home), start) as workspace:
            live = FeatureCache.load(workspace)
            materialize(workspace)
            workspace.log.append(known.slice(materialized_events).select(EVENT_SCHEMA.names))
            while (tail := workspace.log.tail(live.applied_seq, size)).num_rows:
                live.apply(tail, workspace)
            now = int(int_column(frames.events, "event_time").max()) + HOUR_US
            assert_equal_caches(live, FeatureCache.load(workspace), now)
            replayed = FeatureCache(
                replay(FeatureFrames.read(workspace)), applied_seq=live.applied_seq
            )
            assert_equal_caches(live, replayed, now)


@pytest.fixture
def site(
    tmp_path: Path,
    t0: int,
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
    filled: Callable[[Path, FeatureFrames], Workspace],
):
    """Bob wrote 11 and 12, Cat 13, a day ago; nothing has happened."""
    frames = FeatureFrames(
        log_of([]),
        posts_of([11, 12, 13], [BOB, BOB, CAT], [[5], [6], [5]], [t0, t0 + 5, t0 + 3]),
        people_of([ANN, BOB, CAT]),
    )
    with filled(tmp_path, frames) as workspace:
        cache = FeatureCache.load(workspace)

        def happen(*rows: tuple[object, ...], **changes: object) -> None:
            events = log_of(list(rows), first_seq=workspace.log.last_seq + 1)
            workspace.write(events.select(EVENT_SCHEMA.names), **changes)
            cache.apply(workspace.log.tail(cache.applied_seq), workspace)

        yield SimpleNamespace(workspace=workspace, cache=cache, happen=happen, now=t0 + DAY_US)


def test_the_next_request_knows_the_last_like(site: SimpleNamespace) -> None:
    version = site.cache.version
    site.happen((E.LIKE, ANN, 11, None, site.now, site.now))
    assert history_of(site.cache, ANN) == ([11], [E.LIKE], [site.now])
    assert version_of(site.cache, ANN) == 1
    assert site.cache.version == version + 1
    assert seen_of(site.cache, ANN) == [11]
    site.happen((E.UNLIKE, ANN, 11, None, site.now + 1, site.now + 1))
    assert history_of(site.cache, ANN) == ([], [], [])
    assert version_of(site.cache, ANN) == 2


def test_a_new_post_by_a_new_person_is_there_at_once(
    site: SimpleNamespace, posts_of: Callable[..., pa.Table]
) -> None:
    site.happen(
        (E.POST_CREATED, 77, 21, None, site.now, site.now),
        posts=posts_of([21], [77], [[6]], [site.now]),
    )
    slot = int(site.cache.posts.slots_of(np.array([21]))[0])
    author = np.array([site.cache.viewer_slot(77)], np.int32)
    assert site.cache.newest(1).tolist() == [slot]
    assert site.cache.recent_by_authors(author).tolist() == [slot]
    assert slot in site.cache.trending(site.now + 1, 10)
    assert site.cache.posts.author_ids(np.array([slot])).tolist() == [77]


def test_an_edited_post_changes_and_stays_one(
    site: SimpleNamespace, posts_of: Callable[..., pa.Table]
) -> None:
    edited = posts_of([11], [BOB], [[6, 7]], [site.now - DAY_US], ["is it edited?"])
    site.happen((E.POST_EDITED, BOB, 11, None, site.now, site.now), posts=edited)
    slot = int(site.cache.posts.slots_of(np.array([11]))[0])
    assert (site.cache.posts.topics[slot] >= 0).sum() == 2
    assert site.cache.posts.rows(np.array([slot]))["text_stats"][0, 3] == 1.0
    assert len(site.cache.newest(10)) == 3


def test_a_deleted_post_leaves_every_list(site: SimpleNamespace) -> None:
    site.happen((E.POST_DELETED, BOB, 12, None, site.now, site.now), deleted_posts=[12])
    slot = site.cache.posts.slots_of(np.array([12]))[0]
    bob = np.array([site.cache.viewer_slot(BOB)], np.int32)
    assert site.cache.posts.deleted[slot]
    assert slot not in site.cache.newest(10)
    assert slot not in site.cache.trending(site.now, 10)
    assert slot not in site.cache.recent_by_authors(bob)


def test_follow_block_mute_and_their_undoing(site: SimpleNamespace) -> None:
    now = site.now
    site.happen(
        (E.FOLLOW, ANN, None, BOB, now, now), (E.BLOCK, CAT, None, ANN, now, now),
        (E.MUTE, ANN, None, BOB, now, now),
    )  # fmt: skip
    assert edges_of(site.cache, ANN) == [[BOB], [CAT], [BOB]]
    assert edges_of(site.cache, CAT) == [[], [ANN], []]
    bob = site.cache.viewer_slot(BOB)
    assert site.cache.graph.followers[bob] == 1
    site.happen(
        (E.UNFOLLOW, ANN, None, BOB, now + 1, now + 1),
        (E.UNBLOCK, CAT, None, ANN, now + 1, now + 1),
    )
    assert edges_of(site.cache, ANN) == [[], [], [BOB]]
    assert site.cache.graph.followers[bob] == 0


def test_blocks_of_the_catalog_are_loaded(site: SimpleNamespace) -> None:
    rows = pa.table(
        {"blocker_id": [ANN, ANN], "blocked_id": [BOB, CAT], "kind": ["block", "mute"],
         "since": pa.array([1, 1]).cast(UTC_US)}, schema=BLOCKS_SCHEMA,
    )  # fmt: skip
    site.workspace.catalog.set_blocks(rows)
    assert edges_of(FeatureCache.load(site.workspace), ANN) == [[], [BOB], [CAT]]


def test_a_block_that_stands_outlives_a_clock_that_went_back(site: SimpleNamespace) -> None:
    def pair(since: int) -> pa.Table:
        row = {"blocker_id": ANN, "blocked_id": BOB, "kind": "block", "since": since}
        return pa.Table.from_pylist([row], schema=pa.schema([
            *list(BLOCKS_SCHEMA)[:3], pa.field("since", pa.int64())
        ])).cast(BLOCKS_SCHEMA)  # fmt: skip

    now = site.now
    first, gone, again = now + 1000, now + 5_000_000, now + 3_000_000
    site.happen((E.BLOCK, ANN, None, BOB, first, first), blocks_added=pair(first))
    removed = pair(first).drop_columns(["since"])
    site.happen((E.UNBLOCK, ANN, None, BOB, gone, gone), blocks_removed=removed)
    site.happen((E.BLOCK, ANN, None, BOB, again, again), blocks_added=pair(again))
    assert edges_of(site.cache, ANN) == [[], [BOB], []]
    assert edges_of(FeatureCache.load(site.workspace), ANN) == [[], [BOB], []]
    materialize(site.workspace)
    assert edges_of(FeatureCache.load(site.workspace), ANN) == [[], [BOB], []]


def test_what_comes_after_an_erasure_stays(site: SimpleNamespace) -> None:
    now = site.now
    site.happen(
        (E.PERSON_ERASED, CAT, None, None, now, now), (E.BLOCK, ANN, None, CAT, now + 1, now + 1),
        (E.LIKE, CAT, 11, None, now + 2, now + 2),
    )  # fmt: skip
    for cache in (site.cache, FeatureCache.load(site.workspace)):
        assert edges_of(cache, ANN) == [[], [CAT], []]
        assert history_of(cache, CAT)[0] == [11]
    assert site.cache.people.language[site.cache.viewer_slot(CAT)] == -1


def test_a_post_that_was_deleted_and_came_back_is_there(
    site: SimpleNamespace, log_of: Callable[..., pa.Table], posts_of: Callable[..., pa.Table]
) -> None:
    back = posts_of([12], [BOB], [[6]], [site.now])
    steps = ((E.POST_DELETED, {"deleted_posts": [12]}), (E.POST_EDITED, {"posts": back}))
    for kind, changes in steps:
        row = (kind, BOB, 12, None, site.now, site.now)
        events = log_of([row], first_seq=site.workspace.log.last_seq + 1)
        site.workspace.write(events.select(EVENT_SCHEMA.names), **changes)
    site.cache.apply(site.workspace.log.tail(site.cache.applied_seq), site.workspace)
    slot = site.cache.posts.slots_of(np.array([12]))[0]
    assert not site.cache.posts.deleted[slot]
    assert slot in site.cache.newest(10)


def test_an_erased_person_leaves_nothing_behind(site: SimpleNamespace) -> None:
    now = site.now
    site.happen(
        (E.LIKE, ANN, 11, None, now, now), (E.FOLLOW, ANN, None, BOB, now, now),
        (E.FOLLOW, BOB, None, ANN, now, now), (E.BLOCK, CAT, None, ANN, now, now),
    )  # fmt: skip
    site.happen((E.PERSON_ERASED, ANN, None, None, now + 1, now + 1), erased_people=[ANN])
    for cache in (site.cache, FeatureCache.load(site.workspace)):
        assert history_of(cache, ANN) == ([], [], [])
        assert edges_of(cache, ANN) == edges_of(cache, BOB) == edges_of(cache, CAT) == [[], [], []]
        assert cache.graph.followers[cache.viewer_slot(BOB)] == 0
        slots = cache.posts.slots_of(np.array([11]))
        row = cache.feature_matrix(ANN, slots, now + 2, np.zeros((1, len(FAMILIES)), np.float32))[0]
        assert row[24] == 0.0  # viewer_like_7d
        assert row[3] > 0.6  # what the post met stays


def test_what_was_seen_is_kept_with_how_it_was_seen(site: SimpleNamespace) -> None:
    now = site.now
    site.happen(
        (E.IMPRESSION, ANN, 11, None, now, now), (E.IMPRESSION, ANN, 12, None, now, now),
        (E.IMPRESSION, ANN, 12, None, now + 1, now + 1), (E.VIEW, ANN, 13, None, now, now),
    )  # fmt: skip
    slots = site.cache.posts.slots_of(np.array([11, 12, 13]))
    histories, viewer = site.cache.histories, site.cache.viewer_slot
    seen, types = histories.seen_posts(viewer(ANN))
    assert seen.tolist() == [*slots.tolist(), slots[1]]
    assert types.tolist() == [E.IMPRESSION, E.IMPRESSION, E.VIEW, E.IMPRESSION]
    for nobody in (BOB, 12345):
        assert len(histories.seen_posts(viewer(nobody))[0]) == 0
    assert site.cache.reception(slots)[0].tolist() == [1.0, 2.0, 0.0]


def test_trends_keep_their_order_long_after(site: SimpleNamespace) -> None:
    now = site.now
    site.happen(
        (E.LIKE, ANN, 11, None, now, now), (E.LIKE, CAT, 11, None, now, now),
        (E.LIKE, ANN, 13, None, now, now),
    )  # fmt: skip
    for later in (now, now + 9000 * DAY_US):
        assert posts_by_velocity(site.cache, later) == [11, 13, 12]
    assert site.cache.trending(now, 1).shape == (1,)
    assert site.cache.trending(now, 0).shape == (0,)


def test_events_of_unknown_posts_and_people_do_no_harm(site: SimpleNamespace) -> None:
    site.happen((E.LIKE, 555, 9999, None, site.now, site.now))
    assert site.cache.viewer_slot(555) >= 0
    assert history_of(site.cache, 555) == ([], [], [])
    assert site.cache.applied_seq == 1
    site.cache.apply(site.workspace.log.tail(1), site.workspace)
    assert site.cache.applied_seq == 1


def test_an_empty_workspace_loads(
    tmp_path: Path,
    filled: Callable[[Path, FeatureFrames], Workspace],
    log_of: Callable[..., pa.Table],
    posts_of: Callable[..., pa.Table],
    people_of: Callable[..., pa.Table],
) -> None:
    frames = FeatureFrames(log_of([]), posts_of([], [], [], []), people_of([]))
    with filled(tmp_path, frames) as workspace:
        cache = FeatureCache.load(workspace)
        assert len(cache.posts) == 0
        assert cache.trending(1, 5).shape == cache.newest(5).shape == (0,)
        slots, scores = np.full(2, -1), np.zeros((2, len(FAMILIES)), np.float32)
        assert np.isnan(cache.feature_matrix(1, slots, 5, scores)).all()
        assert materialize(workspace).snapshots == 0
        assert len(FeatureCache.load(workspace).people) == 0


def test_loading_up_to_a_place_in_the_log(
    world: Callable[..., FeatureFrames],
    filled: Callable[[Path, FeatureFrames], Workspace],
    tmp_path: Path,
) -> None:
    with filled(tmp_path, world(4)) as workspace:
        materialize(workspace)
        part = FeatureCache.load(workspace, up_to_seq=100)
        expected = replay(FeatureFrames.read(workspace, up_to_seq=100))
        now = 1_701_500_000_000_000
        assert part.applied_seq == 100
        assert_equal_caches(part, FeatureCache(expected, applied_seq=100), now)


edge = st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from(list("FUBNMV")))


@given(st.lists(edge, max_size=40), st.integers(1, 40))
def test_the_graph_follows_sets(changes: list[tuple[int, int, str]], size: int) -> None:
    kinds = {
        "F": E.FOLLOW,
        "U": E.UNFOLLOW,
        "B": E.BLOCK,
        "N": E.UNBLOCK,
        "M": E.MUTE,
        "V": E.UNMUTE,
    }
    types = np.array([kinds[k] for _, _, k in changes], np.int8)
    ends = np.array([(a, b) for a, b, _ in changes], np.int64).reshape(-1, 2)
    times = np.arange(len(changes))
    events = EventArrays(types, ends[:, 0], np.full(len(changes), -1), ends[:, 1], times, times)
    graph = Graph(6)
    for start in range(0, len(changes), size):
        graph.apply(EdgeChanges.of(events[start : start + size]))
    follows, blocks, mutes = set(), set(), set()
    for a, b, kind in changes:
        if a != b:
            if kind == "F":
                follows.add((a, b))
            elif kind == "U":
                follows.discard((a, b))
            elif kind == "B":
                blocks.add((a, b))
            elif kind == "M":
                mutes.add((a, b))
            elif kind == "V":
                mutes.discard((a, b))
            else:
                blocks.discard((a, b))
    for person in range(6):
        assert set(graph.followees(person).tolist()) == {b for a, b in follows if a == person}
        assert set(graph.blocked(person).tolist()) == {b for a, b in blocks if a == person}
        assert set(graph.blocked_by(person).tolist()) == {a for a, b in blocks if b == person}
        assert set(graph.muted(person).tolist()) == {b for a, b in mutes if a == person}
        assert graph.follows[person] == sum(a == person for a, _ in follows)
        assert graph.followers[person] == sum(b == person for _, b in follows)
