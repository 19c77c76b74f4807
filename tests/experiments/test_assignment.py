"""Assignment: the same answer for ever, even shares, and nothing that one layer says of another."""

from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import chi2, kstest

from contracts.errors import InvalidInput
from contracts.query import Assignment
from experiments.assignment import BUCKETS, Arm, Layer, buckets

UNITS = arrays.arrays(np.int64, st.integers(0, 50))
PEOPLE = np.arange(20_000, dtype=np.int64)
GOLDEN = [6454, 8332, 2455, 3496, 3995, 9348]
SALTS = [f"layer-{number}" for number in range(120)]


def layer(*ends: tuple[int, int], salt: str = "bundle") -> Layer:
    arms = [Arm(Assignment("e", f"arm-{k}", 1), *end) for k, end in enumerate(ends)]
    return Layer("bundle", salt, tuple(arms))


def test_golden_vectors_never_change() -> None:
    """Fixed here for ever: another number is another assignment of everybody."""
    found = buckets("bundle", np.array([0, 1, 2, 42, 10**15, -1]))
    assert found.tolist() == GOLDEN


@given(st.text(), UNITS)
def test_a_bucket_is_the_hash_of_the_text(salt: str, units: np.ndarray) -> None:
    told = [
        int.from_bytes(blake2b(f"{salt}:{unit}".encode(), digest_size=8).digest(), "big") % BUCKETS
        for unit in units.tolist()
    ]
    assert buckets(salt, units).tolist() == told


@given(UNITS, st.randoms(use_true_random=False))
def test_a_unit_is_assigned_alike_alone_and_in_any_company(units: np.ndarray, rng) -> None:
    tested = layer((0, 500), (500, 7000))
    order = rng.sample(range(len(units)), len(units))
    assert (tested.places(units)[order] == tested.places(units[order])).all()
    for unit, place in zip(units.tolist(), tested.places(units).tolist(), strict=True):
        alone = tested.assignment(unit)
        assert (alone is None) == (place < 0)
        assert alone is None or alone == tested.arms[place].assignment


@given(st.lists(st.integers(0, BUCKETS), max_size=8), UNITS)
def test_arms_share_the_buckets_out(cuts: list[int], units: np.ndarray) -> None:
    ends = sorted(cuts)
    tested = layer(*zip(ends[::2], ends[1::2], strict=False))
    held = buckets("bundle", units)
    for bucket, place in zip(held.tolist(), tested.places(units).tolist(), strict=True):
        owners = [k for k, arm in enumerate(tested.arms) if arm.first <= bucket < arm.stop]
        assert owners == ([] if place < 0 else [place])


@given(st.integers(0, BUCKETS), st.integers(0, BUCKETS), UNITS)
def test_a_wider_share_only_adds_people(one: int, two: int, units: np.ndarray) -> None:
    narrow, wide = sorted((one, two))
    before, after = (layer((0, stop)).places(units) == 0 for stop in (narrow, wide))
    assert (after | ~before).all()


def p_value(counts: np.ndarray, expected: np.ndarray, freedom: int) -> float:
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), freedom))


def test_buckets_are_uniform_under_every_salt() -> None:
    found = []
    for salt in SALTS:
        counts = np.bincount(buckets(salt, PEOPLE) // 100, minlength=100)
        found.append(p_value(counts, np.full(100, len(PEOPLE) / 100), 99))
    assert kstest(found, "uniform").pvalue > 0.001
    assert min(found) > 1e-5


def test_layers_are_independent_of_each_other() -> None:
    halves = [buckets(salt, PEOPLE) >= BUCKETS // 2 for salt in SALTS]
    found, furthest = [], 0.0
    for one, two in pairwise(halves):
        counts = np.bincount(2 * one + two, minlength=4)
        share = np.array([1 - one.mean(), one.mean()])[:, None] * [1 - two.mean(), two.mean()]
        found.append(p_value(counts, share.ravel() * len(PEOPLE), 1))
        furthest = max(furthest, float(np.abs(counts / len(PEOPLE) - 0.25).max()))
    assert kstest(found, "uniform").pvalue > 0.001
    assert min(found) > 1e-5
    assert furthest < 0.02


def test_a_share_of_five_per_cent_is_five_per_cent() -> None:
    share = (layer((0, 500)).places(np.arange(100_000)) == 0).mean()
    assert share == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("ends", [((0, 500), (499, 600)), ((9, 5),), ((0, 10_001),), ((-1, 5),)])
def test_arms_that_overlap_or_leave_the_layer_are_refused(ends: tuple[tuple[int, int]]) -> None:
    with pytest.raises(InvalidInput, match="'bundle' overlap or leave"):
        layer(*ends)
