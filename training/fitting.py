"""Fit every model on one frame and choose on validation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel

from models.base import (
    Family,
    RetrievalModel,
    TrainingContext,
    TrainingFrame,
    VectorModel,
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
from training.scoring import Exam, ranked_lists
from training.stages import StageClock
from training.warm import WarmStart


@dataclass(frozen=True, slots=True)
class Models:
    """All models of one fit."""

    popularity: Popularity
    random: RandomOrder
    item_knn: ItemKnn
    als: FactorModel
    content: ContentModel
    deep: DeepModel
    deep_epochs: int
    """Passes after which the deep family was best, in those of a cold fit."""

    def families(self) -> dict[Family, VectorModel]:
        """Give the three families."""
        return {
            Family.COLLABORATIVE: self.als,
            Family.CONTENT: self.content,
            Family.DEEP: self.deep,
        }

    def baselines(self) -> dict[str, RetrievalModel]:
        """Give the models of the table that are no family."""
        return {
            "random": self.random,
            "popularity": self.popularity,
            "item_knn": self.item_knn,
        }


def fit_models(
    frame: TrainingFrame,
    config: TrainingConfig,
    clock: StageClock,
    *,
    suffix: str = "",
    deep_epochs: int | None = None,
    warm: WarmStart | None = None,
    fit_deep: FitDeep = DeepRecipe.fit_reported,
) -> Models:
    """Fit all models; `deep_epochs` fixes the deep family's passes, with nobody held out.

    `warm`: what ALS and the deep family may begin from; they make fewer passes then;
    `fit_deep`: where the deep family is fitted.
    """
    warm = WarmStart() if warm is None else warm.before(frame)
    context = TrainingContext(config.seed, config.threads)
    with clock.stage(f"baselines{suffix}"):
        popularity = PopularityRecipe(config.popularity).fit(frame, context)
        random = RandomRecipe().fit(frame, context)
    with clock.stage(f"item_knn{suffix}"):
        item_knn = ItemKnnRecipe(config.item_knn).fit(frame, context)
    with clock.stage(f"als{suffix}"):
        passes = warm.passes(f"als{suffix}", warm.als, config.als.iterations)
        short = config.als.model_copy(update={"iterations": passes})
        als = AlsRecipe(short, start=warm.als).fit(frame, context)
    with clock.stage(f"content{suffix}"):
        content = ContentRecipe(config.content).fit(frame, context)
    with clock.stage(f"deep{suffix}"):
        chosen = config.deep
        if deep_epochs is not None:
            chosen = chosen.model_copy(
                update={"epochs": deep_epochs, "patience": deep_epochs, "held_people": 0}
            )
        passes = warm.passes(f"deep{suffix}", warm.deep, chosen.epochs)
        share = passes / chosen.epochs
        patience = max(1, round(share * chosen.patience))
        chosen = chosen.model_copy(update={"epochs": passes, "patience": patience})
        seconds = deep_budget(config, len(frame.interactions))
        limited = replace(context, time_budget_seconds=seconds)
        deep, report = fit_deep(DeepRecipe(chosen, start=warm.deep), frame, limited)
    epochs = round(report.best_epoch / share)
    return Models(popularity, random, item_knn, als, content, deep, epochs)


@dataclass(frozen=True, slots=True)
class Choice:
    """What validation decided about the families."""

    prior_weight: float
    validation: Mapping[str, float]
    """NDCG@20 of everything that was compared."""


def choose_families(models: Models, exam: Exam, config: TrainingConfig) -> Choice:
    """Pick the content family's prior weight by NDCG@20 on validation."""

    def score(model: RetrievalModel) -> float:
        return exam.ndcg(ranked_lists(exam, model, 20))

    priors = {w: score(reweighed(models.content, w)) for w in config.content_priors}
    weight = max(priors, key=lambda w: (priors[w], -w)) if priors else config.content.prior_weight
    return Choice(weight, {f"content, prior {w:g}": value for w, value in priors.items()})


def apply_choice(models: Models, choice: Choice) -> tuple[Models, dict[Family, VectorModel]]:
    """Give the models as chosen, and the three families."""
    chosen = replace(models, content=reweighed(models.content, choice.prior_weight))
    return chosen, chosen.families()


def family_configs(config: TrainingConfig, choice: Choice) -> dict[Family, BaseModel]:
    """Give the configuration that each family was fitted with."""
    content = config.content.model_copy(update={"prior_weight": choice.prior_weight})
    return {Family.COLLABORATIVE: config.als, Family.CONTENT: content, Family.DEEP: config.deep}
