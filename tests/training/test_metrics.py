"""Metrics by hand and against loops."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset import Ragged
from training.metrics import (
    KS,
    auc,
    calibration_error,
    gini,
    hits,
    list_metrics,
    log_loss,
    per_user,
    ranking_metrics,
    top_k,
)
from training.scoring import chunks


def ragged(lists: list[list[int]]) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    return Ragged(np.array([v for row in lists for v in row], np.int64), offsets)


def judge(ranked: list[list[int]], targets: list[list[int]]) -> dict[str, np.ndarray]:
    lists = np.full((len(ranked), 50), -1, dtype=np.int64)
    for row, values in enumerate(ranked):
        lists[row, : len(values)] = values
    wanted = ragged(targets)
    return ranking_metrics(hits(lists, wanted, 1000), wanted.lengths)


def test_by_hand() -> None:
    # Ranks 1 and 4 are hits of three targets.
    found = judge([[7, 1, 2, 8, 3]], [[7, 8, 9]])
    dcg = 1.0 + 1.0 / log2(5)
    ideal = 1.0 + 1.0 / log2(3) + 1.0 / log2(4)
    assert found["recall@5"][0] == pytest.approx(2 / 3)
    assert found["ndcg@5"][0] == pytest.approx(dcg / ideal)
    assert found["hr@5"][0] == 1.0
    assert found["mrr@5"][0] == 1.0


def test_first_hit_late_and_cut_off() -> None:
    found = judge([[0, 1, 2, 3, 4, 5, 9]], [[9]])
    assert found["mrr@10"][0] == pytest.approx(1 / 7)
    assert found["ndcg@10"][0] == pytest.approx(1 / log2(8))
    assert found["hr@5"][0] == found["mrr@5"][0] == found["recall@5"][0] == 0.0


def test_ideal_stops_at_k() -> None:
    assert judge([list(range(5))], [list(range(8))])["ndcg@5"][0] == pytest.approx(1.0)
    assert judge([list(range(5))], [list(range(8))])["recall@5"][0] == pytest.approx(5 / 8)


def test_no_target_is_no_value() -> None:
    assert all(np.isnan(v[0]) for v in judge([[1, 2]], [[]]).values())


def test_padding_is_never_a_hit() -> None:
    assert not hits(np.array([[-1, 3]]), ragged([[999]]), 1000).any()


def loop(ranked: list[int], targets: list[int], k: int) -> tuple[float, float, float, float]:
    found = [place for place, item in enumerate(ranked[:k], 1) if item in targets]
    ideal = sum(1 / log2(p + 1) for p in range(1, min(k, len(targets)) + 1))
    return (
        len(found) / len(targets),
        sum(1 / log2(p + 1) for p in found) / ideal,
        float(bool(found)),
        1 / found[0] if found else 0.0,
    )


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.permutations(range(60)),
            st.lists(st.integers(0, 70), min_size=1, max_size=20, unique=True),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_equals_the_loop(cases: list[tuple[list[int], list[int]]]) -> None:
    found = judge([order[:50] for order, _ in cases], [sorted(t) for _, t in cases])
    for row, (order, targets) in enumerate(cases):
        for k in KS:
            expected = loop(order, targets, k)
            mine = [found[f"{m}@{k}"][row] for m in ("recall", "ndcg", "hr", "mrr")]
            assert mine == pytest.approx(expected)


def test_top_k_breaks_ties_by_row_and_skips_what_is_masked() -> None:
    scores = np.array([[0.5, np.nan, 0.9, 0.5, -np.inf]], dtype=np.float32)
    assert top_k(scores, 4).tolist() == [[2, 0, 3, -1]]
    assert top_k(scores, 7).tolist() == [[2, 0, 3, -1, -1, -1, -1]]


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30)
    | st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=20, max_size=60),
    st.integers(1, 12),
)
def test_top_k_equals_sorting_also_among_equals(values: list[float], k: int) -> None:
    both = [values, values[::-1]]
    best = top_k(np.array(both, dtype=np.float32), k)
    for own, row in zip(both, best, strict=True):
        expected = sorted(range(len(own)), key=lambda i: (-own[i], i))[:k]
        assert row[row >= 0].tolist() == expected


def test_lists_by_hand() -> None:
    ranked = np.full((2, 50), -1, dtype=np.int64)
    ranked[0, :5], ranked[1, :5] = [0, 1, 2, 3, 4], [0, 1, 2, 3, 5]
    found = list_metrics(ranked, np.array([10, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32))
    assert found["coverage@5"] == pytest.approx(6 / 8)
    assert found["popularity_bias@5"] == pytest.approx((20 / 10) / (10 / 8))
    bits = (2 * -log2(11 / 18) + 8 * -log2(1 / 18)) / 10
    assert found["novelty@5"] == pytest.approx(bits)


def test_gini_by_hand() -> None:
    assert gini(np.array([1.0, 1.0, 1.0])) == pytest.approx(0.0)
    assert gini(np.array([0.0, 0.0, 0.0, 8.0])) == pytest.approx(0.75)
    assert gini(np.array([0.0, 0.0])) == 0.0
    # Pairs differ by 1, 2, 1: mean absolute difference 8/9 over twice the mean 2.
    assert gini(np.array([3.0, 1.0, 2.0])) == pytest.approx(8 / 9 / 4)


def test_people_count_once() -> None:
    values = per_user({"m": np.array([1.0, 0.0, np.nan, 0.5])}, np.array([4, 4, 9, 7]))
    np.testing.assert_array_equal(values["m"], [0.5, 0.5, np.nan])


def test_auc_by_hand_and_ties() -> None:
    labels = np.array([True, False, True, False])
    assert auc(labels, np.array([0.9, 0.8, 0.7, 0.1], np.float32)) == pytest.approx(3 / 4)
    assert auc(labels, np.full(4, 0.5, np.float32)) == pytest.approx(0.5)
    assert np.isnan(auc(np.array([True]), np.array([0.5], np.float32)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_equals_the_pairs(rows: list[tuple[bool, int]]) -> None:
    labels = np.array([r[0] for r in rows])
    scores = np.array([r[1] for r in rows], dtype=np.float32)
    pairs = [
        1.0 if p > n else 0.5 if p == n else 0.0 for p in scores[labels] for n in scores[~labels]
    ]
    if pairs:
        assert auc(labels, scores) == pytest.approx(float(np.mean(pairs)))


def test_log_loss_by_hand() -> None:
    labels = np.array([True, False])
    expected = -(np.log(0.8) + np.log(0.5)) / 2
    assert log_loss(labels, np.array([0.8, 0.5], np.float32)) == pytest.approx(expected, rel=1e-6)


def test_calibration_error_by_hand() -> None:
    # Two bins of two: means 0.1 against 0, 0.8 against 0.5.
    guess = np.array([0.1, 0.1, 0.8, 0.8], np.float32)
    labels = np.array([False, False, True, False])
    assert calibration_error(labels, guess, bins=2) == pytest.approx(0.2, abs=1e-6)
    assert calibration_error(np.array([True]), np.array([1.0], np.float32)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("n_items", "size"), [(1, 512), (65_536, 512), (1 << 20, 32), (1 << 26, 1)]
)
def test_scores_held_at_a_time_are_bounded(n_items, size):
    parts = chunks(1000, n_items)
    assert [part.stop - part.start for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert sum(part.stop - part.start for part in parts) == 1000
