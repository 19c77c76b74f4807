"""Spectral members and the second look: against their definitions, and never worse unseen."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.base import TrainingContext
from training.dataset import Ragged
from training.protocols.blend import Blend, choose, objective, pooled
from training.protocols.evidence import COLUMNS, Evidence
from training.protocols.exam import judged, people_with_targets, ranked
from training.protocols.members import Popular, Walk
from training.protocols.rerank import Lists, Reranking, fit_reranker
from training.protocols.spectral import GraphFilter, SpectralEase, UserKnn, directions
from training.protocols.split import Split, from_pairs, hold_out, hold_out_near
from training.recipes.spectral import FilterConfig, RidgeConfig

PEOPLE, ITEMS = 120, 30
CONTEXT = TrainingContext(threads=1)


@pytest.fixture(scope="module")
def split() -> Split:
    """Six groups of people with five items each, and some noise; a fifth held out."""
    generator = np.random.Generator(np.random.PCG64(5))
    chance = np.full((PEOPLE, ITEMS), 0.08)
    chance[np.arange(PEOPLE)[:, None] % 6 == np.arange(ITEMS)[None, :] // 5] = 0.85
    people, items = np.nonzero(generator.random((PEOPLE, ITEMS)) < chance)
    learned = from_pairs(people, items, PEOPLE)
    nothing = Ragged(np.empty(0, dtype=np.int64), np.zeros(PEOPLE + 1, dtype=np.int64))
    return hold_out(Split("made", ITEMS, learned, learned, nothing), 0.3)


def everybody(split: Split) -> np.ndarray:
    return np.arange(split.n_people)


def test_spectral_ease_is_ease_where_directions_are_many(split):
    matrix = split.matrix().toarray().astype(np.float64)
    x = matrix * np.maximum(matrix.sum(axis=1, keepdims=True), 1.0) ** -0.25
    inverse = np.linalg.inv(x.T @ x + 5.0 * np.eye(ITEMS))
    exact = matrix @ (np.eye(ITEMS) - inverse / np.diag(inverse))
    scale = exact[matrix == 0].std()
    errors = []
    for rank in (6, 14, ITEMS - 1):
        found = SpectralEase(config=RidgeConfig(ridge=5.0, rank=rank)).fit(split, CONTEXT)
        wrong = found.scores(split, everybody(split))[matrix == 0] - exact[matrix == 0]
        errors.append(np.sqrt((wrong**2).mean()) / scale)
    assert errors[-1] < 0.01
    assert errors[0] < 0.2
    assert errors == sorted(errors, reverse=True)


def test_the_filter_is_its_polynomial_of_the_item_graph(split):
    matrix = split.matrix().toarray().astype(np.float64)
    people = np.maximum(matrix.sum(axis=0), 1.0)
    scaled = matrix / np.sqrt(np.maximum(matrix.sum(axis=1, keepdims=True), 1.0) * people)
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    step = -2.5 * values
    pace = 1 + step + step**2 / 2 + step**3 / 6 + step**4 / 24
    kept = vectors[:, -4:]
    low = (kept / np.sqrt(people)[:, None]) @ (kept * np.sqrt(people)[:, None]).T
    expected = matrix @ (vectors * (values * pace)) @ vectors.T + 0.3 * matrix @ low
    member = GraphFilter(config=FilterConfig(rank=ITEMS - 1, low_pass_rank=4))
    found = member.fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.01)


def test_the_people_most_like_one_vote(split):
    matrix = split.matrix().toarray().astype(np.float64)
    weighed = matrix * np.maximum(matrix.sum(axis=0), 1.0) ** -0.3
    unit = weighed / np.linalg.norm(weighed, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, 0.0)
    votes = matrix * np.maximum(matrix.sum(axis=1, keepdims=True), 1.0) ** -0.25
    fitted = UserKnn(neighbours=PEOPLE).fit(split, CONTEXT)
    found = fitted.scores(split, everybody(split))
    np.testing.assert_allclose(found, cosine @ votes, rtol=1e-4, atol=1e-5)
    few = UserKnn(neighbours=10).fit(split, CONTEXT).near.toarray()
    assert ((few > 0).sum(axis=1) <= 10).all()
    np.testing.assert_allclose(np.sort(few)[:, -10:], np.sort(cosine)[:, -10:], rtol=1e-4)


def test_evidence_names_the_closest_items_and_people(split):
    matrix = split.matrix().toarray().astype(np.float64)
    counts = np.maximum(matrix.sum(axis=0), 1.0)
    common = matrix.T @ matrix
    items = np.array([[0, 7, -1], [29, 3, 12]])
    people = np.array([4, 9])
    found = Evidence(split, CONTEXT, rank=8).of(people, items)
    assert found.shape == (2, 3, COLUMNS)
    assert np.isfinite(found).all()
    assert (found[0, 2] == 0).all()
    for row, person in enumerate(people):
        history = np.flatnonzero(matrix[person])
        for place, item in enumerate(items[row]):
            if item < 0:
                continue
            cosine = np.sort(common[history, item] / np.sqrt(counts[history] * counts[item]))[::-1]
            follows = np.sort(common[history, item] / counts[history])[::-1]
            expected = [cosine[0], cosine[1], None, follows[0], follows[1]]
            for column, value in enumerate(expected):
                if value is not None:
                    assert found[row, place, column] == pytest.approx(np.log1p(20 * value), 1e-4)
            assert found[row, place, 6] == pytest.approx(np.log1p(20 * follows.mean()), 1e-4)


def test_evidence_of_somebody_without_history_is_finite():
    nothing = from_pairs(np.array([1, 1, 2]), np.array([0, 1, 1]), 3)
    made = Split("made", 3, nothing, nothing, nothing)
    found = Evidence(made, CONTEXT, rank=2).of(np.array([0]), np.array([[0, 1, 2]]))
    assert np.isfinite(found).all()


def test_held_out_items_lie_together_and_nothing_is_lost(split):
    def closeness(cut: Split) -> float:
        own = vectors[cut.targets.values]
        total = np.zeros((PEOPLE, own.shape[1]))
        np.add.at(total, cut.targets.owners, own)
        lengths = cut.targets.lengths
        several = lengths > 1
        pairs = ((total**2).sum(axis=1) - lengths)[several] / (lengths * (lengths - 1))[several]
        return float(pairs.mean())

    vectors = directions(split, rank=8)
    near = hold_out_near(split, vectors, 0.4, chance=0.0)
    for whole, stays, goes in zip(
        *(np.split(part.values, part.offsets[1:-1])
          for part in (split.learned, near.learned, near.targets)), strict=True,
    ):  # fmt: skip
        assert sorted([*stays, *goes]) == sorted(whole)
        assert abs(len(goes) - 0.4 * len(whole)) <= 0.5
    assert closeness(near) > closeness(hold_out(split, 0.4)) + 0.1
    assert closeness(near) > closeness(hold_out_near(split, vectors, 0.4, chance=5.0))


def blended(split: Split) -> tuple[Blend, dict]:
    fitted = {m.name: m.fit(split, CONTEXT) for m in (Walk("walk"), Popular())}
    pool = pooled(split, fitted, people_with_targets(split), {"walk": 20, "popularity": 20})
    return choose(pool, list(fitted), (5,)), fitted


def test_a_second_look_gains_where_the_blend_misses_what_evidence_shows(split):
    _, fitted = blended(split)
    poor = Blend({"walk": 0.0, "popularity": 1.0}, {"walk": 1.0, "popularity": 1.0})
    lists = Lists(split, poor, fitted, Evidence(split, CONTEXT, rank=8))
    config = Reranking(items=20, hidden=8, networks=1, evidence=True)
    people = people_with_targets(split)
    found, reached = fit_reranker(lists, people, config, (5,), CONTEXT)
    assert found is not None
    before = judged(split, people, ranked(split, people, poor.scorer(split, fitted)))
    after = judged(split, people, ranked(split, people, found.scorer(lists)))
    assert after["ndcg@5"].mean() > before["ndcg@5"].mean() + 0.1
    assert reached > before["ndcg@5"].mean() + before["recall@5"].mean() + 0.1
    # What is not on the shortlist keeps the blend's order, behind it.
    scores = found.scorer(lists)(people[:3])
    plain = poor.scorer(split, fitted)(people[:3])
    short = lists.of(people[:3], 20)[1].items
    for row in range(3):
        rest = np.setdiff1d(np.arange(ITEMS), short[row])
        assert scores[row, rest].max() < scores[row, short[row]].min()
        assert (np.argsort(scores[row, rest]) == np.argsort(plain[row, rest])).all()


def test_a_second_look_that_gains_nothing_is_not_kept(split):
    """Targets by chance: whatever is learned of some people is wrong of the others."""
    generator = np.random.Generator(np.random.PCG64(1))
    chance = split.matrix().toarray()
    drawn = [generator.permutation(np.flatnonzero(row == 0))[:1] for row in chance]
    targets = from_pairs(np.arange(PEOPLE), np.concatenate(drawn), PEOPLE)
    random = replace(split, targets=targets)
    blend, fitted = blended(random)
    config = Reranking(items=ITEMS, hidden=8, networks=1, epochs=40)
    people = people_with_targets(random)
    lists = Lists(random, blend, fitted)
    found, reached = fit_reranker(lists, people, config, (5,), CONTEXT)
    short = lists.gathered(people, ITEMS)
    hit = short.items == targets.values[:, None]
    ones = np.ones(PEOPLE, dtype=np.int64)
    before = objective(short.features[:, :, 0], short.items >= 0, hit, ones, (5,))
    assert reached >= before
    assert (found is None) == (reached == before)


def test_an_empty_row_has_no_neighbours():
    lists = from_pairs(np.array([0, 1]), np.array([0, 1]), 3)
    made = Split("made", 3, lists, lists, lists)
    near = UserKnn().fit(made, CONTEXT).near
    assert isinstance(near, csr_array)
    assert near.sum() == 0
