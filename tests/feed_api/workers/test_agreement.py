"""Two services over one home, one writing and one reading, each in its own rhythm: they agree."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.degrade import DegradeLevel
from contracts.events import EventType
from contracts.ids import FeedId, Namespace, UserId
from contracts.policy import FAMILIES
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api.platform.queries import StoredPost
from feed_api.platform.rows import EventRow, edge_changes, event_table, own_event, post_table
from serving.opening import open_service
from serving.service import FeedService

ACTIONS = (EventType.IMPRESSION, EventType.CLICK, EventType.LIKE, EventType.DWELL, EventType.HIDE)
STEPS = 120


class Pair:
    """The services of two workers in one process, and what happens to their home."""

    def __init__(self, writer: Workspace, reader: Workspace) -> None:
        settings = Settings(home=writer.home).unhurried()
        self.writer = writer
        self.feeds = [open_service(home, settings) for home in (writer, reader)]
        self._chance = np.random.default_rng(7)

    def happen(self, step: int) -> None:
        """Write something: posts, edges and actions, a transaction each."""
        ids, chance, at = self.writer.ids, self._chance, now_us()
        posts = ids.all(Namespace.POST)[0]
        people = ids.all(Namespace.PERSON)[0]
        one, other = chance.choice(people, 2, replace=False).tolist()
        kind = step % 6
        if kind == 0:
            (post,) = ids.intern(Namespace.POST, [f"new-{step}"]).tolist()
            stored = StoredPost(one, f"new text {step}", (), "en", at, deleted=False)
            event = own_event(EventType.POST_CREATED, one, at, post=post)
            self.writer.write(event, posts=post_table(post, stored, at))
        elif kind == 1:
            event = own_event(EventType.FOLLOW, one, at, to=other)
            self.writer.write(event, **edge_changes({(one, other, "follow"): (True, at)}))
        elif kind == 2 and step % 4 == 0:
            event = own_event(EventType.MUTE, one, at, to=other)
            self.writer.write(event, **edge_changes({(one, other, "mute"): (True, at)}))
        elif kind == 3 and step % 9 == 0:
            post = int(chance.choice(posts))
            self.writer.write(own_event(EventType.POST_DELETED, one, at, post=post),
                              deleted_posts=[post])  # fmt: skip
        else:
            size = int(chance.integers(1, 30))
            columns = zip(
                chance.integers(1, 2**62, size).tolist(),
                chance.choice(np.array(ACTIONS), size).tolist(),
                chance.choice(people, size).tolist(),
                chance.choice(posts, size).tolist(),
                strict=True,
            )
            rows = [
                EventRow(e, EventType(t), p, post, None, at, at, value=900.0)
                for e, t, p, post in columns
            ]
            self.writer.write(event_table(rows))


@pytest.fixture
def pair(small_home_copy: Path) -> Iterator[Pair]:
    with (
        Workspace.open(small_home_copy) as writer,
        Workspace.open(small_home_copy, read_only=True) as reader,
    ):
        pair = Pair(writer, reader)
        yield pair
        for feeds in pair.feeds:
            feeds.close()


def test_two_workers_hold_the_same_features_and_rank_the_same_feeds(pair):
    one, other = pair.feeds
    for step in range(STEPS):
        pair.happen(step)
        if step % 10 == 0:  # the reader reads in other portions than the writer
            assert one.wait_applied(pair.writer.log.last_seq, 5.0)
    last = pair.writer.log.last_seq
    assert all(feeds.wait_applied(last, 5.0) for feeds in pair.feeds)
    now = now_us()
    people = pair.writer.ids.all(Namespace.PERSON)[0]
    for person in people.tolist()[::2]:
        left, right = (features_of(feeds, person, now) for feeds in pair.feeds)
        np.testing.assert_array_equal(left, right)
        query = FeedQuery(FeedId(1000 + person), UserId(person), now, 20)
        pages = [feeds.open(query) for feeds in pair.feeds]
        assert pages[0] == pages[1]
        assert (pages[0].level, len(pages[0].items)) == (DegradeLevel.FULL, 20)
    assert len({tuple(feeds.health()[name] for name in ("posts", "people", "applied_seq"))
                for feeds in (one, other)}) == 1  # fmt: skip


def features_of(feeds: FeedService, person: int, now: int):
    cache = feeds._cache
    posts = np.sort(cache.posts.post_id)
    scores = np.zeros((len(posts), len(FAMILIES)), dtype=np.float32)
    return cache.feature_matrix(person, cache.posts.slots_of(posts), now, scores)
