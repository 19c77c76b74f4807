"""Rows that rankers are compared on, extracted once a set and kept in var/bench; never the test.

The families are fitted before the first cut, as in training; rows are impressions (or candidates,
where none are known) of the window between the cuts. The last third of it, by time, is for judging.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import BENCH
from features.materialize import materialize
from features.views import FEATURE_HASH
from features.workspace import Workspace
from models.base import BoolArray, FloatArray, IntArray
from pipelines.console import Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from simulator.world import World
from training.config import TrainingConfig
from training.dataset import Dataset, Queries
from training.ensemble import ask_features, candidate_rows, shown_queries, shown_rows
from training.fitting import choose_families, fit_models
from training.labels import Impressions
from training.ranking import Stack, stack_families, validation_exam, visible_features
from training.reading import FeatureSource, TrainingData, read_training_data, within
from training.recipes.ranker import RankerRows
from training.scoring import Exam
from training.stages import StageClock

_EARLY = 2 / 3
_LISTS = 2500
"""Most people whose lists are judged."""


@dataclass(frozen=True, slots=True)
class Judging:
    """One set: rows to learn from and to judge, and candidates of lists."""

    features: NDArray[np.float16]
    """[n, F]."""
    labels: FloatArray
    """[n, A]."""
    people: IntArray
    """[n]."""
    early: BoolArray
    """[n]: may be learned from."""
    late: BoolArray
    """[n]: is judged; all rows are both where the set knows no impressions."""
    list_rows: IntArray
    """[Q, C]: posts, -1 padded."""
    list_features: NDArray[np.float16]
    """[Q, C, F]."""
    list_hits: BoolArray
    """[Q, C]: the person acts on it later in the window."""
    list_targets: IntArray
    """[Q]: how many posts the person acts on."""
    list_people: IntArray
    """[Q]."""

    @classmethod
    def of(cls, name: str, folder: Path | None) -> Self:
        """Read what was extracted of a set, else extract it; no folder: a simulated world."""
        kept = BENCH / f"ranker_rows-{name}-{FEATURE_HASH}.npz"
        if not kept.exists():
            with Workspace.open(BENCH / f"ranker_rows-{name}") as workspace:
                if folder is None:
                    folder = workspace.home / "files"
                    World.generate(1, people=5000, posts=12_000).write(folder)
                ingest(workspace, open_dataset(folder), Reporter(as_json=True))
                materialize(workspace)
                data = read_training_data(workspace)
            np.savez(kept, **_extract(data))
        with np.load(kept) as arrays:
            return cls(**arrays)


def _extract(data: TrainingData) -> dict[str, NDArray[np.generic]]:
    config, dataset = TrainingConfig(threads=1), data.dataset
    clock = StageClock(begins=lambda name: print(f"  {name}", flush=True))
    exam, split = validation_exam(data, config)
    models = fit_models(dataset.frame(split.fit), config, clock)
    stack, union = stack_families(models, choose_families(models, exam, config), exam, config)
    source = visible_features(data, split, exam.queries)
    some = np.random.default_rng(0).permutation(len(exam))[:_LISTS]
    queries, union = exam.queries.take(some), union.take(some)
    features = ask_features(dataset, source, queries, union.rows, union.scores)
    if data.impressions is not None and split.cuts_us is not None:
        inside = within(data.impressions.times_us, *split.cuts_us)
        rows, times = _impressions(dataset, source, stack, data.impressions.take(inside), config)
        early = times < np.quantile(times, _EARLY)
        late = ~early
    else:
        rows = candidate_rows(dataset, queries, union, features)
        early = late = np.ones(len(rows.labels), dtype=bool)
    return {
        "features": rows.features,
        "labels": rows.labels,
        "people": rows.groups,
        "early": early,
        "late": late,
        "list_rows": union.rows,
        "list_features": features,
        "list_hits": _hits(exam, some, union.rows),
        "list_targets": exam.targets.lengths[some],
        "list_people": queries.user_rows,
    }


def _impressions(
    dataset: Dataset,
    source: FeatureSource,
    stack: Stack,
    impressions: Impressions,
    config: TrainingConfig,
) -> tuple[RankerRows, IntArray]:
    """Give rows of impressions and the moment of each."""
    shown = shown_queries(dataset, impressions, config.most_impressions)
    rows = shown_rows(dataset, source, shown, stack.families, stack.normalisers)
    moments: Queries = shown.queries
    times = np.broadcast_to(moments.now_us[:, None], shown.rows.shape)[shown.rows >= 0]
    return rows, times


def _hits(exam: Exam, some: IntArray, rows: IntArray) -> BoolArray:
    """Say which candidates [Q, C] of some queries are targets."""
    wanted = exam.targets.owners * exam.n_items + exam.targets.values
    return np.isin(some[:, None] * exam.n_items + rows, wanted) & (rows >= 0)
