"""Laws of every model, over every recipe that there is: collected, not listed."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.recipes
from models.base import (
    ItemHistories,
    RetrievalModel,
    TrainingContext,
    TrainingFrame,
    VectorModel,
)
from training.config import small_config
from training.recipes.base import Recipe

CONFIG = small_config()
SMALL: dict[str, Any] = {
    "als": CONFIG.als,
    "bpr": CONFIG.bpr,
    "content": CONFIG.content,
    "deep": CONFIG.deep,
}


def all_recipes() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules(training.recipes.__path__):
        loaded = import_module(f"training.recipes.{module.name}")
        for name, kind in inspect.getmembers(loaded, inspect.isclass):
            mine = kind.__module__ == loaded.__name__
            if mine and name.endswith("Recipe") and kind is not Recipe:
                plain = kind()
                found[plain.name] = kind(SMALL[plain.name]) if plain.name in SMALL else plain
    return found


RECIPES = all_recipes()
FAMILIES = ("als", "bpr", "content", "deep")
LEARNERS = (*FAMILIES, "item_knn")


@pytest.fixture(scope="module")
def fitted(checkerboard: TrainingFrame) -> dict[str, RetrievalModel]:
    return {n: r.fit(checkerboard, TrainingContext(3, 1)) for n, r in RECIPES.items()}


def test_every_model_of_the_table_has_a_recipe() -> None:
    assert set(RECIPES) == {*LEARNERS, "popularity", "random"}


@pytest.mark.parametrize("name", RECIPES)
class TestEveryModel:
    def test_scores_have_their_shape(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        model = fitted[name]
        assert isinstance(model, RetrievalModel)
        assert model.name == name
        scores = model.score_all(histories_of([0, 2], [1]))
        assert scores.shape == (2, 24)
        assert scores.dtype == np.float32

    def test_comes_back_from_disk(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any, tmp_path: Path
    ) -> None:
        fitted[name].save(tmp_path)
        again = type(fitted[name]).load(tmp_path)
        asked = histories_of([0, 2, 4], [5], [])
        np.testing.assert_array_equal(again.score_all(asked), fitted[name].score_all(asked))
        assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".safetensors"}

    def test_batch_is_single(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        asked = histories_of([0, 2, 4], [1, 3], [7, 9, 11])
        whole = fitted[name].score_all(asked)
        single = [fitted[name].score_all(asked.take(slice(q, q + 1)))[0] for q in range(3)]
        np.testing.assert_allclose(whole, np.stack(single), rtol=1e-4, atol=1e-5)

    def test_same_seed_same_model(
        self, name: str, fitted: dict[str, RetrievalModel], checkerboard: TrainingFrame,
        histories_of: Any,
    ) -> None:  # fmt: skip
        again = RECIPES[name].fit(checkerboard, TrainingContext(3, 1))
        asked = histories_of([0, 2], [1, 5, 3])
        np.testing.assert_array_equal(again.score_all(asked), fitted[name].score_all(asked))

    def test_config_comes_back_from_json(
        self, name: str, fitted: dict[str, RetrievalModel]
    ) -> None:
        del fitted
        config = RECIPES[name].config
        assert type(config).model_validate_json(config.model_dump_json()) == config

    def test_nobody_is_no_query(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        del histories_of
        nobody = ItemHistories.empty(2).take(slice(0, 0))
        assert fitted[name].score_all(nobody).shape == (0, 24)


@pytest.mark.parametrize("name", LEARNERS)
class TestLearners:
    def test_knows_the_withheld_diagonal(
        self, name: str, fitted: dict[str, RetrievalModel], checkerboard: TrainingFrame,
        histories_of: Any,
    ) -> None:  # fmt: skip
        rows = checkerboard.interactions
        mine = [rows.item_rows[rows.user_rows == u].tolist() for u in range(24)]
        scores = fitted[name].score_all(histories_of(*mine))
        for user, seen in enumerate(mine):
            scores[user, seen] = -np.inf
        assert (np.nan_to_num(scores, nan=-np.inf).argmax(axis=1) == np.arange(24)).all()

    def test_says_nothing_of_somebody_unknown(
        self, name: str, fitted: dict[str, RetrievalModel]
    ) -> None:
        assert np.isnan(fitted[name].score_all(ItemHistories.empty(2))).all()

    def test_padding_says_nothing(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        tight = fitted[name].score_all(histories_of([0, 2]))
        wide = histories_of([0, 2], [1, 3, 5, 7]).take(slice(0, 1))
        np.testing.assert_allclose(fitted[name].score_all(wide), tight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
class TestVectorModels:
    def test_score_is_the_dot_product(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        model = fitted[name]
        assert isinstance(model, VectorModel)
        asked = histories_of([0, 2, 4], [1])
        product = model.viewer_vectors(asked) @ model.item_vectors().T
        np.testing.assert_allclose(model.score_all(asked), product, rtol=1e-4, atol=1e-5)

    def test_new_posts_in_the_table_count_where_they_have_vectors(
        self, name: str, fitted: dict[str, RetrievalModel], checkerboard: TrainingFrame,
        histories_of: Any,
    ) -> None:  # fmt: skip
        model = fitted[name]
        assert isinstance(model, VectorModel)
        new = model.encode_posts(checkerboard.content.take(np.array([0])))
        table = np.concatenate([model.item_vectors(), new])
        with_new = model.viewer_vectors(histories_of([24]), table)
        reachable = name in ("content", "deep")
        assert np.isfinite(new).all() == reachable
        assert np.isfinite(with_new).all() == reachable
        if reachable:
            scores = (with_new @ model.item_vectors().T)[0]
            assert scores[0::2].mean() > scores[1::2].mean()

    def test_one_more_action_moves_the_viewer(
        self, name: str, fitted: dict[str, RetrievalModel], histories_of: Any
    ) -> None:
        model = fitted[name]
        assert isinstance(model, VectorModel)
        before, after = (model.viewer_vectors(histories_of(h)) for h in ([0, 2, 4], [0, 2, 4, 1]))
        assert not np.allclose(before, after)


def test_popularity_counts_people(fitted: dict[str, RetrievalModel], histories_of: Any) -> None:
    scores = fitted["popularity"].score_all(histories_of([0]))[0]
    assert set(scores.tolist()) == {11.0}


def test_chance_differs_by_history(fitted: dict[str, RetrievalModel], histories_of: Any) -> None:
    scores = fitted["random"].score_all(histories_of([0, 1], [0, 2]))
    assert not np.array_equal(scores[0], scores[1])
