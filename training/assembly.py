"""Put the parts of a run together as a bundle, with a manifest that says what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from contracts.policy import ACTIONS
from features.views import FEATURE_HASH, FEATURES
from models.base import Family, RetrievalModel, VectorModel
from models.blend import RetrievalBlend
from models.bundle import Bundle, build_index
from models.manifest import DataWindow, FamilyNote, Manifest
from models.normalise import QuantileTable
from models.ranker import EnsembleRanker
from training.config import TrainingConfig
from training.dataset import Dataset
from training.evaluate import ModelRow
from training.fitting import Choice, Models, family_configs
from training.split import Split


@dataclass(frozen=True, slots=True)
class Parts:
    """What goes into a bundle."""

    models: Models
    families: Mapping[Family, RetrievalModel]
    normalisers: Mapping[Family, QuantileTable]
    blend: RetrievalBlend
    ranker: EnsembleRanker


def assemble(
    data: Dataset,
    config: TrainingConfig,
    split: Split,
    parts: Parts,
    choice: Choice,
    rows: Sequence[ModelRow],
    ranker_metrics: Mapping[str, float],
) -> Bundle:
    """Make the bundle; `Bundle.save` gives it its id."""
    seen = split.refit if config.refit else split.fit
    if config.final_fit:
        seen = np.ones_like(seen)
    manifest = Manifest(
        created=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        code_version=version("headwater"),
        features=FEATURES,
        feature_hash=FEATURE_HASH,
        actions=tuple(a.value for a in ACTIONS),
        heads_trained=tuple(
            a.value for a, there in zip(ACTIONS, parts.ranker.trained, strict=True) if there
        ),
        calibrated=data.has_impressions,
        protocol=split.sentence,
        measured_on=_measured_on(config, rows),
        seed=config.seed,
        data=_window(data, seen, seen | split.refit),
        families=_notes(config, parts.families, choice),
        config=config.model_dump(mode="json"),
        blend={family.value: weight for family, weight in parts.blend.weights.items()},
        policy=config.policy,
        metrics=[_brief(row) for row in rows],
        ranker_metrics={k: v for k, v in ranker_metrics.items() if np.isfinite(v)},
    )
    return Bundle(
        manifest,
        data.post_ids,
        dict(parts.families),
        parts.models.popularity,
        dict(parts.normalisers),
        parts.ranker,
        {
            family: build_index(model.item_vectors(), config.seed)
            for family, model in parts.families.items()
            if isinstance(model, VectorModel)
        },
    )


def _window(data: Dataset, seen: np.ndarray, by_any: np.ndarray) -> DataWindow:
    """Describe what the families have seen; the ranker has seen what lies before the test."""
    times = data.actions.times_us
    return DataWindow(
        dataset=data.name,
        fingerprint=data.fingerprint(),
        events=int(seen.sum()),
        people=data.n_users,
        posts=data.n_items,
        first_us=int(times[seen].min(initial=np.iinfo(np.int64).max)),
        last_us=int(times[by_any].max(initial=0)),
        up_to_seq=data.up_to_seq,
    )


def _notes(
    config: TrainingConfig, families: Mapping[Family, RetrievalModel], choice: Choice
) -> dict[str, FamilyNote]:
    configs = family_configs(config, choice)
    return {
        family.value: FamilyNote(
            model=model.name,
            dimensions=model.item_vectors().shape[1] if isinstance(model, VectorModel) else 0,
            config=configs[family].model_dump(mode="json"),
        )
        for family, model in families.items()
    }


def _measured_on(config: TrainingConfig, rows: Sequence[ModelRow]) -> str:
    people = rows[0].people if rows else 0
    if config.final_fit:
        before = _measured_on(config.model_copy(update={"final_fit": False}), rows)
        return f"the same families before a last fit on everything; then, {before}"
    fit = (
        "these very weights: the families fitted on all before the test, the ranker on the window "
        "before it with families that had not seen that window"
        if config.refit
        else "these very weights: families and ranker fitted before the test"
    )
    return f"{fit}; {people} people after the cut"


def _brief(row: ModelRow) -> dict[str, object]:
    return {
        "model": row.model,
        "people": row.people,
        "metrics": {k: list(v) for k, v in row.metrics.items()},
        "over_popularity": list(row.over_popularity),
        "over_best_single": list(row.over_best_single),
    }
