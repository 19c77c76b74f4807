"""Torch and NumPy say the same; the fused loss is the plain one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from contracts.policy import ACTIONS, Action
from models.base import TrainingContext, TrainingFrame
from models.deep import DeepConfig, DeepModel
from models.ranker import RankerConfig, activate
from training.config import small_config
from training.loop import Limits, run_epochs
from training.recipes.content import fit_embedder
from training.recipes.deep import DeepRecipe
from training.recipes.ranker import RankerRecipeConfig, RankerRows, fit_ranker, held_people
from training.recipes.sequences import epoch_batches, make_sequences, merge_repeats
from training.recipes.softmax import SampledSoftmax
from training.recipes.two_tower import TwoTower


@pytest.mark.parametrize("blocks", [1, 2])
def test_viewer_tower_is_the_same_in_torch_and_numpy(
    blocks: int, checkerboard: TrainingFrame, histories_of: Any
) -> None:
    torch.manual_seed(5)
    config = DeepConfig(dimensions=16, hidden=24, window=8, blocks=blocks, heads=4)
    n = checkerboard.n_items
    side = np.random.Generator(np.random.PCG64(1)).normal(size=(n, 5)).astype(np.float32)
    counts = np.arange(n, dtype=np.float32) % 3
    network = TwoTower(config, side, counts, 0.3)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    network.eval()
    with torch.no_grad():
        items = network.encode_items(torch.arange(n)).numpy()
    embedder = fit_embedder(checkerboard.content, small_config().content, 0)
    topics = np.zeros(0, dtype=np.int64)
    model = DeepModel("deep", config, embedder, topics, network.export(), items, 0.0)
    asked = histories_of([0, 5, 7], [3], list(range(12)))
    mine = model.viewer_vectors(asked)
    for query in range(3):
        rows = asked.rows[query][asked.rows[query] >= 0][-config.window :]
        with torch.no_grad():
            out = network.viewers(
                torch.from_numpy(items[rows])[None],
                torch.from_numpy(asked.types[query][-len(rows) :].astype(np.int64))[None],
                torch.ones(1, len(rows), dtype=torch.bool),
            )[0, -1]
        np.testing.assert_allclose(mine[query], out.numpy(), rtol=0, atol=1e-5)


def test_items_without_actions_have_no_id() -> None:
    side = np.ones((2, 3), dtype=np.float32)
    network = TwoTower(
        DeepConfig(dimensions=8, heads=2), side, np.array([2.0, 0.0], np.float32), 0.0
    )
    network.eval()
    known, new = network.encode_items(torch.arange(2))
    torch.testing.assert_close(new[:-1], network.item(network.side[1]))
    assert not torch.equal(known, new)


def plain_loss(logits: torch.Tensor, positive: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    hit = torch.arange(logits.shape[1])[None, :] == column[:, None]
    joined = torch.cat([positive[:, None], logits.masked_fill(hit, float("-inf"))], dim=1)
    return functional.cross_entropy(joined, torch.zeros(len(joined), dtype=torch.int64))


def test_sampled_softmax_is_cross_entropy_with_its_gradient() -> None:
    torch.manual_seed(0)
    viewers, negatives = torch.randn(7, 4), torch.randn(5, 4)
    positive, shift = torch.randn(7), torch.randn(5)
    column = torch.tensor([-1, 0, 4, -1, 2, 2, -1])
    grads = []
    for fused in (True, False):
        v, n, p = (x.clone().requires_grad_() for x in (viewers, negatives, positive))
        if fused:
            loss = SampledSoftmax.apply(v, p, n, shift, column)
        else:
            loss = plain_loss(v @ n.T + shift, p, column)
        (loss * 3.0).backward()
        grads.append((loss.detach(), v.grad, n.grad, p.grad))
    for mine, plain in zip(*grads, strict=True):
        torch.testing.assert_close(mine, plain)


def ranker_rows(n: int = 3000) -> RankerRows:
    """Clicks follow the first feature, dwell the second; a third is missing half the time."""
    generator = np.random.Generator(np.random.PCG64(2))
    x = generator.normal(size=(n, 3)).astype(np.float32)
    labels = np.zeros((n, len(ACTIONS)), dtype=np.float32)
    chance = 1 / (1 + np.exp(1.0 - 2.0 * x[:, 0]))
    labels[:, ACTIONS.index(Action.CLICK)] = generator.random(n) < chance
    labels[:, ACTIONS.index(Action.DWELL)] = np.exp(np.clip(x[:, 1], 0, 2)) - 1
    labels[:, ACTIONS.index(Action.HIDE)] = np.nan
    x[generator.random(n) < 0.5, 2] = np.nan
    return RankerRows(x.astype(np.float16), labels, np.arange(n) // 10)


CONFIG = RankerRecipeConfig(shape=RankerConfig(hidden=16, members=2), epochs=60, batch=128)


def test_ranker_learns_what_was_planted_and_is_calibrated() -> None:
    rows = ranker_rows()
    ranker, _ = fit_ranker(rows, CONFIG, TrainingContext(1, 1))
    guess = ranker.predict(rows.features)
    click = ACTIONS.index(Action.CLICK)
    truth = 1 / (1 + np.exp(1.0 - 2.0 * rows.features[:, 0].astype(np.float32)))
    assert np.abs(guess[:, click] - truth).mean() < 0.05
    dwell = ACTIONS.index(Action.DWELL)
    assert np.corrcoef(guess[:, dwell], rows.labels[:, dwell])[0, 1] > 0.9


def test_expected_seconds_are_the_mean_where_most_are_not_viewed_at_all() -> None:
    rows = ranker_rows(6000)
    dwell, generator = ACTIONS.index(Action.DWELL), np.random.Generator(np.random.PCG64(3))
    seconds = generator.random(len(rows.labels)) < 0.4
    rows.labels[:, dwell] = seconds * np.exp(1.0 + 0.8 * generator.normal(size=len(seconds)))
    rows.labels[:, dwell] *= np.exp(0.7 * np.clip(rows.features[:, 1], -2, 2))
    ranker, _ = fit_ranker(rows, CONFIG, TrainingContext(1, 1))
    guess = ranker.predict(rows.features)[:, dwell]
    for side in (rows.features[:, 1] > 0, rows.features[:, 1] <= 0):
        assert guess[side].mean() == pytest.approx(rows.labels[side, dwell].mean(), rel=0.15)


def test_members_hold_out_other_people_and_learn_from_everybody_together() -> None:
    groups = np.repeat(np.arange(100), 3)
    held = np.stack([held_people(groups, 0.2, 7, member) for member in range(5)])
    assert (held.sum(axis=0) == 1).all()  # each row is held out once
    assert (held.sum(axis=1) == 60).all()
    assert (held.reshape(5, 100, 3).std(axis=2) == 0).all()  # nobody is parted
    assert held_people(groups, 0.2, 7, 5).tolist() == held[0].tolist()  # and then from the start


def test_heads_without_data_answer_their_prior() -> None:
    ranker, _ = fit_ranker(ranker_rows(500), CONFIG, TrainingContext(1, 1))
    assert ranker.trained.sum() == 2
    hide = ACTIONS.index(Action.HIDE)
    assert set(ranker.predict(np.zeros((4, 3), np.float16))[:, hide].tolist()) == {0.0}


def test_ranker_is_deterministic_for_a_seed() -> None:
    rows = ranker_rows(600)
    one, other, third = (
        fit_ranker(rows, CONFIG, TrainingContext(seed, 1))[0].predict(rows.features)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_activate_keeps_probabilities_and_seconds_in_bounds() -> None:
    logits = np.array([[-1e4] * len(ACTIONS), [1e4] * len(ACTIONS)], dtype=np.float32)
    answers = activate(logits)
    assert np.isfinite(answers).all()
    assert (answers >= 0).all()
    assert answers[1, ACTIONS.index(Action.CLICK)] == pytest.approx(1.0)


def test_windows_cover_every_place_once_and_look_ahead_only(checkerboard: TrainingFrame) -> None:
    sequences = make_sequences(merge_repeats(checkerboard.interactions, checkerboard.n_items))
    generator = np.random.Generator(np.random.PCG64(0))
    order = {u: {} for u in range(24)}
    for user in range(24):
        mine = sequences.items[sequences.starts[user] : sequences.stops[user]]
        order[user] = {int(item): place for place, item in enumerate(mine)}
    places = 0
    for batch in epoch_batches(sequences, 4, 3, 8, generator):
        places += int(batch.valid.sum())
        # Actions of one parity are one half of the people: the target is of the same one.
        same = (batch.items - batch.targets) % 2 == 0
        assert same[batch.valid].all()
        assert (batch.items != batch.targets)[batch.valid].all()
    assert places >= int((sequences.stops - sequences.starts - 1).sum())
    few = [len(batch.items) for batch in epoch_batches(sequences, 4, 3, 8, generator, 10)]
    assert few == [8, 2]


def test_loop_stops_and_goes_back_to_its_best() -> None:
    network = torch.nn.Linear(1, 1)
    scores = iter([1.0, 3.0, 2.0, 2.0, 9.0])
    seen: list[float] = []

    def epoch(number: int) -> None:
        with torch.no_grad():
            network.weight.fill_(float(number))
        seen.append(float(number))

    report = run_epochs(network, epoch, lambda: next(scores), Limits(9, 2))
    assert (report.best_epoch, report.epochs, report.stopped) == (2, 4, "patience")
    assert network.weight.item() == 2.0


def test_loop_without_a_score_keeps_its_last_epoch() -> None:
    network = torch.nn.Linear(1, 1)

    def epoch(number: int) -> None:
        with torch.no_grad():
            network.weight.fill_(float(number))

    report = run_epochs(network, epoch, None, Limits(3, 3))
    assert (report.best_epoch, report.stopped, network.weight.item()) == (3, "epochs", 3.0)


def test_a_second_fit_of_the_deep_family_goes_on_as_long_as_told(
    checkerboard: TrainingFrame,
) -> None:
    config = small_config().deep.model_copy(update={"held_people": 0, "epochs": 4, "patience": 4})
    _, report = DeepRecipe(config).fit_reported(checkerboard, TrainingContext(0, 1))
    assert report.best_epoch == 4


def test_loop_keeps_to_its_time() -> None:
    network = torch.nn.Linear(1, 1)
    report = run_epochs(network, lambda _: None, lambda: 1.0, Limits(50, 60, 0.0))
    assert (report.epochs, report.stopped) == (1, "time")
