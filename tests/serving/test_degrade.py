"""The ladder: each level reached by breaking what stands above it; a feed is never empty."""

import shutil
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.injection import Faulty, stages_of, use_pipeline
from contracts.clock import now_us, to_datetime
from contracts.degrade import DEGRADE_ORDER, DegradeLevel, DegradeReason
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import UNKNOWN_ID, FeedId, UserId
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.breakers import OPENS_AFTER
from serving.components import Deadlines
from serving.fallback import FallbackLadder
from serving.opening import open_service
from serving.pipeline import FeedPipeline
from serving.rankers.remote import RemoteRanker
from serving.snapshots import SnapshotCache
from serving.stages.filters import EveryoneMaySee
from serving.stages.scorers import EnsembleScorer

HOUR_US = 3600 * 10**6
FEEDS = count(1)


@pytest.fixture(scope="module")
def home(small_home, tmp_path_factory):
    return shutil.copytree(small_home, tmp_path_factory.mktemp("degrade") / "home")


@pytest.fixture(scope="module")
def workspace(home):
    with Workspace.open(home) as opened:
        yield opened


@pytest.fixture
def service(home, workspace):
    opened = open_service(workspace, Settings(home=home).unhurried(), start=False)
    yield opened
    opened.close()


def query(viewer, at=None):
    number = next(FEEDS)
    return FeedQuery(FeedId(number), UserId(viewer), at or now_us() + number * HOUR_US, 20)


def follower_of(workspace):
    """Somebody who follows people and acts, and thus can have every level."""
    follows = workspace.catalog.follows().column("follower_id").to_numpy()
    log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
    people, counts = np.unique(log[np.isin(log, follows)], return_counts=True)
    return int(people[counts.argmax()])


def ids(page):
    return [item.post_id for item in page.items]


def use(service, **changes):
    use_pipeline(service, FeedPipeline(replace(stages_of(service), **changes), 10_000.0))


def ladder_of(service, access=None, snapshots=None):
    runtime = service._lineup.champion.runtime
    return FallbackLadder(runtime, snapshots or SnapshotCache(), access or EveryoneMaySee())


def test_every_level_is_reached_by_breaking_what_stands_above_it(workspace, service):
    viewer, whole = follower_of(workspace), stages_of(service)
    deep = [Faulty(part) if "deep" in part.name else part for part in whole.sources]
    ensemble, blend, *rest = whole.scorers
    unranked = {"sources": deep, "scorers": [Faulty(ensemble), Faulty(blend), *rest]}
    reached = [service.open(query(viewer))]
    for change in ({"sources": deep}, {**unranked, "scorers": [Faulty(ensemble), blend]}, unranked):
        use(service, **change)
        reached.append(service.open(query(viewer)))
    reached.append(service.open(query(viewer, at=now_us() + 300 * HOUR_US)))  # too old to repeat
    reached.append(service.open(query(UNKNOWN_ID)))  # follows nobody
    assert [page.level for page in reached] == list(DEGRADE_ORDER)
    assert all(len(page.items) == 20 for page in reached)
    assert reached[0].degrade_reasons == ()
    assert reached[1].degrade_reasons == ("deep_source_failed",)
    assert reached[2].degrade_reasons == ("deep_source_failed", "ranker_failed")
    assert all("ranker_failed" in page.degrade_reasons for page in reached[3:])


def event(viewer, post, kind, number, target=None):
    at = to_datetime(now_us())
    row = {
        "event_id": 10**15 + number, "type": int(kind), "viewer_id": viewer, "post_id": post,
        "target_id": target, "event_time": at, "known_time": at, "known_assumed": True,
        "value": None, "feed_id": None, "position": None,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=EVENT_SCHEMA)


def test_a_cached_feed_is_looked_through_again_and_stays_as_long_as_it_can(workspace, service):
    viewer = follower_of(workspace)
    before = service.open(query(viewer))
    use(service, viewer=Faulty(stages_of(service).viewer))
    posts = service._lineup.champion.runtime.cache.posts
    author = int(posts.author_ids(posts.slots_of(np.array(ids(before)[:1])))[0])
    workspace.log.append(event(viewer, None, EventType.BLOCK, 1, target=author))
    gone = ids(before)[1]
    workspace.write(event(1, gone, EventType.POST_DELETED, 2), deleted_posts=np.array([gone]))
    service._follower.catch_up()
    after = service.open(query(viewer))
    assert (after.level, len(after.items), after.gaps) == (DegradeLevel.CACHED, 20, 0)
    assert gone not in ids(after)
    assert author not in posts.author_ids(posts.slots_of(np.array(ids(after)))).tolist()
    kept = [post for post in ids(before) if post in ids(after)]
    assert len(kept) > 10
    assert kept == ids(after)[: len(kept)]


class Only:
    """An access rule that hides everything but some posts."""

    def __init__(self, post_ids):
        self._post_ids = post_ids

    def visible(self, viewer_id, post_ids, author_slots):
        return np.isin(post_ids, self._post_ids)


def test_the_one_post_that_may_be_seen_is_found(workspace, service, monkeypatch):
    monkeypatch.setattr("serving.fallback._POOL", 10)  # a small world has fewer than the real one
    cache = service._lineup.champion.runtime.cache
    posts, viewer = cache.posts, cache.viewer_slot(follower_of(workspace))
    edges = (cache.graph.blocked(viewer), cache.graph.blocked_by(viewer), cache.graph.muted(viewer))
    top = service._lineup.champion.runtime.trending.top(now_us(), 10**6)
    last = top[~np.isin(posts.author_slot[top], np.concatenate(edges))][-1]
    alone = posts.post_id[[last]]
    found = ladder_of(service, Only(alone)).answer(query(follower_of(workspace)), (), "p")
    assert found.post_ids.tolist() == alone.tolist()


def test_a_cached_feed_that_nobody_may_see_any_more_gives_way(workspace, service):
    viewer, snapshots = follower_of(workspace), SnapshotCache()
    first = ladder_of(service).answer(query(viewer, at=now_us()), (), "p")
    snapshots.put(replace(first, level=DegradeLevel.FULL))
    others = np.setdiff1d(service._lineup.champion.runtime.cache.posts.post_id, first.post_ids)
    seen = ladder_of(service, snapshots=snapshots).answer(query(viewer, at=now_us()), (), "p")
    assert seen.level is DegradeLevel.CACHED
    hidden = ladder_of(service, Only(others), snapshots).answer(query(viewer, at=now_us()), (), "p")
    assert hidden.level is not DegradeLevel.CACHED
    assert len(hidden.post_ids)


def test_what_was_not_ranked_is_not_called_cached(workspace, service):
    viewer, snapshots = follower_of(workspace), SnapshotCache()
    ladder = ladder_of(service, snapshots=snapshots)
    snapshots.put(ladder.answer(query(viewer, at=now_us()), (), "p"))
    assert ladder.answer(query(viewer, at=now_us()), (), "p").level is DegradeLevel.FOLLOWING


class Broken:
    def __getattr__(self, name):
        raise RuntimeError(f"{name} is out of order")


def test_a_broken_rung_is_stepped_over_and_named(workspace, service):
    found = ladder_of(service, snapshots=Broken()).answer(
        query(follower_of(workspace)), (DegradeReason.RANKER_FAILED,), "p"
    )
    assert found.level is DegradeLevel.FOLLOWING
    assert found.degrade_reasons == ("ranker_failed", "feed_failed")
    assert len(found.post_ids)


def test_a_broken_access_rule_shows_nothing(workspace, service):
    """It is not known what may be seen: an empty feed that says so, and no error."""
    found = ladder_of(service, Broken()).answer(query(follower_of(workspace)), (), "p")
    assert (found.level, len(found.post_ids)) == (DegradeLevel.TRENDING, 0)
    assert found.degrade_reasons == ("feed_failed",)


def test_a_component_that_breaks_its_contract_fails_the_feed_and_not_the_request(
    workspace, service
):
    class Short(Faulty):
        def __getattr__(self, name):
            found = getattr(self.real, name)
            return (lambda *_: np.ones(1, dtype=bool)) if name == "keep" else found

    whole = stages_of(service)
    viewer = follower_of(workspace)
    own = next(rule for rule in whole.filters if rule.name == "own")
    use(service, filters=[Short(own)])
    page = service.open(query(viewer))
    assert (page.level, page.degrade_reasons) == (DegradeLevel.FULL, ("filter_failed",))
    use(service, capacity=lambda: 1)  # no component's: merging overruns its table
    page = service.open(query(viewer))
    assert page.degrade_reasons == ("feed_failed",)
    assert len(page.items) == 20


@pytest.mark.parametrize("word", [*DegradeLevel, *DegradeReason])
def test_every_level_and_reason_is_in_the_document(word):
    page = (Path(__file__).parents[2] / "docs" / "degrade.md").read_text(encoding="utf-8")
    assert f"| `{word}` |" in page


class Ranker(BaseHTTPRequestHandler):
    """A ranker service out of order in one of several ways; counts what reaches it."""

    asked = 0
    way = ""

    def do_POST(self):
        type(self).asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        if self.way == "slow":
            sleep(0.4)
        if self.way == "drops":
            self.close_connection = True
            return
        self.send_response(503 if self.way == "refuses" else 200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"what")

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(
    ("way", "reason", "requests"),
    [
        ("slow", "ranker_timeout", 1),
        ("refuses", "ranker_unreachable", 1),
        ("drops", "ranker_unreachable", 2),  # a kept-alive connection may just have grown old
        ("babbles", "ranker_failed", 1),
    ],
)
def test_a_remote_ranker_out_of_order_is_named_and_soon_not_asked(
    workspace, service, way, reason, requests
):
    handler = type("Handler", (Ranker,), {"way": way, "asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.block_on_close = False
    Thread(target=server.serve_forever, daemon=True).start()
    patience = 0.2 if way == "slow" else 10.0
    client = RemoteRanker(f"http://127.0.0.1:{server.server_port}", patience, "bundle")
    scorers = stages_of(service).scorers
    stages = replace(stages_of(service), scorers=[EnsembleScorer(client), *scorers[1:]])
    use_pipeline(service, FeedPipeline(stages, 10_000.0, Deadlines()))
    try:
        viewer = follower_of(workspace)
        for turn in range(OPENS_AFTER):
            page = service.open(query(viewer))
            assert (page.level, page.degrade_reasons) == (DegradeLevel.FIXED_BLEND, (reason,))
            deadline = monotonic() + 10.0  # one that was given up may be counted later
            while handler.asked < (turn + 1) * requests and monotonic() < deadline:
                sleep(0.01)
        page = service.open(query(viewer))
    finally:
        client.close()
        server.shutdown()
        server.server_close()
    assert (page.level, page.degrade_reasons) == (
        DegradeLevel.FIXED_BLEND, ("ranker_failed", "breaker_open"),
    )  # fmt: skip
    assert handler.asked == OPENS_AFTER * requests
