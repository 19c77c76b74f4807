"""The smallest change: whatever is named flips the feed, when it is recomputed another way."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from contracts.clock import now_us
from contracts.degrade import DegradeReason
from contracts.events import EventType
from contracts.ids import FeedId, UserId
from contracts.policy import Filters, Policy, Selection, fixed_blend
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from serving.opening import open_service
from serving.proof.explain import explain_post
from serving.proof.standing import arrange, with_row
from serving.proof.why_not import Looker
from serving.stages.decision import Decision

UNLIMITED = Filters(served_minutes=0.0)
ANY = Policy(name="any", filters=UNLIMITED)
POLICIES = [
    ANY,
    fixed_blend().model_copy(update={"filters": UNLIMITED}),
    ANY.model_copy(update={"name": "tight", "quotas": dict.fromkeys(ANY.quotas, 25)}),
    ANY.model_copy(update={"name": "one", "selection": Selection(max_per_author=1)}),
]


class World:
    """A service, and what is explained of its feeds without the record store between."""

    def __init__(self, home, policy):
        self.policy = policy
        self.workspace = Workspace.open(home)
        settings = Settings(home=home).unhurried()
        self.service = open_service(self.workspace, settings, policy=policy, start=False)
        log = self.workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
        self.people = np.unique(log).tolist()
        self.posts = self.service._cache.posts

    def record(self, feed_id, viewer=None, limit=20):
        person = self.people[feed_id * 7 % len(self.people)] if viewer is None else viewer
        query = FeedQuery(FeedId(feed_id), UserId(person), now_us(), limit)
        self.service.open(query)
        self.service._records.flush()
        return query, self.service._record(feed_id)

    def looker(self, record):
        service = self.service
        return Looker(service._lineup, record, self.policy, service._served, service._lock)

    def close(self):
        self.service.close()
        self.workspace.close()


@pytest.fixture(scope="module", params=POLICIES, ids=lambda policy: policy.name)
def world(request, small_home, tmp_path_factory):
    home = shutil.copytree(small_home, tmp_path_factory.mktemp("flip") / "home")
    made = World(home, request.param)
    yield made
    made.close()


def changed(policy, flip):
    """The policy with the one change, through validation; as it is for an act of the viewer."""
    if flip.after is None:
        return policy
    content = policy.model_dump(mode="json")
    part, _, rest = flip.change.partition(".")
    if rest:
        content[part][rest] = flip.after
    else:
        content[part] = flip.after
    return Policy.model_validate(content)


def first_page(decision, policy, limit, adjusted=None):
    """Post ids of the first page, from a whole slate."""
    arranged = arrange(decision, policy, adjusted=adjusted, kept=len(decision.post_ids) - 1)
    return decision.post_ids[arranged.rows[arranged.slate.rows[:limit]]].tolist()


def acted(decision, flip, post):
    facts = decision.adjustments
    authors = np.asarray(decision.record["authors"])
    theirs = authors == authors[decision.post_ids == post][0]
    if flip.change == "lift_wishes":
        return facts._replace(control=np.maximum(facts.control, 0))
    if flip.change in {"follow_author", "unfollow_author"}:
        follows = flip.change == "follow_author"
        return facts._replace(in_network=np.where(theirs, follows, facts.in_network))
    return None


def test_every_change_that_is_named_flips_the_recorded_feed(world):
    generator = np.random.default_rng(5)
    named = []
    for feed_id in range(1, 13):
        _, record = world.record(feed_id, limit=[20, 10, 40][feed_id % 3])
        looker, limit = world.looker(record), int(record["limit"])
        held = Decision.of(record)
        posts = [*held.ordered_ids[::9].tolist(), *generator.choice(world.posts.post_id, 25)]
        for post in map(int, posts):
            found = explain_post(record, world.policy, post, looker.look)
            flip = found.flip
            if flip is None:
                continue
            decision = held
            if post not in held.post_ids:
                decision = with_row(held, looker.look(post).row)
            page = first_page(
                decision, changed(world.policy, flip), limit, acted(decision, flip, post)
            )
            was_on_page = found.position is not None and found.position < limit
            if flip.change == "unfollow_author" and found.sources == ("in_network",):
                assert flip.position is None
            else:
                assert (post in page) != was_on_page, flip
                assert flip.position == (page.index(post) if post in page else None)
            named.append(flip.change.partition(".")[0])
    assert len(named) > 8
    if world.policy.scorer == "ensemble" and world.policy.name == "any":
        assert "weights" in named
    if world.policy.name == "tight":
        assert "quotas" in named


def test_sizes_are_tried_from_small_to_large_and_told(world):
    for feed_id in range(40, 44):
        _, record = world.record(feed_id)
        for item in Decision.of(record).ordered_ids[18:60:5].tolist():
            found = explain_post(record, world.policy, item, world.looker(record).look)
            if found.flip is not None:
                assert found.flips_tried >= 1
                by_viewer = found.flip.after is None
                assert (found.flip.size == 0.0) == by_viewer
                if not by_viewer and found.flip.size != 1.0:
                    change = abs(found.flip.after / found.flip.before - 1.0)
                    assert found.flip.size == pytest.approx(change)


@pytest.fixture
def small(small_home_copy):
    made = World(small_home_copy, ANY)
    yield made
    made.close()


def _control(world, viewer, kind, post):
    """Note a wish or a view of a post in the cache, as an event would."""
    histories, cache = world.service._cache.histories, world.service._cache
    slot = cache.posts.slots_of(np.array([post]))
    histories.apply(
        np.array([cache.viewer_slot(viewer)]), slot, np.array([kind], np.int8),
        np.array([now_us()]),
    )  # fmt: skip


def test_a_wish_that_took_a_post_off_the_page_is_the_smallest_change(small):
    query, record = small.record(1)
    for post in Decision.of(record).ordered_ids[10:20].tolist():
        _control(small, query.viewer_id, EventType.FEWER_OF_AUTHOR, post)
        _, again = small.record(1, viewer=query.viewer_id)
        found = explain_post(again, ANY, post, small.looker(again).look)
        assert found.ledger["mult.viewer_control"] == ANY.controls.fewer
        if found.position is None or found.position >= 20:
            break
    assert (found.flip.change, found.flip.size) == ("lift_wishes", 0.0)


def test_a_post_that_was_seen_comes_back_only_without_the_rule(small):
    query, record = small.record(1)
    post = int(Decision.of(record).ordered_ids[0])
    _control(small, query.viewer_id, EventType.VIEW, post)
    _, record = small.record(2, viewer=query.viewer_id)
    found = explain_post(record, ANY, post, small.looker(record).look)
    assert (found.outcome, found.removed_by) == ("removed", "seen")
    assert (found.flip.change, found.flip.size) == ("drop.seen", None)
    assert found.flip.position is not None


def test_what_is_gone_for_good_has_no_change(small):
    query, record = small.record(1)
    post = int(Decision.of(record).ordered_ids[0])
    small.posts.mark_deleted(np.array([post]))
    _, record = small.record(2, viewer=query.viewer_id)
    found = explain_post(record, ANY, post, small.looker(record).look)
    assert "deleted" in found.rules_now or found.outcome == "not_a_candidate"
    assert (found.flip, found.flips_tried) == (None, 0)


def test_following_counts_with_what_the_ranker_makes_of_it(small):
    """With the ranker at hand a follow changes predictions too, so the answers may differ."""
    flips = {True: [], False: []}
    for feed_id in range(1, 4):
        _, record = small.record(feed_id)
        looker = small.looker(record)
        assert looker.predict is not None
        for post in Decision.of(record).ordered_ids[20:60:2].tolist():
            for with_ranker, answers in flips.items():
                predict = looker.predict if with_ranker else None
                found = explain_post(record, ANY, post, looker.look, predict).flip
                answers.append(found)
    assert any(found is not None and found.change == "follow_author" for found in flips[True])
    assert flips[True] != flips[False]


def test_a_record_of_another_bundle_is_looked_at_with_the_champion(small):
    _, record = small.record(1)
    gone = {**record, "bundle_id": "0" * 16}
    looker = small.looker(gone)
    assert looker.predict is None
    found = explain_post(gone, ANY, int(record["reserve_ids"][-1]), looker.look)
    assert found.bundle_now == record["bundle_id"]
    assert DegradeReason.NO_BUNDLE not in record["reasons"]
    assert replace(found, bundle_now=None).outcome == "reserve"
