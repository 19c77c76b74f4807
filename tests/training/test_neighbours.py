"""Lists of neighbours from closed forms, and how validation chooses among families."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from contracts.events import EventType
from models.base import Family, TrainingContext, TrainingFrame
from models.neighbours import ItemKnn
from training.candidates import Candidates, choose_blend, order_by
from training.config import small_config
from training.dataset import Queries
from training.fitting import Decided, choose_families, fit_models
from training.recipes.base import user_item_matrix
from training.recipes.spectral import (
    ClosedFormConfig,
    ClosedFormRecipe,
    FilterMap,
    RidgeMap,
    nearest,
    spread_of,
)
from training.scoring import Exam, make_exam
from training.stages import StageClock

CONTEXT = TrainingContext(threads=1)


@pytest.fixture(scope="module")
def made_exam(dataset_of: Any, checkerboard: TrainingFrame) -> Exam:
    """The checkerboard's people, asked for their withheld diagonal."""
    return _exam(dataset_of, checkerboard, list(range(checkerboard.n_items)))


@pytest.fixture(scope="module")
def agreeing_exam(dataset_of: Any, checkerboard: TrainingFrame) -> Exam:
    """One of them, asked six times."""
    return _exam(dataset_of, checkerboard, [3] * 6)


def _exam(dataset_of: Any, checkerboard: TrainingFrame, asked: list[int]) -> Exam:
    actions, size = checkerboard.interactions, checkerboard.n_items
    users, items, times = (
        a.tolist() for a in (actions.user_rows, actions.item_rows, actions.times_us)
    )
    rows = [(u, i, t, EventType.CLICK) for u, i, t in zip(users, items, times, strict=True)]
    late = max(times) + 1
    data = dataset_of([*rows, *((u, u, late, EventType.CLICK) for u in range(size))])
    begin, end = data.user_bounds()
    queries = Queries(np.arange(size), np.full(size, late), begin, end - 1, end)
    return make_exam(data, queries[np.array(asked)], np.ones(size, dtype=np.float32))


def test_lists_of_all_items_are_the_sum_of_both_maps(checkerboard: TrainingFrame) -> None:
    config = ClosedFormConfig(neighbours=1000, ridge_weight=0.5)
    model = ClosedFormRecipe(config).fit(checkerboard, CONTEXT)
    matrix = user_item_matrix(checkerboard)
    matrix.data = np.ones_like(matrix.data)
    low = FilterMap.fit(matrix, config.filter, CONTEXT)
    ridge = RidgeMap.fit(matrix, config.ridge, CONTEXT)
    one = csr_array(np.eye(1, checkerboard.n_items, 4, dtype=np.float32))
    summed = low.mapped(one) / spread_of(low, matrix) + 0.5 * ridge.mapped(one) / spread_of(
        ridge, matrix
    )
    listed = np.zeros(checkerboard.n_items)
    there = model.neighbours[4] >= 0
    listed[model.neighbours[4][there]] = model.similarities[4][there]
    summed[0, 4] = 0.0
    np.testing.assert_allclose(listed, np.maximum(summed[0], 0.0), rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 12), most=st.integers(1, 15))
def test_each_list_holds_the_best_and_not_itself(seed: int, n: int, most: int) -> None:
    square = np.random.Generator(np.random.PCG64(seed)).normal(size=(n, n)).astype(np.float32)
    items, values = nearest(lambda rows: rows.toarray() @ square, n, most)
    for item in range(n):
        others = [(-float(v), j) for j, v in enumerate(square[item]) if j != item and v > 0]
        best = sorted(others)[:most]
        assert items[item][items[item] >= 0].tolist() == [j for _, j in best]
        np.testing.assert_allclose(values[item][: len(best)], [-v for v, _ in best], rtol=1e-6)
        assert (values[item][len(best) :] == 0.0).all()


def test_the_second_fit_makes_the_chosen_lists_alone(checkerboard: TrainingFrame) -> None:
    config = small_config().model_copy(update={"closed_form": ClosedFormConfig(neighbours=5)})
    first = fit_models(checkerboard, config, StageClock())
    assert set(first.neighbours) == {"item_knn", "closed_form"}
    clock = StageClock()
    again = fit_models(checkerboard, config, clock, decided=Decided(1, "closed_form"))
    assert set(again.neighbours) == {"closed_form"}
    assert not any(cost.name.startswith("item_knn") for cost in clock.costs)


def test_validation_picks_the_better_lists(made_exam: Exam, checkerboard: TrainingFrame) -> None:
    right = fit_models(checkerboard, small_config(), StageClock())
    knn = right.neighbours["item_knn"]
    upside_down = ItemKnn("closed_form", knn.neighbours[:, ::-1], knn.similarities)
    silent = ItemKnn("closed_form", np.full_like(knn.neighbours, -1), 0 * knn.similarities)
    for worse in (upside_down, silent):
        both = replace(right, neighbours={"closed_form": worse, "item_knn": knn})
        choice = choose_families(both, made_exam, small_config())
        scores = choice.validation
        best = max(("closed_form", "item_knn"), key=lambda n: scores[f"neighbours, {n}"])
        assert choice.neighbours == best
    assert choice.neighbours == "item_knn"


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_where_people_agree_the_blend_is_no_worse_than_any_family(
    seed: int, agreeing_exam: Exam
) -> None:
    one = _noise(seed, 1, agreeing_exam.n_items)
    queries = len(agreeing_exam)
    candidates = Candidates(one.rows.repeat(queries, 0), one.scores.repeat(queries, 0))
    weights = dict(choose_blend(agreeing_exam, candidates, {}).weights)

    def reached(weights: dict[Family, float]) -> float:
        vector = np.array([weights[family] for family in Family])
        ranked = order_by(candidates.rows, candidates.scores @ vector, 20)
        return float(agreeing_exam.ndcg(ranked))

    for family in Family:
        alone = {other: float(other is family) for other in Family}
        assert reached(weights) >= reached(alone)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_where_people_differ_the_blend_is_the_mean_of_many_choices(
    seed: int, made_exam: Exam
) -> None:
    candidates = _noise(seed, len(made_exam), made_exam.n_items)
    first, again = (choose_blend(made_exam, candidates, {}, seed=7).weights for _ in range(2))
    assert first == again
    assert abs(sum(first.values()) - 1.0) < 1e-9
    assert min(first.values()) >= 0.0
    assert any(round(10 * w, 6) % 1 for w in first.values())  # no one choice in tenths


def _noise(seed: int, queries: int, n: int) -> Candidates:
    scores = np.random.default_rng(seed).random((queries, n, len(Family))).astype(np.float32)
    return Candidates(np.tile(np.arange(n), (queries, 1)), scores)
