"""Quantile tables: monotone, in [0, 1], and fine at the top where feeds choose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import Family
from models.blend import RetrievalBlend
from models.normalise import QuantileTable

FINITE = st.floats(-1e6, 1e6, width=32)


@given(st.lists(FINITE, min_size=2, max_size=200), st.lists(FINITE, min_size=2, max_size=30))
def test_monotone_and_bounded(sample: list[float], asked: list[float]) -> None:
    table = QuantileTable.fit(np.array(sample, np.float32))
    ordered = np.sort(np.array(asked, np.float32))
    mapped = table.apply(ordered)
    assert (np.diff(mapped) >= 0).all()
    assert (mapped >= 0).all()
    assert (mapped <= 1).all()


def test_the_level_is_the_log_of_the_tail() -> None:
    n = 100_000
    table = QuantileTable.fit(np.arange(n, dtype=np.float32))
    for reached_by in (10, 100, 1000, 10_000):
        expected = np.log(reached_by / n) / np.log(1 / n)
        mapped = table.apply(np.array([n - reached_by], np.float32))[0]
        assert mapped == pytest.approx(expected, abs=0.01)


def test_the_best_few_stay_apart_in_float16() -> None:
    scores = np.random.Generator(np.random.PCG64(0)).normal(size=100_000).astype(np.float32)
    table = QuantileTable.fit(scores)
    best = np.sort(scores)[-350:]
    assert len(np.unique(table.apply(best).astype(np.float16))) > 250


def test_missing_stays_missing_and_ends_are_kept() -> None:
    table = QuantileTable.fit(np.array([1.0, 2.0, np.nan, 3.0], np.float32))
    mapped = table.apply(np.array([np.nan, -9.0, 9.0], np.float32))
    assert np.isnan(mapped[0])
    assert mapped[1:].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("sample", [[], [5.0], [2.0, 2.0, 2.0]])
def test_too_little_to_fit_still_maps(sample: list[float]) -> None:
    mapped = QuantileTable.fit(np.array(sample, np.float32)).apply(np.array([2.0], np.float32))
    assert np.isfinite(mapped).all()


def test_blend_leaves_out_what_is_missing() -> None:
    table = QuantileTable(np.array([0.0, 1.0], np.float32), np.array([0.0, 1.0], np.float32))
    blend = RetrievalBlend(
        {Family.COLLABORATIVE: 0.5, Family.CONTENT: 0.3, Family.DEEP: 0.2},
        dict.fromkeys(Family, table),
    )
    nan = np.nan
    total = blend.combine(
        {
            Family.COLLABORATIVE: np.array([1.0, nan, nan], np.float32),
            Family.CONTENT: np.array([0.5, 1.0, nan], np.float32),
            Family.DEEP: np.array([0.0, nan, nan], np.float32),
        }
    )
    assert total[:2].tolist() == pytest.approx([0.65, 0.3])
    assert np.isnan(total[2])
