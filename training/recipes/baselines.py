"""Popularity and chance."""

from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from contracts.clock import DAY_US
from models.base import TrainingContext, TrainingFrame
from models.baselines import Popularity, RandomOrder
from training.recipes.base import item_counts


class PopularityConfig(BaseModel):
    """Choices of the popularity floor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_days: float | None = Field(default=None, gt=0)
    """None counts every person once, however long ago."""


@dataclass(frozen=True, slots=True)
class PopularityRecipe:
    """Count the people who acted on each item, or add up decayed actions."""

    config: PopularityConfig = field(default_factory=PopularityConfig)
    name: str = "popularity"

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> Popularity:
        """Count."""
        del context
        actions = frame.interactions
        if self.config.half_life_days is None or not len(actions):
            return Popularity(self.name, item_counts(actions, frame.n_items))
        days = (actions.times_us.max() - actions.times_us) / DAY_US
        faded = np.exp2(-days / self.config.half_life_days)
        scores = np.bincount(actions.item_rows, weights=faded, minlength=frame.n_items)
        return Popularity(self.name, scores.astype(np.float32))


class RandomConfig(BaseModel):
    """Chance has nothing to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class RandomRecipe:
    """Fit nothing."""

    config: RandomConfig = field(default_factory=RandomConfig)
    name: str = "random"

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> RandomOrder:
        """Remember size and seed."""
        return RandomOrder(self.name, frame.n_items, context.seed)
