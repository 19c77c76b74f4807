"""Every choice of a training run, in one validated object."""

from pydantic import BaseModel, ConfigDict, Field

from contracts.policy import Policy
from models.content import ContentConfig
from models.deep import DeepConfig
from models.ranker import RankerConfig
from training.recipes.baselines import PopularityConfig
from training.recipes.collaborative import AlsConfig, ItemKnnConfig
from training.recipes.deep import DeepRecipeConfig
from training.recipes.ranker import RankerRecipeConfig
from training.recipes.spectral import ClosedFormConfig
from training.split import SplitConfig


class TrainingConfig(BaseModel):
    """Recipes, cuts and budgets of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    split: SplitConfig = SplitConfig()
    popularity: PopularityConfig = PopularityConfig()
    item_knn: ItemKnnConfig = ItemKnnConfig()
    closed_form: ClosedFormConfig | None = None
    """Neighbours from closed forms, to choose from beside item-kNN; not fitted where absent."""
    als: AlsConfig = AlsConfig()
    content: ContentConfig = ContentConfig()
    content_priors: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0)
    """Prior weights of the content family to choose among on validation."""
    deep: DeepRecipeConfig = DeepRecipeConfig()
    deep_seconds: float | None = Field(default=None, gt=0)
    """Time budget of each fit of the deep family; by the number of actions where absent."""
    ranker: RankerRecipeConfig = RankerRecipeConfig()
    union: int = Field(default=100, ge=1)
    """Best posts of each family that the ensemble ranker orders."""
    ranker_people: int = Field(default=1500, ge=1)
    """Most moments of people whose candidates the ranker learns from, where no impressions are
    known."""
    ranker_moments: int = Field(default=3, ge=1)
    """Moments a person asked there, spread over the window, where people are few."""
    ranker_seconds: float = Field(default=60.0, gt=0)
    """Time budget of the ranker's fit."""
    most_impressions: int = Field(default=120_000, ge=100)
    """Newest impressions that the ranker learns from, and is judged on."""
    refit: bool = True
    """Fit the families again on all before the test, with what was chosen."""
    final_fit: bool = False
    """Fit the families once more on everything after the test: what is served was then not itself
    measured, and knows the newest actions too."""
    policy: Policy = Policy(name="ensemble")


def deep_budget(config: TrainingConfig, actions: int) -> float:
    """Give the seconds of one fit of the deep family: 30, up to 90 from half a million actions."""
    if config.deep_seconds is not None:
        return config.deep_seconds
    return 30.0 + 60.0 * min(1.0, actions / 500_000)


def small_config(seed: int = 0) -> TrainingConfig:
    """Give choices for worlds of a few dozen people, as in tests: seconds in all."""
    deep = DeepRecipeConfig(
        shape=DeepConfig(dimensions=16, hidden=32, window=20, heads=2),
        content=ContentConfig(dimensions=8),
        epochs=25,
        batch=16,
    )
    ranker = RankerRecipeConfig(shape=RankerConfig(hidden=16), epochs=15, batch=256)
    return TrainingConfig(
        seed=seed,
        threads=1,
        als=AlsConfig(factors=8, regularization=0.1, alpha=5.0),
        content=ContentConfig(dimensions=8),
        deep=deep,
        deep_seconds=20.0,
        ranker=ranker,
        union=20,
    )
