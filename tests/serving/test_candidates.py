"""The candidate table and the merge of what sources found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import PipelineError
from serving.candidates import Candidates, members, merge
from serving.columns import SLOT, SOURCES

found = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 4, 8]), st.lists(st.integers(0, 199), unique=True, max_size=40)
    ),
    max_size=5,
)


def _arrays(parts):
    return [(bit, np.array(slots, dtype=np.int64)) for bit, slots in parts]


@given(found)
def test_merge_keeps_every_post_once_with_all_its_sources(parts):
    table, duplicates = merge(_arrays(parts), 200, 1000)
    expected = {}
    for bit, slots in parts:
        for slot in slots:
            expected[slot] = expected.get(slot, 0) | bit
    slots = table[SLOT].tolist()
    assert dict(zip(slots, table[SOURCES].tolist(), strict=True)) == expected
    assert slots == sorted(slots)
    assert duplicates == sum(len(s) for _, s in parts) - len(expected)


@given(found, st.integers(1, 30))
def test_merge_above_its_limit_keeps_the_best_ranks(parts, limit):
    table, _ = merge(_arrays(parts), 200, limit)
    best = {}
    for _, slots in parts:
        for rank, slot in enumerate(slots):
            best[slot] = min(rank, best.get(slot, rank))
    assert len(table) == min(limit, len(best))
    if len(best) > limit:
        kept = {best[slot] for slot in table[SLOT].tolist()}
        dropped = [rank for slot, rank in best.items() if slot not in set(table[SLOT].tolist())]
        assert max(kept) <= min(dropped)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(PipelineError, match="differ in length"):
        Candidates({"a": np.zeros(2), "b": np.zeros(3)})


def test_a_column_is_written_once():
    table = Candidates({"a": np.zeros(2)})
    with pytest.raises(PipelineError, match="written twice"):
        table.with_columns({"a": np.ones(2)})


@given(st.lists(st.integers(-1, 30), max_size=30), st.lists(st.integers(-1, 30), max_size=30))
def test_members_agree_with_sets_and_minus_one_is_none(values, of):
    found = members(np.array(values, dtype=np.int64), np.array(of, dtype=np.int64))
    assert found.tolist() == [value in of and value >= 0 for value in values]
