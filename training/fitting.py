"""Fit every model on one frame and choose on validation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel

from models.base import (
    Family,
    RetrievalModel,
    TrainingContext,
    TrainingFrame,
)
from models.baselines import Popularity, RandomOrder
from models.collaborative import FactorModel
from models.content import ContentModel
from models.deep import DeepModel
from models.neighbours import ItemKnn
from training.config import TrainingConfig, deep_budget
from training.recipes.baselines import PopularityRecipe, RandomRecipe
from training.recipes.collaborative import AlsRecipe, ItemKnnRecipe
from training.recipes.content import ContentRecipe, reweighed
from training.recipes.deep import DeepRecipe, FitDeep
from training.recipes.spectral import ClosedFormRecipe
from training.scoring import Exam, ranked_lists
from training.stages import AGAIN, StageClock
from training.warm import WarmStart

KNN: Final = ItemKnnRecipe().name


@dataclass(frozen=True, slots=True)
class Models:
    """All models of one fit."""

    popularity: Popularity
    random: RandomOrder
    neighbours: Mapping[str, ItemKnn]
    """By recipe: what validation may choose from."""
    als: FactorModel
    content: ContentModel
    deep: DeepModel
    deep_epochs: int
    """Passes after which the deep family was best, in those of a cold fit."""

    def families(self, neighbours: str = KNN) -> dict[Family, RetrievalModel]:
        """Give the families, with the neighbours of one recipe."""
        return {
            Family.COLLABORATIVE: self.als,
            Family.CONTENT: self.content,
            Family.DEEP: self.deep,
            Family.NEIGHBOURS: self.neighbours[neighbours],
        }

    def baselines(self) -> dict[str, RetrievalModel]:
        """Give the models of the table that are no family."""
        return {
            "random": self.random,
            "popularity": self.popularity,
        }


@dataclass(frozen=True, slots=True)
class Decided:
    """What the first fit of a run settles for the second."""

    deep_epochs: int
    neighbours: str
    """The recipe of the neighbours."""
    suffix: str = AGAIN
    """Behind the names of the stages."""


def fit_models(
    frame: TrainingFrame,
    config: TrainingConfig,
    clock: StageClock,
    *,
    decided: Decided | None = None,
    warm: WarmStart | None = None,
    fit_deep: FitDeep = DeepRecipe.fit_reported,
) -> Models:
    """Fit all models.

    `decided`: what an earlier fit of the run settled; then nobody is held out;
    `warm`: what ALS and the deep family may begin from; they make fewer passes then;
    `fit_deep`: where the deep family is fitted.
    """
    warm = WarmStart() if warm is None else warm.before(frame)
    context = TrainingContext(config.seed, config.threads)
    suffix = "" if decided is None else decided.suffix
    with clock.stage(f"baselines{suffix}"):
        popularity = PopularityRecipe(config.popularity).fit(frame, context)
        random = RandomRecipe().fit(frame, context)
    near: dict[str, ItemKnn] = {}
    for recipe in neighbour_recipes(config, None if decided is None else decided.neighbours):
        with clock.stage(f"{recipe.name}{suffix}"):
            near[recipe.name] = recipe.fit(frame, context)
    with clock.stage(f"als{suffix}"):
        passes = warm.passes(f"als{suffix}", warm.als, config.als.iterations)
        short = config.als.model_copy(update={"iterations": passes})
        als = AlsRecipe(short, start=warm.als).fit(frame, context)
    with clock.stage(f"content{suffix}"):
        # At weight 1: `apply_choice` scales to what is chosen, and 0 could not be scaled up.
        unit = config.content.model_copy(update={"prior_weight": 1.0})
        content = ContentRecipe(unit).fit(frame, context)
    with clock.stage(f"deep{suffix}"):
        chosen = config.deep
        if decided is not None:
            epochs = decided.deep_epochs
            chosen = chosen.model_copy(
                update={"epochs": epochs, "patience": epochs, "held_people": 0}
            )
        passes = warm.passes(f"deep{suffix}", warm.deep, chosen.epochs)
        share = passes / chosen.epochs
        patience = max(1, round(share * chosen.patience))
        chosen = chosen.model_copy(update={"epochs": passes, "patience": patience})
        seconds = deep_budget(config, len(frame.interactions))
        limited = replace(context, time_budget_seconds=seconds)
        deep, report = fit_deep(DeepRecipe(chosen, start=warm.deep), frame, limited)
    epochs = round(report.best_epoch / share)
    return Models(popularity, random, near, als, content, deep, epochs)


def neighbour_recipes(
    config: TrainingConfig, only: str | None = None
) -> list[ItemKnnRecipe | ClosedFormRecipe]:
    """Give the recipes of neighbours that are configured, or one of them."""
    found: list[ItemKnnRecipe | ClosedFormRecipe] = [ItemKnnRecipe(config.item_knn)]
    if config.closed_form is not None:
        found.append(ClosedFormRecipe(config.closed_form))
    return [recipe for recipe in found if only in {None, recipe.name}]


@dataclass(frozen=True, slots=True)
class Choice:
    """What validation decided about the families."""

    prior_weight: float
    neighbours: str
    """The recipe of the neighbours."""
    validation: Mapping[str, float]
    """NDCG@20 of everything that was compared."""


def choose_families(models: Models, exam: Exam, config: TrainingConfig) -> Choice:
    """Pick the content family's prior weight, and the neighbours, by NDCG@20 on validation."""

    def score(model: RetrievalModel) -> float:
        return exam.ndcg(ranked_lists(exam, model, 20))

    priors = {w: score(reweighed(models.content, w)) for w in config.content_priors}
    weight = max(priors, key=lambda w: (priors[w], -w)) if priors else config.content.prior_weight
    rivals = models.neighbours if len(models.neighbours) > 1 else {}
    near = {name: score(model) for name, model in rivals.items()}
    tried = {f"content, prior {w:g}": value for w, value in priors.items()}
    tried |= {f"neighbours, {name}": value for name, value in near.items()}
    return Choice(weight, max(near, key=near.__getitem__, default=KNN), tried)


def apply_choice(models: Models, choice: Choice) -> tuple[Models, dict[Family, RetrievalModel]]:
    """Give the models as chosen, and the families."""
    chosen = replace(models, content=reweighed(models.content, choice.prior_weight))
    return chosen, chosen.families(choice.neighbours)


def family_configs(config: TrainingConfig, choice: Choice) -> dict[Family, BaseModel]:
    """Give the configuration that each family was fitted with."""
    content = config.content.model_copy(update={"prior_weight": choice.prior_weight})
    near = {recipe.name: recipe.config for recipe in neighbour_recipes(config)}
    return {
        Family.COLLABORATIVE: config.als,
        Family.CONTENT: content,
        Family.DEEP: config.deep,
        Family.NEIGHBOURS: near[choice.neighbours],
    }
