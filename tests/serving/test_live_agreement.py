"""While the world goes on: pages of one snapshot agree, and live caches agree with fresh ones."""

from itertools import pairwise
from threading import Event, Thread
from time import sleep

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import now_us, to_datetime
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import FeedId, Namespace, UserId
from contracts.query import FeedQuery
from contracts.settings import Settings
from contracts.tables import POSTS_SCHEMA
from features.workspace import Workspace
from serving.opening import open_service

POSTS_A_SECOND = 500
BATCH = 50


@pytest.fixture
def workspace(small_home_copy):
    with Workspace.open(small_home_copy) as opened:
        yield opened


def open_on(workspace, **options):
    return open_service(workspace, Settings(home=workspace.home).unhurried(), **options)


def query(viewer_id, feed_id, at, limit=20):
    return FeedQuery(FeedId(feed_id), UserId(viewer_id), at, limit)


def write_posts(workspace, name, count, author):
    ids = workspace.ids.intern(Namespace.POST, [f"{name} {k}" for k in range(count)])
    at = to_datetime(now_us())
    topics, _ = workspace.catalog.topics()
    posts = [
        {
            "post_id": int(post), "author_id": author, "text": f"{name} {k}",
            "topics": [int(topics[k % len(topics)])], "language": "en",
            "created": at, "known": at, "deleted": False,
        }
        for k, post in enumerate(ids)
    ]  # fmt: skip
    events = [event(author, int(post), EventType.POST_CREATED, int(post)) for post in ids]
    table = pa.Table.from_pylist(events, schema=EVENT_SCHEMA)
    return workspace.write(table, posts=pa.Table.from_pylist(posts, schema=POSTS_SCHEMA))


def event(viewer, post, kind, number, target=None):
    at = to_datetime(now_us())
    return {
        "event_id": 10**15 + number, "type": int(kind), "viewer_id": viewer, "post_id": post,
        "target_id": target, "event_time": at, "known_time": at, "known_assumed": True,
        "value": None, "feed_id": None, "position": None,
    }  # fmt: skip


def test_pages_neither_repeat_nor_skip_under_500_new_posts_a_second(workspace):
    """20 feeds are read to their ends while 2,000 posts come in, 50 every tenth of a second."""
    people, _ = workspace.ids.all(Namespace.PERSON)
    service = open_on(workspace)
    done = Event()

    def arrive():
        for batch in range(2_000 // BATCH):
            write_posts(workspace, f"batch {batch} post", BATCH, int(people[batch % len(people)]))
            sleep(BATCH / POSTS_A_SECOND)
        done.set()

    before = len(service._cache.posts)
    writer = Thread(target=arrive)
    writer.start()
    try:
        feeds = 0
        while not done.is_set() or feeds < 20:
            viewer, feed_id = int(people[feeds % len(people)]), 100 + feeds
            page = service.open(query(viewer, feed_id, now_us(), limit=7))
            seen = [*page.items]
            while page.next_offset is not None:
                page = service.page(feed_id, viewer, page.next_offset, 7)
                seen.extend(page.items)
            assert len({item.post_id for item in seen}) == len(seen) > 50
            assert all(a.position + 1 == b.position for a, b in pairwise(seen))
            assert seen[0].position == 0
            feeds += 1
        writer.join()
        assert service.wait_applied(workspace.log.last_seq, 20.0)
        assert len(service._cache.posts) == before + 2_000
    finally:
        writer.join()
        service.close()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_feeds_of_live_caches_are_those_of_fresh_ones_at_one_seed(workspace, seed):
    """One service has followed the log event by event, the other reads it all at its start."""
    generator = np.random.Generator(np.random.PCG64(seed))
    people, _ = workspace.ids.all(Namespace.PERSON)
    posts, _ = workspace.ids.all(Namespace.POST)
    kinds = [
        EventType.IMPRESSION, EventType.CLICK, EventType.LIKE, EventType.HIDE, EventType.SHARE,
        EventType.FEWER_OF_TOPIC, EventType.MORE_OF_AUTHOR, EventType.UNLIKE,
    ]  # fmt: skip
    live = open_on(workspace)
    try:
        for step in range(12):
            if step % 4 == 3:
                write_posts(workspace, f"{seed} {step}", 5, int(generator.choice(people)))
                continue
            rows = [
                event(
                    int(generator.choice(people)), int(generator.choice(posts)),
                    kinds[generator.integers(len(kinds))], 1000 * step + k,
                )
                for k in range(40)
            ]  # fmt: skip
            graph = [
                event(int(a), None, kind, 1000 * step + 100 + k, int(b))
                for k, kind in enumerate((EventType.FOLLOW, EventType.BLOCK, EventType.MUTE))
                for a, b in [generator.choice(people, 2, replace=False)]
            ]
            workspace.write(pa.Table.from_pylist(rows + graph, schema=EVENT_SCHEMA))
        assert live.wait_applied(workspace.log.last_seq, 20.0)
        fresh = open_on(workspace, start=False)
        try:
            assert fresh.health()["applied_seq"] == workspace.log.last_seq
            at = now_us()
            for number, viewer in enumerate(generator.permutation(people)[:40].tolist()):
                asked = query(viewer, 5000 + number, at)
                assert live.open(asked) == fresh.open(asked)
        finally:
            fresh.close()
    finally:
        live.close()
