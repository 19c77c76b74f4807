"""Why, why here, why not: told from the record, and for the rest as things stand now."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import HOUR_US, now_us, to_datetime
from contracts.degrade import DegradeLevel, RemovalReason
from contracts.errors import NotFound
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import FeedId, Namespace, UserId
from contracts.policy import Filters, Policy, Selection, fixed_blend, popular
from contracts.query import FeedQuery
from contracts.seeds import unit_interval
from contracts.settings import Settings
from contracts.tables import POSTS_SCHEMA
from contracts.value import fold_parts
from features.workspace import Workspace
from serving.families import VectorFamily
from serving.opening import open_service
from serving.proof.explain import RecordedFeed
from serving.proof.standing import standing
from serving.proof.why_not import Looker
from serving.stages.decision import Decision
from serving.stages.sources import FamilySource
from serving.trace import Trace

TIGHT = Policy(name="tight", quotas=dict.fromkeys(Policy(name="any").quotas, 12))
POLICIES = [
    Policy(name="ensemble"),
    fixed_blend(),
    popular(),
    TIGHT.model_copy(update={"selection": Selection(max_per_author=2, slate=30, topic_decay=0.5)}),
]


class Hidden:
    """An access rule that hides every seventh post."""

    def visible(self, viewer_id, post_ids, author_slots):
        del viewer_id, author_slots
        return post_ids % 7 != 0


class Opened:
    """A service over a copy of the small home, and people who did something."""

    def __init__(self, home, policy, access=None):
        self.workspace = Workspace.open(home)
        settings = Settings(home=home).unhurried()
        self.service = open_service(self.workspace, settings, policy=policy, access=access)
        log = self.workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
        people, counts = np.unique(log, return_counts=True)
        self.people = people[np.argsort(-counts)].tolist()
        self.posts = self.service._cache.posts

    def feed(self, feed_id, viewer=None, limit=20, at=None):
        person = self.people[feed_id % len(self.people)] if viewer is None else viewer
        page = self.service.open(FeedQuery(FeedId(feed_id), UserId(person), at or now_us(), limit))
        self.service._records.flush()
        return page, self.service._record(feed_id)

    def tell(self, *events):
        """Write events (viewer, type, post, target) and wait until feeds know of them."""
        at = to_datetime(now_us())
        first = self.workspace.log.last_seq
        rows = [
            {
                "event_id": 10**15 + first * 10 + k, "type": int(kind), "viewer_id": viewer,
                "post_id": post, "target_id": target, "event_time": at, "known_time": at,
                "known_assumed": True,
            }
            for k, (viewer, kind, post, target) in enumerate(events)
        ]  # fmt: skip
        deleted = [post for _, kind, post, _ in events if kind is EventType.POST_DELETED]
        table = pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)
        done = self.workspace.write(table, deleted_posts=np.array(deleted, dtype=np.int64))
        assert self.service.wait_applied(done.last_seq, 5.0)

    def close(self):
        self.service.close()
        self.workspace.close()


@pytest.fixture
def opened(small_home_copy):
    world = Opened(small_home_copy, Policy(name="ensemble"))
    yield world
    world.close()


@pytest.fixture(scope="module", params=POLICIES, ids=lambda policy: policy.name)
def world(request, small_home, tmp_path_factory):
    """Nobody writes to it: its feeds are explained by many tests."""
    home = shutil.copytree(small_home, tmp_path_factory.mktemp("why") / "home")
    made = Opened(home, request.param)
    made.policy = request.param
    yield made
    made.close()


def refolded(ledger):
    parts = {"term": {}, "mult": {}, "lift": {}}
    for name, value in ledger.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = np.array([value])
    selection = parts["mult"].pop("selection", np.ones(1))
    return float((fold_parts(parts["term"], parts["mult"], parts["lift"]) * selection)[0])


def test_the_ledger_of_every_post_of_the_slate_refolds_to_its_value_bit_for_bit(world):
    page, record = world.feed(1)
    decision = Decision.of(record)
    for place in range(len(decision.slate)):
        post = int(decision.ordered_ids[place])
        found = world.service.explain(1, page.viewer_id, post)
        assert (found.outcome, found.position, found.from_record) == ("served", place, True)
        assert refolded(found.ledger) == found.value
        assert found.actions_since is None
        assert found.sources
        if place < len(page.items):
            assert found.value == page.items[place].value
            assert found.lost_to is None
        if 0 < place < len(page.items):
            ahead = page.items[place - 1]
            assert found.behind["post_id"] == str(ahead.post_id)
            assert found.behind["value_in_place"] == ahead.value - found.value


def test_the_factors_of_every_place_multiply_to_what_selection_did(world):
    for feed_id in range(2, 6):
        _, record = world.feed(feed_id)
        feed = RecordedFeed(Decision.of(record), world.policy)
        pool, slate = feed.arranged.pool, feed.arranged.slate
        for place, row in enumerate(slate.rows.tolist()):
            here = standing(pool, world.policy, slate.rows[:place])
            product = here.author_decay * here.topic_spread * here.likeness * here.mix
            assert product[row] == pytest.approx(slate.multiplier[place], rel=1e-9)
            assert here.values == pytest.approx(pool.values * product)
            assert here.open[row]
            if slate.propensity[place] == 1.0 and place >= record["limit"]:
                best = here.values[here.open].max()
                assert here.values[row] == pytest.approx(best, rel=1e-9)


def test_a_place_that_was_drawn_says_so_and_what_was_worth_more(world):
    drawn = 0
    for feed_id in range(6, 14):
        page, record = world.feed(feed_id)
        chances = np.asarray(record["propensities"])
        for item in page.items[: len(record["slate"])]:
            placed = world.service.explain(feed_id, None, item.post_id).placement
            assert placed.position == item.position
            assert placed.drawn or chances[item.position] == 1.0
            assert placed.propensity == pytest.approx(chances[item.position], abs=1e-6)
            if placed.instead is not None:
                assert placed.instead.by > 0.0
                assert placed.instead.position > item.position
                drawn += placed.drawn
    assert drawn or world.policy.exploration.temperature == 0.0


def test_a_reserve_post_computed_now_is_worth_what_was_recorded(world):
    _, record = world.feed(14)
    reserve = record["reserve_ids"][:40].tolist()
    for place, post in enumerate(reserve):
        found = world.service.explain(14, None, post)
        assert (found.outcome, found.from_record) == ("reserve", True)
        assert found.position == len(record["slate"]) + place
        if found.value_now is not None:
            assert found.actions_since == 0
            assert refolded(found.ledger) == found.value_now
            if world.policy.scorer != "popular":  # a place by velocity hangs on the whole list
                assert np.float32(found.value_now) == np.float32(found.value)
        if place:
            assert found.behind["value_before_selection"] >= 0.0
    assert reserve or world.policy is not POLICIES[0]


def test_why_not_never_fails_for_random_posts(world):
    page, record = world.feed(15)
    ordered = Decision.of(record).ordered_ids.tolist()
    posts = np.random.default_rng(0).choice(world.posts.post_id, 200)
    for post in posts.tolist():
        found = world.service.explain(15, page.viewer_id, int(post))
        assert found.note is None
        assert (found.position is not None) == (post in ordered)
        assert found.ledger
        assert refolded(found.ledger) in {found.value, found.value_now}
        assert (found.position is None) == (found.outcome not in {"served", "reserve"})
        if found.position is None and not found.sources:  # a row of the pool may have no place
            assert len(found.sources_now) == len(world.policy.quotas)
            assert found.actions_since == 0


def rounding_groups(family, rows, vector):
    """Number the places of `rows` [n], best first: one number where rounding may swap neighbours.

    Two ways to add d products in float32 part by at most 2 d u |x| |y| (Higham, 2002, eq. 3.5).
    """
    exact = np.sort(family.scores(rows, vector))[::-1]
    length = np.linalg.norm(family.table.rows[rows], axis=1).max() * np.linalg.norm(vector)
    rounding = len(vector) * np.finfo(np.float32).eps * length
    return np.concatenate([[0], np.cumsum(exact[:-1] - exact[1:] > 2 * rounding)])


def test_every_source_ranks_a_post_where_it_finds_it(world):
    service = world.service
    stages, runtime = service._lineup.champion.pipeline._stages, service._lineup.champion.runtime
    families = {
        source: runtime.families[source._family]
        for source in stages.sources
        if isinstance(source, FamilySource)
    }
    for viewer in world.people[:60:20]:
        query = FeedQuery(FeedId(99), UserId(viewer), now_us(), 20)
        context = service._lineup.champion.pipeline._query(query, world.policy, Trace())
        for source in stages.sources:
            listed = source.find(context, 10_000).tolist()
            wanted = {slot: place for place, slot in enumerate(listed, start=1)}
            ranks = {slot: source.rank_of(context, slot) for slot in range(len(world.posts))}
            assert ranks.keys() - wanted.keys() == {s for s, rank in ranks.items() if not rank}
            placed = [(rank, wanted[slot]) for slot, rank in ranks.items() if rank]
            if listed and isinstance(family := families.get(source), VectorFamily):
                # FAISS adds in another order: posts whose scores rounding may swap can swap.
                vector = context.vectors[source._family]
                group = rounding_groups(family, runtime.rows_of(np.array(listed)), vector)
                assert all(group[rank - 1] == group[found - 1] for rank, found in placed)
                assert len(np.unique(group)) > len(group) // 2
            else:
                assert all(rank == found for rank, found in placed)


def test_what_is_not_a_candidate_is_certain_where_the_record_holds_all(small_home_copy):
    world = Opened(small_home_copy, TIGHT)
    page, record = world.feed(1)
    held = {*Decision.of(record).ordered_ids.tolist(), *record["removed_ids"].tolist()}
    outside = [post for post in world.posts.post_id.tolist() if post not in held]
    for post in outside[::9]:
        found = world.service.explain(1, page.viewer_id, post)
        assert (found.outcome, found.from_record) == ("not_a_candidate", True)
        assert all(s.rank is None or s.rank > s.quota for s in found.sources_now)
        assert found.would_stand is not None
        assert found.value_now > 0.0
    world.close()


def test_a_removed_post_names_its_rule_from_the_record(small_home_copy):
    filters = Filters(max_age_hours=7 * 24.0, inventory_holdout=0.05, match_language=True)
    world = Opened(small_home_copy, Policy(name="strict", filters=filters), access=Hidden())
    viewer, gone = world.people[0], int(world.posts.post_id[40])
    authors = np.unique(world.posts.author_slot)
    ids = world.service._cache.people.person_id
    mine = int(ids[authors[authors >= 0][0]])
    blocked, muted = (int(ids[a]) for a in authors[authors > 8][:2])
    world.tell(
        (viewer, EventType.BLOCK, None, blocked),
        (viewer, EventType.MUTE, None, muted),
        (1, EventType.POST_DELETED, gone, None),
    )
    seen = set()
    for feed_id, who in enumerate((viewer, viewer, mine, mine), start=1):
        _, record = world.feed(feed_id, viewer=who)
        for post, code in zip(record["removed_ids"], record["removed_reasons"], strict=True):
            found = world.service.explain(feed_id, who, int(post))
            word = RemovalReason(int(code)).word
            assert (found.outcome, found.removed_by, found.from_record) == ("removed", word, True)
            assert found.rules_now[0] == word
            seen.add(word)
    world.close()
    assert seen >= {
        "blocked", "muted_author", "seen", "too_old", "not_visible", "inventory_holdout",
        "served_this_session",
    }  # fmt: skip
    assert seen & {"own", "language", "deleted"}


def test_a_rule_is_run_again_where_the_record_keeps_only_a_sample(small_home_copy):
    policy = Policy(name="held out", filters=Filters(inventory_holdout=0.6))
    world = Opened(small_home_copy, policy)
    page, record = world.feed(1)
    assert record["removed_rate"] < 1.0
    posts = world.posts.post_id
    withheld = posts[unit_interval(page.viewer_id, posts, "inventory_holdout") < 0.6]
    beyond = np.setdiff1d(withheld, record["removed_ids"])
    outcomes = [world.service.explain(1, None, int(post)) for post in beyond[:250]]
    told = [e for e in outcomes if e.removed_by == "inventory_holdout"]
    assert len(told) > 20
    assert all((e.outcome, e.from_record) == ("removed", False) for e in told)
    world.close()


def test_a_rule_that_cannot_have_removed_it_then_is_not_blamed(opened):
    page, record = opened.feed(1)
    assert json.loads(record["removed_counts"]).get("blocked") is None
    held = {*Decision.of(record).ordered_ids.tolist(), *record["removed_ids"].tolist()}
    post = next(p for p in opened.posts.post_id.tolist() if p not in held)
    author = int(opened.posts.author_ids(opened.posts.slots_of(np.array([post])))[0])
    opened.tell((page.viewer_id, EventType.BLOCK, None, author))
    found = opened.service.explain(1, None, post)
    assert "blocked" not in found.rules_now


def test_what_the_feed_itself_served_was_not_served_before_it(opened):
    page, record = opened.feed(1)
    service, post = opened.service, page.items[0].post_id
    for feed_id, blamed in ((1, False), (2, True)):
        _, record = (page, record) if feed_id == 1 else opened.feed(2, viewer=page.viewer_id)
        policy = service._policies.by_hash(record["policy_hash"])
        looker = Looker(service._lineup, record, policy, service._served, service._lock)
        rules = looker.look(post).rules
        assert (RemovalReason.SERVED_THIS_SESSION in rules) == blamed


def test_what_came_since_is_counted(opened):
    page, record = opened.feed(1)
    post = int(record["reserve_ids"][-1])
    liked = [item.post_id for item in page.items[:3]]
    opened.tell(*((page.viewer_id, EventType.LIKE, p, None) for p in liked))
    assert opened.service.explain(1, None, post).actions_since == 3


def test_a_deleted_post_is_explained_too(opened):
    page, record = opened.feed(1)
    gone, stays = page.items[2].post_id, int(record["reserve_ids"][3])
    opened.tell(*((1, EventType.POST_DELETED, post, None) for post in (gone, stays)))
    assert opened.service.explain(1, None, gone).position == 2
    assert opened.service.explain(1, None, stays).outcome == "reserve"
    opened.feed(2, viewer=page.viewer_id)
    again = opened.service.explain(2, None, stays)
    assert again.position is None
    assert again.flip is None


def test_a_post_made_after_the_feed_is_not_compared(opened):
    opened.feed(1, at=now_us() - HOUR_US)
    post = int(opened.workspace.ids.intern(Namespace.POST, ["later"])[0])
    at = to_datetime(now_us() - 60 * 10**6)
    row = {
        "post_id": post, "author_id": None, "text": "later", "topics": [], "language": None,
        "created": at, "known": at, "deleted": False,
    }  # fmt: skip
    told = pa.Table.from_pylist(
        [{"event_id": 1, "type": int(EventType.POST_CREATED), "viewer_id": 1, "post_id": post,
          "event_time": at, "known_time": at, "known_assumed": True}], schema=EVENT_SCHEMA,
    )  # fmt: skip
    done = opened.workspace.write(told, posts=pa.Table.from_pylist([row], schema=POSTS_SCHEMA))
    assert opened.service.wait_applied(done.last_seq, 5.0)
    found = opened.service.explain(1, None, post)
    assert (found.outcome, found.note, found.flip) == ("not_a_candidate", "posted_after", None)
    opened.feed(2, viewer=opened.people[1])
    assert opened.service.explain(2, None, post).note is None


def test_what_nobody_knows_is_not_found_or_said_to_be_unknown(opened):
    page, _ = opened.feed(1)
    assert opened.service.explain(1, page.viewer_id, 10**12).note == "unknown_post"
    with pytest.raises(NotFound, match="no record"):
        opened.service.explain(1, page.viewer_id + 1, page.items[0].post_id)
    with pytest.raises(NotFound, match="no record"):
        opened.service.explain(404, None, page.items[0].post_id)


class _Broken:
    def __getattr__(self, name):
        raise RuntimeError(f"{name} is out of order")


def test_a_feed_that_was_not_ranked_says_what_it_was_made_of(opened):
    opened.service._lineup.champion.pipeline._stages.viewer._runtime = _Broken()
    page, _ = opened.feed(1)
    assert page.level in {DegradeLevel.FOLLOWING, DegradeLevel.TRENDING}
    found = opened.service.explain(1, None, page.items[4].post_id)
    assert (found.outcome, found.position, found.note) == ("served", 4, page.level.value)
    absent = np.setdiff1d(opened.posts.post_id, [item.post_id for item in page.items])
    assert opened.service.explain(1, None, int(absent[0])).flip is None


def test_a_part_that_is_out_leaves_what_the_record_says(opened):
    _, record = opened.feed(1)
    stages = opened.service._lineup.champion.pipeline._stages
    stages.scorers[0]._client = _Broken()
    found = opened.service.explain(1, None, int(record["reserve_ids"][-1]))
    assert (found.outcome, found.note, found.value_now) == ("reserve", "not_computed", None)
    stages.viewer._runtime = _Broken()
    found = opened.service.explain(1, None, int(record["reserve_ids"][-1]))
    assert (found.position, found.note) == (found.position, "not_computed")
