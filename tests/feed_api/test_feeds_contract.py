"""What every source of feeds keeps to; each implementation runs through the same tests."""

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.errors import CursorExpired, NotFound
from contracts.events import EventType
from contracts.ids import UNKNOWN_ID, FeedId, Namespace, UserId
from contracts.query import FeedQuery
from serving.opening import open_service


@pytest.fixture(params=["static", "service"])
def world(request, make_api):
    """A workspace of 12 posts and feeds over it."""
    api = make_api(posts=12)
    if request.param == "service":
        api.serve_with(open_service(api.workspace, api.settings.unhurried()))
    return api


def query(world, viewer: str = "ann", limit: int = 5, feed_id: int = 77) -> FeedQuery:
    return FeedQuery(FeedId(feed_id), UserId(world.person(viewer)), now_us(), limit)


def ids_of(world, *posts: str):
    return world.workspace.ids.lookup(Namespace.POST, posts)


def test_pages_follow_each_other_without_a_repeat(world):
    asked = query(world)
    page = world.feeds.open(asked)
    assert (page.feed_id, page.viewer_id) == (asked.feed_id, asked.viewer_id)
    items, offset = list(page.items), 0
    while page.next_offset is not None:
        assert page.next_offset > offset
        offset = page.next_offset
        page = world.feeds.page(asked.feed_id, asked.viewer_id, offset, 3)
        assert len(page.items) + page.gaps <= 3
        items += page.items
    assert len({item.post_id for item in items}) == len(items) == 12
    assert [item.position for item in items] == list(range(12))


def test_a_stranger_is_answered(world):
    asked = query(world, "nobody")
    assert asked.viewer_id == UNKNOWN_ID
    page = world.feeds.open(asked)
    assert len(page.items) == 5
    assert world.feeds.page(asked.feed_id, UNKNOWN_ID, 5, 5).items


def test_a_stranger_who_has_become_known_is_heard_on_later_pages(make_api):
    api = make_api(posts=12)
    api.serve_with(open_service(api.workspace, api.settings.unhurried()))
    first = api.feed("late", limit=3)
    blocked = api.ask("PUT", "/v1/platform/blocks/late/bob", params={"wait": "applied"})
    assert blocked.status_code == 201
    assert api.feed("late", cursor=first["next"], limit=9)["items"] == []


def test_a_feed_belongs_to_its_viewer(world):
    asked = query(world)
    world.feeds.open(asked)
    with pytest.raises(CursorExpired):
        world.feeds.page(asked.feed_id, world.person("bob"), 5, 5)
    with pytest.raises(CursorExpired):
        world.feeds.page(78, asked.viewer_id, 5, 5)
    with pytest.raises(NotFound):
        world.feeds.explain(asked.feed_id, world.person("bob"), int(ids_of(world, "p-1")[0]))


def test_a_deleted_post_leaves_within_a_second(world):
    asked = query(world)
    world.feeds.open(asked)
    deleted = int(ids_of(world, "p-1")[0])
    answer = world.ask("DELETE", "/v1/platform/posts/p-1", params={"wait": "applied"})
    assert answer.headers["headwater-applied"] == "true"
    page = world.feeds.page(asked.feed_id, asked.viewer_id, 0, 100)
    assert deleted not in [item.post_id for item in page.items]
    assert page.gaps == 1
    again = world.feeds.open(query(world, limit=100, feed_id=79))
    assert deleted not in [item.post_id for item in again.items]


def test_candidates_are_ordered_removed_or_left_out_never_made_up(world):
    given = np.array([*ids_of(world, "p-3", "p-7"), 10**15])
    ranked = world.feeds.rank(query(world), given)
    assert set(ranked.post_ids.tolist()) | set(ranked.removed) == set(given[:2].tolist())
    assert len(ranked.values) == len(ranked.post_ids)
    none = world.feeds.rank(query(world), np.empty(0, dtype=np.int64))
    assert (len(none.post_ids), len(none.values)) == (0, 0)


def test_a_wish_is_previewed_on_the_last_feed(world):
    asked = query(world)
    page = world.feeds.open(asked)
    post = page.items[0].post_id
    for wish in (EventType.FEWER_OF_TOPIC, EventType.MORE_OF_AUTHOR, EventType.RESET_CONTROLS):
        found = world.feeds.preview(asked.viewer_id, wish, post)
        assert found.feed_id == asked.feed_id
        assert sorted(found.served) == sorted(found.otherwise)
    with pytest.raises(NotFound):
        world.feeds.preview(10**9, EventType.FEWER_OF_TOPIC, post)


def test_every_served_post_can_be_explained(world):
    asked = query(world)
    for item in world.feeds.open(asked).items:
        explained = world.feeds.explain(asked.feed_id, None, item.post_id)
        assert (explained.outcome, explained.position) == ("served", item.position)
    with pytest.raises(NotFound):
        world.feeds.explain(80, None, 1)


def test_waiting_for_what_never_comes_ends(world):
    assert world.feeds.wait_applied(world.workspace.log.last_seq, 1.0)
    assert not world.feeds.wait_applied(world.workspace.log.last_seq + 1, 0.0)
    assert world.feeds.health()["applied_seq"] == world.workspace.log.last_seq
