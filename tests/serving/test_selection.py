"""Selection: order, decay, caps and the mix, over random pools."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.ids import FeedId, UserId
from contracts.policy import ColdStart, Exploration, Mix, Policy, Selection
from contracts.query import FeedQuery
from serving.candidates import Candidates
from serving.columns import AUTHOR, IMPRESSIONS, IN_NETWORK, POSITIVES, POST_ID, SLOT, TOPIC
from serving.stages.selection import SlateSelector, by_value, choose_pool
from serving.stages.slate import decay_table

GREEDY = Exploration(temperature=0.0)

rows = st.lists(
    st.tuples(
        st.floats(1e-6, 10), st.integers(-1, 5), st.integers(-1, 4), st.booleans()
    ),
    min_size=1, max_size=120,
)  # fmt: skip


def _table(drawn):
    values, authors, topics, followed = (np.array(column) for column in zip(*drawn, strict=True))
    n = len(drawn)
    table = Candidates(
        {
            POST_ID: np.arange(100, 100 + n, dtype=np.int64),
            AUTHOR: authors.astype(np.int64),
            TOPIC: topics.astype(np.int32),
            IN_NETWORK: followed.astype(bool),
            SLOT: np.arange(n, dtype=np.int64),
            IMPRESSIONS: np.where(np.arange(n) % 4 == 0, 0.0, 50.0).astype(np.float32),
            POSITIVES: np.zeros(n, np.float32),
        }
    )
    return table, values.astype(np.float64)


class _Context:
    """Selection reads nothing of a context but query and policy."""

    def __init__(self, policy, feed_id=1):
        self.policy = policy
        self.query = FeedQuery(FeedId(feed_id), UserId(2), 1_000_000, 20)


def _codes(slots):
    return (slots.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)


def _select(drawn, feed_id=1, **changes):
    policy = Policy(name="p", **changes)
    table, values = _table(drawn)
    return table, values, SlateSelector(_codes).select(_Context(policy, feed_id), table, values)


@given(rows)
def test_slate_and_reserve_share_no_row(drawn):
    _, values, selected = _select(drawn)
    both = np.concatenate([selected.slate, selected.reserve])
    assert len(set(both.tolist())) == len(both)
    assert len(selected.multiplier) == len(selected.slate)
    assert len(both) <= len(values)


@given(rows)
def test_no_author_exceeds_the_cap(drawn):
    cap = 2
    table, _, selected = _select(drawn, selection=Selection(max_per_author=cap))
    authors = table[AUTHOR][selected.slate]
    known = authors[authors >= 0]
    assert not len(known) or np.bincount(known).max() <= cap


@settings(max_examples=50)
@given(rows)
def test_each_slot_takes_the_best_value_after_decay(drawn):
    rules = Selection(
        max_per_author=200, author_decay=0.5, topic_decay=0.8, relevance=1.0, pool=400
    )
    free = Mix(followed_min=0.0, followed_target=0.5, followed_max=1.0, pull=0.0)
    table, values, selected = _select(drawn, selection=rules, mix=free, exploration=GREEDY)
    authors, topics = table[AUTHOR].tolist(), table[TOPIC].tolist()
    by_author = decay_table(rules.author_decay, rules.author_floor, 200)
    by_topic = decay_table(rules.topic_decay, rules.topic_floor, 200)
    seen_authors, seen_topics, left = {}, {}, set(range(len(values)))

    def now(row):
        a = by_author[seen_authors.get(authors[row], 0)] if authors[row] >= 0 else 1.0
        t = by_topic[seen_topics.get(topics[row], 0)] if topics[row] >= 0 else 1.0
        return values[row] * a * t

    for row, multiplier in zip(selected.slate.tolist(), selected.multiplier.tolist(), strict=True):
        assert now(row) >= max(now(other) for other in left) * (1 - 1e-12)
        assert np.isclose(multiplier * values[row], now(row), rtol=1e-12)
        left.discard(row)
        seen_authors[authors[row]] = seen_authors.get(authors[row], 0) + 1
        seen_topics[topics[row]] = seen_topics.get(topics[row], 0) + 1


@given(rows)
def test_the_mix_holds_at_every_slot_while_both_sides_have_posts(drawn):
    mix = Mix(followed_min=0.3, followed_target=0.5, followed_max=0.6)
    table, _, selected = _select(
        drawn, mix=mix, selection=Selection(max_per_author=200, pool=400), exploration=GREEDY
    )
    followed = table[IN_NETWORK][selected.slate]
    total = int(table[IN_NETWORK].sum())
    for slot in range(len(followed)):
        taken = int(followed[: slot + 1].sum())
        if taken < total and slot + 1 - taken < len(table) - total:
            assert taken >= np.floor(mix.followed_min * (slot + 1))
            assert taken <= np.ceil(mix.followed_max * (slot + 1))


def test_ties_break_by_post_id_and_unusable_values_are_left_out():
    values = np.array([1.0, np.nan, 1.0, np.inf, 2.0])
    ids = np.array([9, 1, 3, 2, 7])
    assert by_value(values, ids).tolist() == [4, 2, 0]


@given(rows)
def test_drawn_slots_say_their_chance_and_keep_the_budget(drawn):
    _, _, selected = _select(drawn)
    chances = selected.chosen.propensity
    assert len(chances) == len(selected.slate)
    assert ((chances > 0.0) & (chances <= 1.0)).all()
    assert (chances[20:] == 1.0).all()
    assert selected.chosen.kept_value >= 0.98


@given(rows, st.integers(1, 50))
def test_one_seed_gives_one_slate(drawn, feed_id):
    _, _, one = _select(drawn, feed_id)
    _, _, other = _select(drawn, feed_id)
    assert np.array_equal(one.slate, other.slate)
    assert np.array_equal(one.chosen.propensity, other.chosen.propensity)


def test_equal_values_are_drawn_evenly():
    drawn = [(1.0, -1, -1, False)] * 6
    plain = Policy(name="p", cold_start=ColdStart(slots=()), selection=Selection(relevance=1.0))
    table, values = _table(drawn)
    first = [
        int(SlateSelector(_codes).select(_Context(plain, feed), table, values).slate[0])
        for feed in range(1200)
    ]
    assert np.abs(np.bincount(first, minlength=6) - 200).max() < 60


def test_a_new_post_is_tried_in_its_slot_and_nowhere_else():
    drawn = [(1.0 - k / 100, -1, -1, False) for k in range(40)]
    still = Exploration(temperature=0.001, choices=1)
    table, values = _table(drawn)
    values[table[IMPRESSIONS] == 0.0] = 0.3
    policy = Policy(name="p", exploration=still, selection=Selection(relevance=1.0))
    hits = []
    for feed in range(300):
        slate = SlateSelector(_codes).select(_Context(policy, feed), table, values).slate
        new = table[IMPRESSIONS][slate[:20]] == 0.0
        assert not new[[s for s in range(20) if s not in policy.cold_start.slots]].any()
        hits.append(new[list(policy.cold_start.slots)])
    share = np.mean(hits, axis=0)
    assert (share > 0.02).all()
    assert (share < 0.2).all()


def test_the_pool_holds_what_mix_and_trials_ask_for():
    n = 1000
    order = np.arange(n)
    followed = np.zeros(n, bool)
    followed[900:] = True
    cold = np.zeros(n, bool)
    cold[500:520] = True
    policy = Policy(name="p")
    pool = choose_pool(order, followed, cold, policy)
    assert len(pool) == policy.selection.pool
    assert followed[pool].sum() == 20
    assert cold[pool].sum() == policy.cold_start.candidates
    assert (np.diff(pool) > 0).all()
    assert set(range(70)) <= set(pool.tolist())


def test_likeness_spreads_a_slate():
    drawn = [(1.0, -1, -1, False), (0.99, -1, -1, False), (0.9, -1, -1, False)]
    table, values = _table(drawn)
    policy = Policy(name="p", exploration=GREEDY, selection=Selection(relevance=0.5))
    twins = np.array([7, 7, ~np.uint64(7)], dtype=np.uint64)
    slate = SlateSelector(lambda slots: twins[slots]).select(_Context(policy), table, values).slate
    assert slate.tolist() == [0, 2, 1]


@given(rows)
def test_no_row_is_taken_twice_however_much_likeness_costs(drawn):
    _, _, selected = _select(drawn, selection=Selection(relevance=0.0))
    assert len(set(selected.slate.tolist())) == len(selected.slate)
    assert np.isfinite(selected.multiplier).all()


def test_the_first_slot_may_take_a_followed_post():
    drawn = [(2.0, -1, -1, True), (1.0, -1, -1, False), (0.5, -1, -1, False)]
    _, _, selected = _select(drawn, exploration=GREEDY)
    assert selected.slate[0] == 0
