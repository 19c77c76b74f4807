"""Choosing the best of many: what sorting would give, also among equals."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contracts.order import largest

FEW_LEVELS = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), max_size=60)


@given(FEW_LEVELS, st.integers(0, 70))
def test_the_largest_are_those_of_a_stable_sort(values, k):
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]
    assert largest(np.array(values, dtype=np.float64), k).tolist() == expected


def test_whole_numbers_stay_exact():
    near = np.array([2**62, 2**62 + 1, 2**62 + 1, 2**62 + 2])
    assert largest(near, 2).tolist() == [3, 1]
