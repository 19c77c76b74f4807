"""Candidates, their orders, and the gate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import EventType
from contracts.policy import ACTIONS, Action
from models.base import Family, FloatArray, ItemHistories
from models.blend import RetrievalBlend
from models.normalise import QuantileTable
from training.candidates import Candidates, order_by
from training.dataset import Queries
from training.ensemble import ensemble_lists, shown_queries
from training.evaluate import gate, table, target_slices
from training.labels import Impressions, next_action_labels
from training.metrics import distinct, top_k
from training.recipes.base import item_counts
from training.scoring import Exam, Judged, best_among_few, judge, make_exam, ranked_lists

ROWS = st.lists(st.lists(st.integers(-1, 9), min_size=6, max_size=6), min_size=1, max_size=4)


@given(ROWS)
def test_distinct_keeps_each_once(rows: list[list[int]]) -> None:
    found = distinct(np.array(rows, np.int64))
    for mine, given_ in zip(found.tolist(), rows, strict=True):
        kept = [v for v in mine if v >= 0]
        assert kept == sorted({v for v in given_ if v >= 0})
        assert mine[len(kept) :] == [-1] * (6 - len(kept))


def test_order_breaks_ties_by_row_and_leaves_out_what_has_no_value() -> None:
    rows = np.array([[1, 4, 6, 9, -1]])
    values = np.array([[0.5, 0.9, 0.5, np.nan, 7.0]])
    assert order_by(rows, values, 4).tolist() == [[4, 1, 6, -1]]


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32), k=st.integers(1, 8))
def test_the_best_among_few_are_the_best_of_all_where_that_is_sure(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    raw: dict[Family, FloatArray] = {}
    for family in (Family.COLLABORATIVE, Family.CONTENT, Family.NEIGHBOURS):
        # Tenths tie; some items are hidden from everybody, some not known to a family.
        scores = np.round(generator.normal(size=(20, 200)) ** 3, 1).astype(np.float32)
        scores[generator.random(scores.shape) < 0.1] = np.nan
        raw[family] = scores
    for scores in raw.values():
        scores[:, :10] = -np.inf
    weights = dict(zip(raw, generator.dirichlet([1.0] * 3).tolist(), strict=True))
    blend = RetrievalBlend(weights, {f: QuantileTable.fit(r) for f, r in raw.items()})
    everything = blend.combine(raw)
    expected = np.take_along_axis(everything, top_k(everything, k), axis=1)
    rows, values, sure = best_among_few(blend, raw, k, few=12)
    np.testing.assert_array_equal(values[sure], expected[sure])
    of_all = np.take_along_axis(everything, np.maximum(rows, 0), axis=1)
    np.testing.assert_array_equal(values[sure], of_all[sure])
    assert best_among_few(blend, raw, 1, few=100)[2].any()


def test_the_rest_comes_after_the_union_as_the_blend_has_it() -> None:
    union = Candidates(np.array([[2, 5, -1]]), np.zeros((1, 3, 3), np.float32))
    values = np.array([[0.1, 0.2, np.nan]])
    rest = np.array([[5, 7, 2, 8, 9]])
    assert ensemble_lists(union, values, rest, 4).tolist() == [[5, 2, 7, 8]]


class Fixed:
    """Scores every viewer alike."""

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores, dtype=np.float32)

    def score_all(self, histories: ItemHistories) -> FloatArray:
        return np.tile(self.scores, (len(histories), 1))


@pytest.fixture
def exam(dataset_of: Any) -> Exam:
    click, like = EventType.CLICK, EventType.LIKE
    rows = [(0, 0, 1, click), (0, 1, 5, click), (0, 1, 5, like), (1, 2, 1, click), (1, 0, 6, click)]
    data = dataset_of(rows, n_items=4, created_us=[0, 0, 0, 50])
    one = np.array([1, 4])
    queries = Queries(np.array([0, 1]), np.array([5, 6]), np.array([0, 3]), one, np.array([3, 5]))
    return make_exam(data, queries, item_counts(data.actions, 4))


def test_seen_and_unborn_posts_are_never_ranked(exam: Exam) -> None:
    lists = ranked_lists(exam, Fixed(4.0, 3.0, 2.0, 9.0), 4)
    assert lists.tolist() == [[1, 2, -1, -1], [0, 1, -1, -1]]
    assert exam.ndcg(lists) == 1.0


def judged(exam: Exam, name: str, *scores: float) -> Judged:
    return judge(name, exam, ranked_lists(exam, Fixed(*scores)), target_slices(exam))


def test_table_and_its_differences(exam: Exam) -> None:
    good, bad = (
        judged(exam, "deep", 4.0, 3.0, 2.0, 0.0),
        judged(exam, "popularity", 0.0, 1.0, 2.0, 0.0),
    )
    rows = {row.model: row for row in table("tiny", "by hand", [bad, good], exam, 0)}
    assert rows["deep"].metrics["recall@5"].mean == 1.0
    assert rows["deep"].over_popularity.low > 0.0
    assert rows["popularity"].over_popularity.mean == 0.0
    assert rows["popularity"].over_best_single.high < 0.0
    assert set(rows["deep"].slices) == {"cold", "new_posts"}


def test_the_gate_says_why(exam: Exam) -> None:
    good, bad = judged(exam, "e", 4.0, 3.0, 2.0, 0.0), judged(exam, "p", 0.0, 1.0, 2.0, 0.0)
    first = gate(good, bad, None, 0)
    assert first.promote
    assert first.why.startswith("promoted: the first bundle; NDCG@20 over popularity is 0.")
    assert gate(good, bad, good, 0).why.endswith("no worse for certain")
    assert gate(good, bad, bad, 0).why.endswith("better")
    worse = gate(bad, judged(exam, "p", 0.0, 0.0, 9.0, 0.0), good, 0)
    assert not worse.promote
    same = gate(bad, bad, None, 0)
    assert not same.promote
    assert "not above 0 for certain" in same.why


def test_labels_of_what_comes_next(dataset_of: Any) -> None:
    rows = [(0, 0, 1, EventType.CLICK), (0, 1, 5, EventType.CLICK), (0, 1, 5, EventType.LIKE)]
    data = dataset_of(rows, n_items=3)
    one = np.array([0])
    queries = Queries(one, np.array([5]), one, np.array([1]), np.array([3]))
    labels = next_action_labels(data, queries, np.array([[0, 1, 2, -1]]))
    assert labels[0, :, ACTIONS.index(Action.CLICK)].tolist() == [0, 1, 0, 0]
    assert labels[0, :, ACTIONS.index(Action.LIKE)].tolist() == [0, 1, 0, 0]
    assert np.isnan(labels[0, :, ACTIONS.index(Action.DWELL)]).all()


def test_impressions_of_one_feed_are_one_moment(dataset_of: Any) -> None:
    data = dataset_of([(0, i, i * 10, EventType.CLICK) for i in range(5)])
    labels = np.eye(4, len(ACTIONS), dtype=np.float32)
    impressions = Impressions(
        np.zeros(4, np.int64), np.array([3, 4, 1, 2]), np.array([26, 25, 31, 9]),
        np.array([7, 7, 8, 9]), labels,
    )  # fmt: skip
    shown = shown_queries(data, impressions, most=3)
    assert shown.queries.now_us.tolist() == [25, 31]
    assert shown.queries.cut.tolist() == [3, 4]
    assert shown.rows.tolist() == [[4, 3], [1, -1]]
    assert shown.labels[0, 0].argmax() == 1
