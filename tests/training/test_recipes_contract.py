"""Laws of every model, over every recipe that there is: collected, not listed."""

import inspect
import pkgutil
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import training.recipes
from models.base import ItemHistories, RetrievalModel, TrainingContext, TrainingFrame, VectorModel
from models.baselines import Popularity
from models.collaborative import FactorModel
from training.config import small_config
from training.recipes import laws
from training.recipes.base import Recipe
from training.recipes.baselines import PopularityConfig, PopularityRecipe
from training.recipes.laws import EVERY_MODEL, LEARNERS, VECTOR_MODELS, Law, LawBroken, Subject

CONFIG = small_config()
SMALL: dict[str, Any] = {
    # With 0.1 it learns the board by heart: 13 of 40 seeds miss the diagonal, with 1 none.
    "als": CONFIG.als.model_copy(update={"regularization": 1.0}),
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
FAMILIES = ("als", "content", "deep")
LISTS = ("item_knn", "closed_form")
LEARNING = (*FAMILIES, *LISTS)


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    return {name: Subject.of(recipe) for name, recipe in RECIPES.items()}


def test_every_model_of_the_table_has_a_recipe() -> None:
    assert set(RECIPES) == {*LEARNING, "popularity", "random"}


def test_no_law_is_left_out() -> None:
    written = {
        law
        for _, law in inspect.getmembers(laws, inspect.isfunction)
        if law.__module__ == laws.__name__
        and [p.annotation for p in inspect.signature(law).parameters.values()] == [Subject]
    }
    assert written == {*EVERY_MODEL, *LEARNERS, *VECTOR_MODELS}


@pytest.mark.parametrize("law", EVERY_MODEL, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", RECIPES)
def test_every_model(name: str, law: Law, subjects: dict[str, Subject]) -> None:
    law(subjects[name])


@pytest.mark.parametrize("law", LEARNERS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", LEARNING)
def test_learners(name: str, law: Law, subjects: dict[str, Subject]) -> None:
    law(subjects[name])


@pytest.mark.parametrize("law", VECTOR_MODELS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", FAMILIES)
def test_vector_models(name: str, law: Law, subjects: dict[str, Subject]) -> None:
    law(subjects[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_content_and_deep_reach_new_posts(name: str, subjects: dict[str, Subject]) -> None:
    new = subjects[name].vectors.encode_posts(subjects[name].frame.content)
    assert np.isfinite(new).all() == (name in ("content", "deep"))


@dataclass(frozen=True, slots=True)
class Spoiled:
    """A model that is right but for what `spoil` does to its scores."""

    right: RetrievalModel
    spoil: Any
    name: str = "als"

    def score_all(self, histories: ItemHistories) -> Any:
        return self.spoil(self.right.score_all(histories), histories)

    def save(self, folder: Any) -> None:
        (folder / "model.pkl").write_bytes(b"")

    @classmethod
    def load(cls, folder: Any) -> "Spoiled":
        return cls(Popularity("x", np.zeros(24, np.float32)), lambda s, _: s)


def doubles(scores: Any, _: ItemHistories) -> Any:
    return scores.astype(np.float64)


def ranks_of_the_batch(scores: Any, _: ItemHistories) -> Any:
    return scores - np.nanmean(scores, axis=0)


def zero_for_missing(scores: Any, _: ItemHistories) -> Any:
    return np.nan_to_num(scores)


def width_of_history(scores: Any, histories: ItemHistories) -> Any:
    return scores * np.float32(histories.rows.shape[1])


def backwards(scores: Any, _: ItemHistories) -> Any:
    return -scores


@pytest.mark.parametrize(
    ("law", "spoil", "said"),
    [
        (laws.scores_have_their_shape, doubles, "are float64"),
        (laws.comes_back_from_disk, doubles, "loaded again gives other scores"),
        (laws.batch_is_single, ranks_of_the_batch, "alone, and with others, differ"),
        (laws.same_seed_same_model, backwards, "fitted again gives other scores"),
        (laws.knows_the_withheld_diagonal, backwards, "first for 0 of 24"),
        (laws.says_nothing_of_somebody_unknown, zero_for_missing, "who has done nothing"),
        (laws.padding_says_nothing, width_of_history, "with empty places, and without,"),
    ],
)
def test_each_law_finds_who_breaks_it(
    law: Law, spoil: Any, said: str, subjects: dict[str, Subject]
) -> None:
    law(subjects["als"])
    broken = replace(subjects["als"], model=Spoiled(subjects["als"].model, spoil))
    with pytest.raises(LawBroken, match=said):
        law(broken)


@dataclass(frozen=True, slots=True)
class Deaf(FactorModel):
    """Knows one viewer only."""

    def viewer_vectors(self, histories: ItemHistories, table: Any = None) -> Any:
        return np.ones((len(histories), self.factors.shape[1]), np.float32)


def test_laws_of_vector_models_find_who_breaks_them(subjects: dict[str, Subject]) -> None:
    als = subjects["als"].model
    assert isinstance(als, FactorModel)
    deaf = replace(subjects["als"], model=Deaf(als.name, als.factors, als.gram, als.alpha))
    with pytest.raises(LawBroken, match="just where the post has one"):
        laws.new_posts_count_where_they_have_vectors(deaf)
    with pytest.raises(LawBroken, match="leaves the viewer's vector as it was"):
        laws.one_more_action_moves_the_viewer(deaf)
    flipped = replace(subjects["als"], model=replace(als, factors=-als.factors))
    laws.score_is_the_dot_product(flipped)
    with pytest.raises(LawBroken, match="popularity is no VectorModel"):
        laws.score_is_the_dot_product(subjects["popularity"])


@dataclass(frozen=True, slots=True)
class Forgetful:
    """A recipe whose configuration does not survive JSON."""

    config: Any
    name: str = "popularity"
    plain: PopularityRecipe = field(default_factory=PopularityRecipe)

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> Popularity:
        return self.plain.fit(frame, context)


class Hidden(PopularityConfig):
    def model_dump_json(self, **_: Any) -> str:
        return "{}"


def test_check_runs_the_laws_of_the_kind() -> None:
    assert len(laws.check(PopularityRecipe(), learns=False)) == len(EVERY_MODEL)
    with pytest.raises(LawBroken, match="first for"):
        laws.check(PopularityRecipe())
    with pytest.raises(LawBroken, match="comes back from JSON as another"):
        laws.check(Forgetful(Hidden(half_life_days=2.0)), learns=False)


def test_popularity_counts_people(subjects: dict[str, Subject], histories_of: Any) -> None:
    scores = subjects["popularity"].model.score_all(histories_of([0]))[0]
    assert set(scores.tolist()) == {11.0}


def test_chance_differs_by_history(subjects: dict[str, Subject], histories_of: Any) -> None:
    scores = subjects["random"].model.score_all(histories_of([0, 1], [0, 2]))
    assert not np.array_equal(scores[0], scores[1])


def test_every_learner_is_a_vector_model_but_the_lists(
    subjects: dict[str, Subject],
) -> None:
    kinds = {name for name, s in subjects.items() if isinstance(s.model, VectorModel)}
    assert kinds == set(FAMILIES)
