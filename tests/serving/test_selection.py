"""Selection: order, decay, caps and the mix, over random pools."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.policy import Mix, Policy, Selection
from serving.candidates import AUTHOR, IN_NETWORK, POST_ID, TOPIC, Candidates
from serving.selection import SlateSelector, by_value, decay_table

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
        }
    )
    return table, values.astype(np.float64)


class _Context:
    """Selection reads nothing of a context but the policy."""

    def __init__(self, policy):
        self.policy = policy


def _select(drawn, **changes):
    policy = Policy(name="p", **changes)
    table, values = _table(drawn)
    return table, values, SlateSelector().select(_Context(policy), table, values)


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
    rules = Selection(max_per_author=200, author_decay=0.5, topic_decay=0.8)
    free = Mix(followed_min=0.0, followed_target=0.5, followed_max=1.0)
    table, values, selected = _select(drawn, selection=rules, mix=free)
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
    table, _, selected = _select(drawn, mix=mix, selection=Selection(max_per_author=200))
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
