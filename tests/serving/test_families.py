"""Families as serving asks them: lists of neighbours say what the model says offline."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.neighbours import ItemKnn
from serving.families import NeighbourFamily
from training.recipes.laws import histories_of

N, K = 9, 4


def lists(seed: int) -> ItemKnn:
    """Make lists of random length over N items."""
    generator = np.random.Generator(np.random.PCG64(seed))
    near = np.array([generator.permutation(N)[:K] for _ in range(N)], dtype=np.int32)
    values = -np.sort(-generator.random((N, K)).astype(np.float32), axis=1) + 0.1
    cut = np.arange(K)[None, :] >= generator.integers(0, K + 1, N)[:, None]
    return ItemKnn("item_knn", np.where(cut, -1, near), np.where(cut, 0.0, values))


@given(seed=st.integers(0, 2**32), history=st.lists(st.integers(0, N + 2), max_size=6, unique=True))
def test_asked_as_offline(seed: int, history: list[int]) -> None:
    family = NeighbourFamily(lists(seed))
    asked = histories_of(history)
    offline = family.model.score_all(asked)[0]
    viewer = family.fold_in(asked)
    if viewer is None:
        assert np.isnan(offline).all()
        return
    rows = np.arange(-1, N + 3)
    expected = np.concatenate([[np.nan], offline, [np.nan] * 3])
    np.testing.assert_array_equal(family.scores(rows, viewer), expected)
    known = np.flatnonzero(np.isfinite(offline))
    best = known[np.lexsort((known, -offline[known]))]
    assert family.search(viewer, 3).tolist() == best[:3].tolist()
    assert family.search(viewer, 100).tolist() == best.tolist()


@given(seed=st.integers(0, 2**32), history=st.lists(st.integers(-1, N + 2), min_size=1, max_size=6))
def test_the_strongest_action_is_named(seed: int, history: list[int]) -> None:
    family, rows = NeighbourFamily(lists(seed)), np.array(history)
    near, values = family.model.neighbours, family.model.similarities
    found = np.unique(near[rows[(rows >= 0) & (rows < N)]])
    found = found[found >= 0].astype(np.int64)
    for item, place in zip(found, family.strongest(rows, found), strict=True):
        says = {
            at: float(values[row][near[row] == item][0])
            for at, row in enumerate(history)
            if 0 <= row < N and item in near[row]
        }
        assert place == max(says, key=lambda at: (says[at], at))


def test_nobody_speaks_for_what_is_in_no_list() -> None:
    family = NeighbourFamily(lists(1))
    nothing = np.full((N, K), -1, dtype=np.int32)
    silent = NeighbourFamily(ItemKnn("item_knn", nothing, np.zeros((N, K), np.float32)))
    assert silent.strongest(np.array([0, 1]), np.array([3])).tolist() == [-1]
    assert len(family.strongest(np.array([0]), np.empty(0, dtype=np.int64))) == 0
