"""Search of hyper-parameters on validation, in a time budget; the test is never asked.

Each model is tuned alone: trials are proposed and compared on one half of validation's people, and
the best is judged beside the default on the other half, which the search has not seen. Where it is
not better for certain there, the default stays.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from contracts.errors import InvalidInput
from features.storage import write_durably
from models.base import TrainingContext
from models.content import ContentConfig
from training.config import TrainingConfig
from training.evaluate import DECIDING
from training.intervals import Interval, bootstrap_means, interval
from training.ranking import validation_exam
from training.reading import TrainingData
from training.recipes.base import Recipe
from training.recipes.collaborative import AlsConfig, AlsRecipe, ItemKnnConfig, ItemKnnRecipe
from training.recipes.content import ContentRecipe
from training.scoring import judge, ranked_lists

Values = NDArray[np.float64]
Space = Mapping[str, tuple[Any, Any]]

RECIPES: Final[Mapping[str, Callable[[Any], Recipe]]] = {
    "als": AlsRecipe,
    "item_knn": ItemKnnRecipe,
    "content": ContentRecipe,
}
SPACES: Final[Mapping[str, Space]] = {
    "als": {"factors": (16, 128), "regularization": (0.1, 50.0), "alpha": (0.5, 40.0)},
    "item_knn": {"neighbours": (10, 400), "shrinkage": (1.0, 200.0)},
    "content": {"dimensions": (16, 128), "half_life_actions": (3.0, 100.0)},
}
"""Searched on a log scale, whole numbers where both bounds are."""
SHARES: Final = {"als": 0.6, "item_knn": 0.2, "content": 0.2}
"""Of the time; what one does not use goes to the next."""


class Tried(NamedTuple):
    """One trial."""

    model: str
    params: dict[str, Any]
    value: float | None
    """Mean NDCG@20 of the half that is searched on; None where the trial was pruned."""
    seconds: float


class Tuned(BaseModel):
    """What the search of one model found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: int
    pruned: int
    best: Mapping[str, int | float]
    gain: Interval
    """NDCG@20 over the default, paired, on the half that the search has not seen."""
    taken: bool


class Searched(BaseModel):
    """The best configuration with where it comes from, as the file that `--config` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    als: AlsConfig
    item_knn: ItemKnnConfig
    content: ContentConfig
    seed: int
    dataset: str
    data_fingerprint: str
    metric: Literal["ndcg@20"] = "ndcg@20"
    people: int
    """In validation; half of them were searched on, half decided."""
    seconds: float
    trials: int
    tuned: Mapping[str, Tuned]
    created: str
    """ISO 8601, UTC."""
    code_version: str

    def onto(self, config: TrainingConfig) -> TrainingConfig:
        """Give a configuration with what was found."""
        return config.model_copy(update={name: getattr(self, name) for name in RECIPES})

    def save(self, folder: Path) -> Path:
        """Write it under the data's fingerprint, in the place of an older one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.data_fingerprint}.json"
        write_durably(path, (self.model_dump_json(indent=2) + "\n").encode())
        return path


def configured(path: Path, base: TrainingConfig) -> TrainingConfig:
    """Lay a file over a configuration: what `Searched.save` wrote, or fields of `TrainingConfig`
    as JSON, nested ones in part. InvalidInput where it is neither."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "tuned" in found:
            return Searched.model_validate(found).onto(base)
        return TrainingConfig.model_validate(_merged(base.model_dump(mode="json"), found))
    except (OSError, ValueError) as error:
        msg = f"{path} holds no settings: {error}"
        hint = "`headwater train --search 5m` writes such a file; docs/models.md shows one by hand"
        raise InvalidInput(msg, hint=hint) from error


def _merged(old: Any, new: Any) -> Any:  # noqa: ANN401 - JSON
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def search(
    data: TrainingData, config: TrainingConfig, seconds: float
) -> tuple[Searched, list[Tried]]:
    """Tune ALS, item-kNN and content for about `seconds`; the default of each is always tried."""
    exam, split = validation_exam(data, config)
    frame, context = data.dataset.frame(split.fit), TrainingContext(config.seed, config.threads)
    began, share = monotonic(), 0.0
    tried: list[Tried] = []
    tuned: dict[str, Tuned] = {}
    chosen: dict[str, Any] = {}

    def values_of(name: str, one: BaseModel) -> Values:
        model = RECIPES[name](one).fit(frame, context)
        return judge(name, exam, ranked_lists(exam, model), {}).values[DECIDING]

    for name in RECIPES:
        share += SHARES[name]
        default = getattr(config, name)
        tuned[name], trials = _tune(
            name, default, partial(values_of, name), began + share * seconds, config.seed
        )
        tried += trials
        best = tuned[name].best if tuned[name].taken else {}
        chosen[name] = default.model_copy(update=dict(best))
    searched = Searched(
        **chosen,
        seed=config.seed,
        dataset=data.dataset.name,
        data_fingerprint=data.dataset.fingerprint(),
        people=len(np.unique(exam.queries.user_rows)),
        seconds=round(monotonic() - began, 1),
        trials=len(tried),
        tuned=tuned,
        created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        code_version=version("headwater"),
    )
    return searched, tried


def _tune(
    name: str, default: BaseModel, values_of: Callable[[BaseModel], Values], until: float, seed: int
) -> tuple[Tuned, list[Tried]]:
    """Try until a moment; a trial that would take longer than what is left is pruned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({key: getattr(default, key) for key in SPACES[name]})
    values: dict[int, Values] = {}
    slowest = 0.0  # seconds a factor

    def objective(trial: optuna.Trial) -> float:
        nonlocal slowest
        one = default.model_copy(update=_suggest(trial, default, SPACES[name]))
        began, factors = monotonic(), getattr(one, "factors", 1)
        if values and began + slowest * factors > until:
            study.stop()
            raise optuna.TrialPruned
        found = values[trial.number] = values_of(one)
        slowest = max(slowest, (monotonic() - began) / factors)
        return float(np.nanmean(found[_searched_on(len(found), seed)]))

    study.optimize(objective, timeout=max(until - monotonic(), 0.1))
    best = study.best_trial
    both = np.stack([values[best.number], values[0]], axis=1)
    held = both[~_searched_on(len(both), seed)]
    resampled = bootstrap_means(held, seed)
    gain = interval(float(np.nanmean(held[:, 0] - held[:, 1])), resampled[:, 0] - resampled[:, 1])
    tried = [
        Tried(name, t.params, t.value, t.duration.total_seconds() if t.duration else 0.0)
        for t in study.trials
    ]
    taken = best.number != 0 and gain.low > 0.0
    pruned = len(tried) - len(values)
    return Tuned(trials=len(tried), pruned=pruned, best=best.params, gain=gain, taken=taken), tried


def _suggest(trial: optuna.Trial, default: BaseModel, space: Space) -> dict[str, float]:
    """Propose choices from bounds widened so that the default lies within them."""
    found: dict[str, float] = {}
    for key, bounds in space.items():
        low, *_, high = sorted((*bounds, getattr(default, key)))
        suggest = trial.suggest_int if isinstance(bounds[0], int) else trial.suggest_float
        found[key] = suggest(key, low, high, log=low > 0)  # a default of 0 has no logarithm
    return found


def _searched_on(people: int, seed: int) -> NDArray[np.bool_]:
    """Deal people into the half that is searched on, True, and the half that decides."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(people)
    mine: NDArray[np.bool_] = order % 2 == 0
    return mine
