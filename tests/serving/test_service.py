"""The feed service over a small trained home: live, paged, explained, and always answering."""

from functools import partial
from itertools import pairwise
from time import monotonic

import numpy as np
import orjson
import pyarrow as pa
import pytest

from contracts.clock import now_us, to_datetime
from contracts.degrade import DegradeLevel, DegradeReason
from contracts.errors import BundleMismatch, CursorExpired, NotFound, Unavailable
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import UNKNOWN_ID, FeedId, Namespace, UserId
from contracts.policy import fixed_blend
from contracts.query import FeedQuery
from contracts.settings import Settings
from contracts.tables import POSTS_SCHEMA
from features.workspace import Workspace
from models.bundle import Bundle
from models.manifest import MANIFEST_FILE, Manifest, file_checksum
from serving.opening import open_service


@pytest.fixture
def home(small_home_copy):
    return small_home_copy


@pytest.fixture
def workspace(home):
    with Workspace.open(home) as opened:
        yield opened


@pytest.fixture
def service(workspace):
    opened = open_service(workspace, Settings(home=workspace.home).unhurried())
    yield opened
    opened.close()


def query(viewer_id, feed_id=1, limit=20, at=None):
    return FeedQuery(FeedId(feed_id), UserId(viewer_id), at or now_us(), limit)


def viewers(workspace, count=10):
    """People with the most events: warm by any measure."""
    log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
    people, counts = np.unique(log, return_counts=True)
    return people[np.argsort(-counts)][:count].tolist()


def event(viewer_id, post_id, kind, number, target=None):
    at = to_datetime(now_us())
    row = {
        "event_id": 10**15 + number, "type": int(kind), "viewer_id": viewer_id,
        "post_id": post_id, "target_id": target, "event_time": at, "known_time": at,
        "known_assumed": True, "value": None, "feed_id": None, "position": None,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=EVENT_SCHEMA)


def ids(page):
    return [item.post_id for item in page.items]


def test_a_warm_viewer_gets_a_full_feed_in_one_order(workspace, service):
    page = service.open(query(viewers(workspace)[0]))
    assert page.level is DegradeLevel.FULL
    assert page.degrade_reasons == ()
    assert len(set(ids(page))) == len(page.items) == 20
    assert [item.position for item in page.items] == list(range(20))
    assert page.next_offset == 20


def test_health_is_plain_data_after_a_feed(workspace, service):
    service.open(query(viewers(workspace)[0]))
    health = orjson.loads(orjson.dumps(service.health()))
    assert health["source_yield"]["trending"] > 0
    assert health["applied_seq"] == health["log_seq"]


def test_the_same_query_gives_the_same_feed(workspace, service):
    viewer, at = viewers(workspace)[0], now_us()
    other = open_service(workspace, Settings(home=workspace.home).unhurried(), start=False)
    try:
        assert other.open(query(viewer, at=at)) == service.open(query(viewer, at=at))
    finally:
        other.close()


def test_a_person_nobody_has_met_gets_a_feed_that_says_so(service):
    page = service.open(query(UNKNOWN_ID))
    assert len(page.items) == 20
    assert DegradeReason.UNKNOWN_VIEWER in page.degrade_reasons


def test_strangers_hide_nothing_from_each_other(service):
    pages = [service.open(query(UNKNOWN_ID, feed_id=number)) for number in range(1, 15)]
    assert all(len(page.items) == 20 for page in pages)
    assert not any(DegradeReason.NO_CANDIDATES in page.degrade_reasons for page in pages)
    assert len({post for page in pages for post in ids(page)}) < 14 * 20 / 2


def test_a_stranger_who_has_become_known_reads_on_as_who_they_are(workspace, service):
    service.open(query(UNKNOWN_ID, feed_id=6))
    before = ids(service.page(6, UNKNOWN_ID, 20, 20))
    viewer, posts = viewers(workspace)[0], service._lineup.champion.runtime.cache.posts
    authors = posts.author_ids(posts.slots_of(np.array(before)))
    post, author = next(
        (one, by) for one, by in zip(before, authors.tolist(), strict=True) if by != viewer
    )
    done = workspace.log.append(event(viewer, None, EventType.BLOCK, 4, target=author))
    assert service.wait_applied(done.last_seq, 5.0)
    assert post in ids(service.page(6, UNKNOWN_ID, 20, 20))
    assert post not in ids(service.page(6, UNKNOWN_ID, 20, 20, reader_id=viewer))


def test_a_preview_hides_what_may_not_be_seen_any_more(workspace, service):
    viewer = viewers(workspace)[0]
    page = service.open(query(viewer, feed_id=9))
    gone, blocked, wished = ids(page)[0], ids(page)[1], ids(page)[5]
    posts = service._lineup.champion.runtime.cache.posts
    author = int(posts.author_ids(posts.slots_of(np.array([blocked])))[0])
    workspace.write(event(1, gone, EventType.POST_DELETED, 5), deleted_posts=np.array([gone]))
    done = workspace.log.append(event(viewer, None, EventType.BLOCK, 6, target=author))
    assert service.wait_applied(done.last_seq, 5.0)
    found = service.preview(viewer, EventType.RESET_CONTROLS, wished)
    assert found.served
    assert not {gone, blocked} & {*found.served, *found.otherwise}


def test_pages_neither_repeat_nor_skip_while_posts_arrive(workspace, service):
    viewer = viewers(workspace)[0]
    page = service.open(query(viewer, feed_id=7, limit=9))
    seen = [*page.items]
    number = 0
    while page.next_offset is not None:
        create_post(workspace, f"arrives {number}", topic=0)
        number += 1
        page = service.page(7, viewer, page.next_offset, 9)
        seen.extend(page.items)
    assert len({item.post_id for item in seen}) == len(seen) > 100
    assert all(a.position + 1 == b.position for a, b in pairwise(seen))


def create_post(workspace, text, topic=None, author=None):
    post = int(workspace.ids.intern(Namespace.POST, [text])[0])
    at = to_datetime(now_us())
    topics, _ = workspace.catalog.topics()
    row = {
        "post_id": post, "author_id": author, "text": text,
        "topics": [] if topic is None else [int(topics[topic])], "language": "en",
        "created": at, "known": at, "deleted": False,
    }  # fmt: skip
    told = event(author or 1, post, EventType.POST_CREATED, post)
    done = workspace.write(told, posts=pa.Table.from_pylist([row], schema=POSTS_SCHEMA))
    return post, done.last_seq


@pytest.mark.parametrize("kind", [EventType.IMPRESSION, EventType.VIEW])
def test_one_impression_or_view_takes_a_post_out_of_the_next_feed(workspace, service, kind):
    viewer = viewers(workspace)[0]
    post = ids(service.open(query(viewer, feed_id=1)))[0]
    done = workspace.log.append(event(viewer, post, kind, 1))
    assert service.wait_applied(done.last_seq, 5.0)
    assert service.rank(query(viewer, feed_id=2), np.array([post])).removed == {post: "seen"}


def within_a_second(service, *writes):
    """Write, and have it applied: a machine may stall in one of them, a slow product in each."""
    took = []
    for write in writes:
        started = monotonic()
        assert service.wait_applied(write(), 5.0)
        took.append(monotonic() - started)
    assert min(took) < 1.0


def test_a_like_is_in_the_history_within_a_second(workspace, service):
    viewer = viewers(workspace)[0]
    *_, post = liked = ids(service.open(query(viewer, feed_id=1)))[3:6]
    likes = [event(viewer, one, EventType.LIKE, number) for number, one in enumerate(liked)]
    within_a_second(service, *(lambda one=one: workspace.log.append(one).last_seq for one in likes))
    runtime = service._lineup.champion.runtime
    history = runtime.cache.histories.get(np.array([runtime.cache.viewer_slot(viewer)]))
    assert runtime.cache.posts.post_id[history.post_slots[0, -1]] == post
    assert post not in ids(service.open(query(viewer, feed_id=2, limit=100)))


def test_a_new_post_is_retrievable_within_a_second(workspace, service):
    viewer = viewers(workspace)[0]
    made = []

    def create():
        made.append(create_post(workspace, f"brand new {len(made)}", topic=0))
        return made[-1][1]

    within_a_second(service, create, create, create)
    post, _ = made[-1]
    ranked = service._lineup.champion.pipeline.run(
        query(viewer, feed_id=5), service._policies.current
    )
    assert post in ranked.candidates["post_id"].tolist()
    cache, runtime = service._lineup.champion.runtime.cache, service._lineup.champion.runtime
    slot = cache.posts.slots_of(np.array([post]))
    assert runtime.rows_of(slot)[0] >= 0
    assert cache.newest(1).tolist() == slot.tolist()


def test_a_deleted_post_leaves_feeds_and_later_pages_within_a_second(workspace, service):
    viewer = viewers(workspace)[0]
    first = service.open(query(viewer, feed_id=3, limit=20))
    gone = ids(service.page(3, viewer, 20, 20))[4:7]

    def delete(post):
        told = event(1, post, EventType.POST_DELETED, post)
        return workspace.write(told, deleted_posts=np.array([post])).last_seq

    within_a_second(service, *(partial(delete, post) for post in gone))
    later = service.page(3, viewer, 20, 20)
    assert not set(gone) & set(ids(later))
    assert later.gaps == 3
    assert not set(gone) & set(ids(service.open(query(viewer, feed_id=4, limit=100))))
    assert first.gaps == 0


def test_a_blocked_author_is_gone_in_both_directions(workspace, service):
    viewer = viewers(workspace)[0]
    page = service.open(query(viewer, feed_id=3, limit=20))
    posts = service._lineup.champion.runtime.cache.posts
    author = int(posts.author_ids(posts.slots_of(np.array(ids(page)[:1])))[0])
    done = workspace.log.append(event(author, None, EventType.BLOCK, 3, target=viewer))
    assert service.wait_applied(done.last_seq, 5.0)
    for again in (
        service.open(query(viewer, feed_id=4, limit=100)),
        service.page(3, viewer, 0, 20),
    ):
        slots = posts.slots_of(np.array(ids(again)))
        assert author not in posts.author_ids(slots).tolist()


def test_the_record_explains_every_post_of_a_feed(workspace, service):
    viewer = viewers(workspace)[0]
    page = service.open(query(viewer, feed_id=8))
    for item in page.items:
        found = service.explain(8, viewer, item.post_id)
        assert (found.outcome, found.position) == ("served", item.position)
        assert found.value == pytest.approx(item.value)
        assert found.sources
        assert {"mult.out_of_network", "mult.selection"} <= found.ledger.keys()
    assert service.explain(8, viewer, 10**12).outcome == "not_a_candidate"
    removed = service._records.find(8)["removed_ids"]
    assert service.explain(8, viewer, int(removed[0])).removed_by is not None


def test_another_persons_feed_is_not_found(workspace, service):
    one, two = viewers(workspace)[:2]
    service.open(query(one, feed_id=8))
    with pytest.raises(CursorExpired, match="not kept"):
        service.page(8, two, 20, 20)
    with pytest.raises(NotFound, match="no record"):
        service.explain(8, two, 1)


def test_pages_survive_a_restart_and_expire(workspace, service):
    viewer = viewers(workspace)[0]
    first = service.open(query(viewer, feed_id=9))
    expected = service.page(9, viewer, 20, 20)
    reserve = service.page(9, viewer, 60, 20)
    assert len(first.items) == len(reserve.items) == 20
    service._records.flush()
    settings = Settings(home=workspace.home).unhurried()
    again = open_service(workspace, settings, start=False)
    try:
        assert again.page(9, viewer, 20, 20).items == expected.items
        assert again.page(9, viewer, 60, 20).items == reserve.items
    finally:
        again.close()
    old = query(viewer, feed_id=10, at=now_us() - 3600 * 10**6)
    service.open(old)
    with pytest.raises(CursorExpired, match="grown old"):
        service.page(10, viewer, 20, 20)


class _Broken:
    """Any part of the runtime, out of order."""

    def __getattr__(self, name):
        raise RuntimeError(f"{name} is out of order")


def test_without_the_ranker_the_fixed_blend_answers(workspace, service):
    service._lineup.champion.pipeline._stages.scorers[0]._client = _Broken()
    page = service.open(query(viewers(workspace)[0]))
    assert page.level is DegradeLevel.FIXED_BLEND
    assert page.degrade_reasons == (DegradeReason.RANKER_FAILED,)
    assert len(page.items) == 20


def test_without_the_deep_family_the_rest_answers(workspace, service):
    service._lineup.champion.pipeline._stages.families[2]._family = "gone"
    page = service.open(query(viewers(workspace)[0]))
    assert page.level is DegradeLevel.NO_DEEP
    assert page.degrade_reasons == (DegradeReason.DEEP_SOURCE_FAILED,)


def test_without_the_pipeline_the_ladder_answers(workspace, service):
    warm = viewers(workspace)[0]
    before = service.open(query(warm, feed_id=1))
    service._lineup.champion.pipeline._stages.viewer._runtime = _Broken()
    cached = service.open(query(warm, feed_id=2))
    assert cached.level is DegradeLevel.CACHED
    assert ids(cached) == ids(before)
    cold = service.open(query(UNKNOWN_ID, feed_id=3))
    assert cold.level is DegradeLevel.TRENDING
    assert len(cold.items) == 20
    follower = int(workspace.catalog.follows().column("follower_id")[0].as_py())
    assert service.open(query(follower, feed_id=4)).level in {
        DegradeLevel.FOLLOWING,
        DegradeLevel.CACHED,
    }


def test_the_fixed_blend_policy_is_half_and_half_and_full(workspace, home):
    blend = open_service(
        workspace, Settings(home=home).unhurried(), policy=fixed_blend(), start=False
    )
    try:
        page = blend.open(query(viewers(workspace)[0], limit=20))
        assert page.level is DegradeLevel.FULL
        assert page.policy_hash == fixed_blend().hash
    finally:
        blend.close()


def test_the_callers_own_candidates_are_ordered_and_removals_named(workspace, service):
    viewer = viewers(workspace)[0]
    posts = service._lineup.champion.runtime.cache.posts.post_id[:300]
    ranked = service.rank(query(viewer), posts)
    assert set(ranked.post_ids.tolist()) | set(ranked.removed) == set(posts.tolist())
    assert not set(ranked.post_ids.tolist()) & set(ranked.removed)
    assert set(ranked.removed.values()) <= {"seen", "own", "served_this_session"}


def test_a_long_list_of_candidates_loses_none(home, workspace):
    names = [f"candidate {number}" for number in range(1500)]
    posts = workspace.ids.intern(Namespace.POST, names)
    at = to_datetime(now_us())
    rows = [
        {"post_id": int(post), "author_id": None, "text": name, "topics": [], "language": None,
         "created": at, "known": at, "deleted": False}
        for post, name in zip(posts, names, strict=True)
    ]  # fmt: skip
    workspace.write(None, posts=pa.Table.from_pylist(rows, schema=POSTS_SCHEMA))
    opened = open_service(workspace, Settings(home=home).unhurried(), start=False)
    try:
        ranked = opened.rank(query(viewers(workspace)[0]), posts)
    finally:
        opened.close()
    assert set(ranked.post_ids.tolist()) | set(ranked.removed) == set(posts.tolist())


def test_candidates_that_cannot_be_ranked_are_refused_as_unavailable(workspace, service):
    service._lineup.champion.pipeline._stages.viewer._runtime = _Broken()
    with pytest.raises(Unavailable, match="could not be ranked"):
        service.rank(query(viewers(workspace)[0]), np.array([1]))


def test_without_a_bundle_what_is_popular_is_served_and_said(home, workspace):
    (home / "bundles" / "CHAMPION").unlink()
    bare = open_service(workspace, Settings(home=home).unhurried(), start=False)
    try:
        page = bare.open(query(viewers(workspace)[0]))
        assert DegradeReason.NO_BUNDLE in page.degrade_reasons
        assert len(page.items) == 20
        assert bare.health()["bundle_id"] is None
    finally:
        bare.close()


def test_a_bundle_of_another_model_layout_is_refused_with_what_to_do(home):
    """Checksums are right, but a part lacks what this code reads."""
    folder = home / "bundles" / (home / "bundles" / "CHAMPION").read_text(encoding="utf-8")
    part = folder / "ranker" / "state.json"
    state = orjson.loads(part.read_bytes())
    del state["config"]
    part.write_bytes(orjson.dumps(state))
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    files = {**manifest.files, "ranker/state.json": file_checksum(part)}
    manifest = manifest.model_copy(update={"files": files})
    manifest = manifest.model_copy(update={"bundle_id": manifest.identity()})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")
    with pytest.raises(BundleMismatch, match=r"another layout.*train again"):
        Bundle.load(folder)
