"""Warm start: weights come back as they were, fewer passes, and nothing of what is judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contracts.policy import ACTIONS
from features.workspace import Workspace
from models.base import Family, TrainingContext, TrainingFrame, VectorModel
from models.bundle import VECTOR_FAMILIES, Bundle
from models.collaborative import FactorModel
from models.deep import DeepModel
from training.champion import AlignedBundle, judge_bundle, over_set, stranger_slices
from training.config import TrainingConfig, small_config
from training.fitting import fit_models
from training.ranking import test_exam as make_test_exam
from training.ranking import train_ranking
from training.reading import TrainingData, read_training_data
from training.recipes.base import item_counts
from training.recipes.collaborative import AlsConfig, AlsRecipe
from training.recipes.deep import DeepRecipe
from training.recipes.laws import Subject, knows_the_withheld_diagonal
from training.recipes.ranker import RankerRecipeConfig, RankerRows, fit_ranker
from training.recipes.two_tower import TwoTower
from training.split import make_split
from training.stages import StageClock
from training.warm import WARM_SHARE, FirstFit, WarmStart

CONFIG = small_config()
CONTEXT = TrainingContext(3, 1)


@pytest.fixture(scope="module")
def grown(grown_home: Path) -> tuple[Bundle, TrainingData]:
    with Workspace.open(grown_home, read_only=True) as workspace:
        data = read_training_data(workspace)
    champion = (grown_home / "bundles" / "CHAMPION").read_text().strip()
    return Bundle.load(grown_home / "bundles" / champion), data


def test_als_begins_where_it_ended(checkerboard: TrainingFrame, histories_of: Any) -> None:
    def scores(iterations: int, start: Any = None) -> np.ndarray:
        config = AlsConfig(factors=8, regularization=1.0, alpha=5.0, iterations=iterations)
        model = AlsRecipe(config, start=start).fit(checkerboard, CONTEXT)
        return model.score_all(histories_of([0, 2, 4], [1, 3]))

    config = AlsConfig(factors=8, regularization=1.0, alpha=5.0, iterations=40)
    factors = AlsRecipe(config).fit(checkerboard, CONTEXT).factors.copy()
    warm, cold = (np.abs(scores(1, start) - scores(40)).max() for start in (factors, None))
    assert warm < 0.1 * cold


def test_als_learns_a_post_that_the_champion_did_not_know(checkerboard: TrainingFrame) -> None:
    config = AlsConfig(factors=8, regularization=1.0, alpha=5.0, iterations=4)
    factors = AlsRecipe(config).fit(checkerboard, CONTEXT).factors.copy()
    factors[5] = np.nan
    knows_the_withheld_diagonal(Subject.of(AlsRecipe(config, start=factors)))


def test_the_deep_familys_weights_and_ids_come_back(checkerboard: TrainingFrame) -> None:
    model = DeepRecipe(CONFIG.deep).fit(checkerboard, CONTEXT)
    side = np.zeros((24, 0), np.float32)
    side = np.concatenate([np.nan_to_num(model.embedder.embed(checkerboard.content)), side], axis=1)
    shares = np.eye(2, dtype=np.float32)[np.arange(24) % 2]
    counts = item_counts(checkerboard.interactions, 24)
    side = np.concatenate([side, shares], axis=1).astype(np.float32)
    network = TwoTower(CONFIG.deep.shape, side, counts, 0.0)
    network.resume(model.weights, model.vectors)
    network.eval()
    with torch.no_grad():
        vectors = network.encode_items(torch.arange(24)).numpy()
    np.testing.assert_allclose(vectors, model.vectors, atol=1e-5)
    exported = network.export()
    for name, array in model.weights.items():
        np.testing.assert_array_equal(exported[name], array)


def test_the_ranker_begins_where_it_ended() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(800, 40)).astype(np.float16)
    labels = np.zeros((800, len(ACTIONS)), np.float32)
    labels[:, 0] = features[:, 0] + generator.normal(size=800) > 0
    rows = RankerRows(features, labels, np.arange(800) // 8)
    config = RankerRecipeConfig(shape=CONFIG.ranker.shape, epochs=8, batch=128)
    ended, _ = fit_ranker(rows, config, CONTEXT)
    still = config.model_copy(update={"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0.0})
    warm, _ = fit_ranker(rows, still, CONTEXT, start=ended)
    cold, _ = fit_ranker(rows, still, CONTEXT)
    np.testing.assert_allclose(warm.predict(features), ended.predict(features), atol=1e-5)
    assert np.abs(cold.predict(features) - ended.predict(features)).max() > 0.1


def test_posts_that_came_since_are_encoded_as_in_serving(
    grown: tuple[Bundle, TrainingData],
) -> None:
    bundle, data = grown
    rows = bundle.rows_of(data.dataset.post_ids)
    assert (rows < 0).any()
    for family in VECTOR_FAMILIES:
        model = bundle.families[family]
        assert isinstance(model, VectorModel)
        vectors = over_set(model, rows, data.dataset.content).item_vectors()
        np.testing.assert_array_equal(vectors[rows >= 0], model.item_vectors()[rows[rows >= 0]])
        encoded = model.encode_posts(data.dataset.content.take(np.flatnonzero(rows < 0)))
        np.testing.assert_array_equal(vectors[rows < 0], encoded)
        reached = np.isfinite(vectors[rows < 0]).all()
        assert reached == (family is not Family.COLLABORATIVE)


def test_content_reaches_posts_that_the_bundle_never_learned(
    grown: tuple[Bundle, TrainingData],
) -> None:
    bundle, data = grown
    exam, source, _ = make_test_exam(data, CONFIG)
    slices = stranger_slices(bundle, data.dataset, exam)
    assert all(0 < mask.sum() < len(mask) for mask in slices.values())
    judged = judge_bundle(bundle, data.dataset, exam, source, CONFIG.union)
    assert np.nanmax(judged["collaborative"].slices["posts_unknown_to_bundle"]) == 0.0
    unknown = bundle.rows_of(data.dataset.post_ids) < 0
    aligned = AlignedBundle.of(bundle, data.dataset)
    asked = exam.histories.take(slice(0, 5))
    for name, reached in (("collaborative", False), ("content", True), ("deep", True)):
        scores = aligned.scorers[name].score_all(asked)
        assert np.isfinite(scores[:, unknown]).any() == reached
    scores = aligned.scorers["content"].score_all(asked)
    middle = np.nanmedian(scores[:, ~unknown], axis=1)
    assert (np.nanmax(scores[:, unknown], axis=1) > middle).any()


def test_nothing_begins_from_what_saw_what_is_judged(grown: tuple[Bundle, TrainingData]) -> None:
    bundle, data = grown
    deep = bundle.families[Family.DEEP]
    assert isinstance(deep, DeepModel)
    frame = data.dataset.frame(make_split(data.dataset, CONFIG.split).refit)
    newest = int(frame.interactions.times_us.max())
    blind = replace(deep, new_prior=7.0)
    start = WarmStart.of(bundle, FirstFit(blind, newest), data.dataset, CONFIG)
    assert replace(start, seen_us=newest).before(frame).deep is start.deep
    late = replace(start, seen_us=newest + 1).before(frame)
    assert (late.als, late.deep, late.ranker) == (None, start.first, None)
    both = replace(start, seen_us=newest + 1, first_seen_us=newest + 1).before(frame)
    assert both.deep is None


def test_a_set_split_by_each_ones_order_begins_cold(grown: tuple[Bundle, TrainingData]) -> None:
    bundle, data = grown
    ordered = replace(data.dataset, protocol="order")
    assert WarmStart.of(bundle, None, ordered, CONFIG) == WarmStart()


def test_other_choices_begin_cold(grown: tuple[Bundle, TrainingData]) -> None:
    bundle, data = grown
    other = WarmStart.of(bundle, None, data.dataset, TrainingConfig())
    assert (other.als, other.deep, other.ranker) == (None, None, None)
    same = WarmStart.of(bundle, None, data.dataset, CONFIG)
    assert isinstance(same.deep, DeepModel)
    assert same.ranker is bundle.ranker
    factors = bundle.families[Family.COLLABORATIVE]
    assert isinstance(factors, FactorModel)
    assert (same.als is not None) == (factors.name == "als")


def test_a_warm_fit_makes_fewer_passes_and_says_so(grown: tuple[Bundle, TrainingData]) -> None:
    bundle, data = grown
    split = make_split(data.dataset, CONFIG.split)
    start = WarmStart.of(bundle, None, data.dataset, CONFIG)
    start = replace(start, seen_us=0)  # as if it had seen nothing of this: the count is asked
    models = fit_models(data.dataset.frame(split.fit), CONFIG, StageClock(), warm=start)
    fewer = round(WARM_SHARE * CONFIG.deep.epochs)
    assert f"deep: at most {fewer} passes in the place of {CONFIG.deep.epochs}" in start.used
    passes = round(models.deep_epochs * fewer / CONFIG.deep.epochs)
    assert 1 <= passes <= fewer


@pytest.mark.slow
def test_a_warm_run_is_as_good_by_the_gate_and_names_what_was_warm(
    grown: tuple[Bundle, TrainingData],
) -> None:
    bundle, data = grown
    start = WarmStart.of(bundle, None, data.dataset, CONFIG)
    result = train_ranking(data, CONFIG, StageClock(), bundle, start)
    assert result.verdict.promote, result.verdict.why
    assert any(line.startswith("deep, again") for line in result.warm)
    assert any(line.startswith("ranker: ") for line in result.warm)
    assert result.first.seen_us < result.bundle.manifest.data.last_us
