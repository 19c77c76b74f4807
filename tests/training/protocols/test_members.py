"""Members of a protocol's ensemble: closed forms against their definitions, networks too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from models.base import TrainingContext
from training.dataset import Ragged
from training.protocols.blend import Pool, choose, logit, objective, pooled, stacked, standardised
from training.protocols.exam import Known, judged, people_with_targets, ranked
from training.protocols.linear import DecayedEase, LinearBank, LinearSequence, contexts
from training.protocols.members import (
    Als,
    Described,
    Ease,
    Fitted,
    Friends,
    Popular,
    Walk,
    decayed,
)
from training.protocols.network import SampledSoftmax, SequenceNetwork, Shape
from training.protocols.split import Split, from_pairs, hold_out
from training.protocols.transformer import Recipe, Transformer, _epoch, _windows

PEOPLE, ITEMS = 14, 10
CONTEXT = TrainingContext(threads=1)


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.Generator(np.random.PCG64(3))
    lists = [generator.permutation(ITEMS)[: generator.integers(3, 8)] for _ in range(PEOPLE)]
    owner = np.repeat(np.arange(PEOPLE), [len(one) for one in lists])
    learned = from_pairs(owner, np.concatenate(lists), PEOPLE)
    left = [np.setdiff1d(np.arange(ITEMS), one)[:2] for one in lists]
    targets = from_pairs(np.repeat(np.arange(PEOPLE), 2), np.concatenate(left), PEOPLE)
    graph = csr_array((generator.random((PEOPLE, PEOPLE)) < 0.3).astype(np.float32))
    described = np.array([[-1, 0, 0], [-1, 1, 0], [0, int(lists[0][0]), 1], [1, 9, 1], [2, 3, 1]])
    return Split("made", ITEMS, learned, learned, targets, graph, described)


def everybody(split: Split) -> np.ndarray:
    return np.arange(split.n_people)


def test_ease_by_people_is_ease_by_items(split):
    """B = I - P / diag(P), P = (X'X + l I)^-1: equal on every item not yet acted on."""
    x = split.matrix().toarray().astype(np.float64)
    ridge = 2.0 * (x**2).sum() / len(x)
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(ITEMS))
    expected = x @ (np.eye(ITEMS) - inverse / np.diag(inverse))
    found = Ease("ease", 2.0, scale=0.0).fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found[x == 0], expected[x == 0], rtol=1e-4, atol=1e-6)


def test_ease_by_items_is_asked_with_a_history_that_fades(split):
    x = split.matrix().toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 4.0 * np.eye(ITEMS))
    weights = np.eye(ITEMS) - inverse / np.diag(inverse)
    history = decayed(split, everybody(split), 0.5, 100).toarray()
    expected = history @ weights
    found = DecayedEase(ridge=4.0, decay=0.5).fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found[x == 0], expected[x == 0], rtol=1e-4, atol=1e-6)


def test_a_context_decays_with_its_distance():
    lists = Ragged(np.array([4, 1, 3, 2, 0]), np.array([0, 4, 5]))
    inputs, targets = contexts(lists, 5, 0.5, 2)
    assert inputs.toarray().tolist() == [
        [0, 0, 0, 0, 1.0],
        [0, 1.0, 0, 0, 0.5],
        [0, 0.5, 0, 1.0, 0],
    ]
    assert targets.toarray().argmax(axis=1).tolist() == [1, 3, 2]


def test_the_linear_map_solves_its_ridge_with_a_diagonal_of_zero(split):
    member = LinearSequence(ridge=3.0, decay=0.6, asked_decay=0.6, together=0.0, newest=4)
    inputs, targets = (
        m.toarray().astype(np.float64) for m in contexts(split.learned, ITEMS, 0.6, 4)
    )
    inverse = np.linalg.inv(inputs.T @ inputs + 3.0 * np.eye(ITEMS))
    weights = inverse @ inputs.T @ targets
    weights -= inverse * (np.diag(weights) / np.diag(inverse))
    np.testing.assert_allclose(np.diag(weights), 0.0, atol=1e-12)
    history = decayed(split, everybody(split), 0.6, 4).toarray()
    found = member.fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found, history @ weights, rtol=1e-4, atol=1e-5)


def test_the_bank_solves_the_normal_equations_of_its_contexts(split):
    paces = ((0.5, 20), (0.9, 20))  # further back than any history reaches
    member = LinearBank(paces=paces, ridges=(2.0, 5.0), power=0.5, damping=0.0)
    lengths = split.learned.lengths
    both = [contexts(split.learned, ITEMS, decay, 20) for decay, _ in paces]
    inputs = np.concatenate([m.toarray() for m, _ in both], axis=1).astype(np.float64)
    weight = np.repeat(lengths, lengths - 1) ** -0.5
    scale = (lengths**0.5).sum() / lengths.sum()
    ridge = np.repeat([2.0 * scale, 5.0 * scale], ITEMS)
    # The lag-by-lag Gram matrix also counts the context behind the last item.
    last = np.concatenate(
        [decayed(split, everybody(split), decay, 20).toarray() for decay, _ in paces], axis=1
    )
    gram = inputs.T @ (inputs * weight[:, None])
    found_gram, found_joint = member._moments(split)
    np.testing.assert_allclose(found_gram, gram, rtol=1e-4, atol=1e-5)
    joint = inputs.T @ (both[0][1].toarray() * weight[:, None])
    np.testing.assert_allclose(found_joint, joint, rtol=1e-4, atol=1e-5)
    expected = last @ np.linalg.solve(gram + np.diag(ridge), joint)
    found = member.fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_the_walk_is_three_steps(split):
    x = split.matrix().toarray()
    people = x.sum(axis=0)
    step = x / x.sum(axis=1, keepdims=True)
    expected = np.sqrt(step @ (x.T / np.maximum(people, 1)[:, None]) @ step * people**-0.3)
    found = Walk("walk").fit(split, CONTEXT).scores(split, everybody(split))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_attribute_counts_only_where_its_pair_may_be_learned(split):
    """The third tag kind is given by three people, of whom only those with the pair count."""
    fitted = Described(fewest=1).fit(split, CONTEXT)
    given = {
        (int(person), int(item))
        for person, item, kind in split.described.tolist()
        if kind == 1 and item in split.learned.part(person, person + 1).values
    }
    assert set(np.flatnonzero(fitted.attributes.toarray()[:, 1])) == {item for _, item in given}


@pytest.mark.parametrize(
    "member",
    [Als("als", 4, 0.1, 2.0, seeds=2), Friends("friends", hops=2), Popular(), Described(fewest=1)],
)
def test_every_member_scores_every_item_for_everybody(split, member):
    fitted = member.fit(split, CONTEXT)
    whole = fitted.scores(split, everybody(split))
    assert whole.shape == (PEOPLE, ITEMS)
    assert np.isfinite(whole).all()
    some = np.array([5, 2])
    np.testing.assert_allclose(fitted.scores(split, some), whole[some], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sample", [7, 50])
def test_a_full_sample_is_the_softmax_and_a_part_of_it_is_lifted(sample):
    torch.manual_seed(0)
    states = torch.randn(9, 5, requires_grad=True)
    table = torch.randn(20, 5, requires_grad=True)
    wanted = torch.randint(0, 20, (9,))
    torch.manual_seed(1)
    loss = SampledSoftmax.apply(states, table, wanted, sample, torch.float32)
    mine = torch.autograd.grad(loss, (states, table))
    logits = states @ table.T
    if sample < 20:
        torch.manual_seed(1)
        pick = torch.randperm(20)[:sample]
        lifted = torch.full_like(logits, -torch.inf)
        lifted[:, pick] = logits[:, pick] + np.log(20 / sample)
        logits = lifted.scatter(1, wanted[:, None], logits.gather(1, wanted[:, None]))
    expected = torch.nn.functional.cross_entropy(logits, wanted)
    theirs = torch.autograd.grad(expected, (states, table))
    torch.testing.assert_close(loss, expected)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_no_place_of_the_network_sees_what_comes_after():
    torch.manual_seed(0)
    network = SequenceNetwork(6, Shape(dimensions=8, hidden=8, window=12, dropout=0.0)).eval()
    rows = torch.tensor([[1, 4, 2, 6, 3]])
    with torch.no_grad():
        whole = network(rows, network.table())
        changed = rows.clone()
        changed[0, 3:] = 5
        again = network(changed, network.table())
    torch.testing.assert_close(whole[:, :3], again[:, :3])
    assert not torch.allclose(whole[:, 3:], again[:, 3:])


def test_every_action_but_the_first_is_a_target_once_an_epoch():
    lengths = np.array([0, 1, 2, 9, 23])
    lists = Ragged(np.arange(lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))
    recipe = Recipe(shape=Shape(window=5), tokens=20)
    for seed in range(5):
        generator = np.random.Generator(np.random.PCG64(seed))
        begins, ends = _windows(lists, 5, generator)
        assert (ends - begins <= 6).all()
        seen = [
            rows[:, 1:][rows[:, 1:] > 0].numpy() - 1 for rows in _epoch(lists, recipe, generator)
        ]
        first = lists.offsets[:-1][lengths > 0]
        expected = np.setdiff1d(np.arange(lengths.sum()), first)
        assert sorted(np.concatenate(seen)) == expected.tolist()


def test_the_transformer_learns_a_cycle():
    """Everybody goes round ten items in one order: the next item is certain."""
    starts = np.arange(60) % ITEMS
    values = (starts[:, None] + np.arange(8)) % ITEMS
    lists = Ragged(values.ravel(), np.arange(0, 60 * 8 + 1, 8))
    split = Split("cycle", ITEMS, lists, lists, lists)
    recipe = Recipe(
        shape=Shape(dimensions=16, hidden=16, blocks=1, window=10, dropout=0.0),
        epochs=60, tokens=128, sample=ITEMS, learning_rate=1e-2, warm_up=5, left_out=0.0,
    )  # fmt: skip
    fitted = Transformer(recipe=recipe).fit(split, CONTEXT)
    found = fitted.scores(split, np.arange(60)).argmax(axis=1)
    assert (found == (values[:, -1] + 1) % ITEMS).mean() > 0.95


def test_standard_scores_have_mean_zero_over_what_is_not_seen(split):
    generator = np.random.Generator(np.random.PCG64(0))
    people = everybody(split)
    seen = Known(split).of(people)
    found = standardised(generator.normal(3.0, 2.0, (PEOPLE, ITEMS)).astype(np.float32), seen)
    for row, known in zip(found, seen.toarray() > 0, strict=True):
        assert (row[known] == 0).all()
        assert abs(row[~known].mean()) < 1e-5
        assert abs(row[~known].std() - 1) < 1e-4


def pooled_members(split: Split) -> tuple[dict[str, Fitted], Pool]:
    members = (Als("als", 4, 0.1, 2.0), Walk("walk"), Popular())
    fitted = {member.name: member.fit(split, CONTEXT) for member in members}
    pool = pooled(split, fitted, people_with_targets(split), {"als": 10, "walk": 10})
    return fitted, pool


def test_a_chosen_blend_is_never_worse_than_where_it_began(split):
    fitted, pool = pooled_members(split)
    blend = choose(pool, list(fitted), (2, 5))
    scales = pool.features[pool.there].std(axis=0)
    rest = (pool.there, pool.hit, pool.wanted)
    began = logit(pool.features / scales, pool)
    ended = np.array([blend.weights[name] for name in fitted], dtype=np.float32)
    reached = objective(pool.features / scales @ ended, *rest, (2, 5))
    assert reached >= objective(pool.features / scales @ began, *rest, (2, 5))
    lists = ranked(split, people_with_targets(split), blend.scorer(split, fitted))
    found = judged(split, people_with_targets(split), lists)
    exact = sum(float(found[f"{m}@5"].mean()) for m in ("recall", "ndcg"))
    pooled_value = objective(pool.features / scales @ ended, *rest, (5,))
    assert exact == pytest.approx(pooled_value, abs=0.02)


def test_the_logit_is_the_most_likely_one(split):
    _, pool = pooled_members(split)
    some = pool.hit.any(axis=1)
    chosen = logit(pool.features, pool)

    def likelihood(weights: np.ndarray) -> float:
        values = torch.from_numpy(pool.features[some] @ weights.astype(np.float32))
        values[torch.from_numpy(~pool.there[some])] = -torch.inf
        chances = torch.log_softmax(values, dim=1).numpy()
        means = [row[hit].mean() for row, hit in zip(chances, pool.hit[some], strict=True)]
        return float(np.mean(means) - 1e-3 * (weights**2).sum())

    best = likelihood(chosen)
    for step in (*np.eye(3) * 0.05, *np.eye(3) * -0.05):
        assert likelihood(chosen + step) < best
    nothing = replace(pool, hit=np.zeros_like(pool.hit))
    assert logit(pool.features, nothing).tolist() == [1.0, 1.0, 1.0]


def test_pools_of_several_cuts_are_judged_as_one(split):
    _, pool = pooled_members(split)
    _, other = pooled_members(hold_out(split, 0.3))
    both = stacked([pool, replace(
        other, features=other.features[:, :-1], there=other.there[:, :-1], hit=other.hit[:, :-1]
    )])  # fmt: skip
    assert both.there.shape == (len(pool.wanted) + len(other.wanted), pool.there.shape[1])
    assert not both.there[len(pool.wanted) :, -1].any()
    value = [
        objective(each.features[:, :, 0], each.there, each.hit, each.wanted, (5,))
        for each in (pool, stacked([pool, pool]))
    ]
    assert value[0] == pytest.approx(value[1])


def test_known_items_are_never_ranked(split):
    fitted = Popular().fit(split, CONTEXT)
    lists = ranked(split, people_with_targets(split), lambda people: fitted.scores(split, people))
    known = split.matrix().toarray() > 0
    for person, row in zip(people_with_targets(split), lists, strict=True):
        assert not known[person, row[row >= 0]].any()
        assert (row >= 0).sum() == ITEMS - known[person].sum()
