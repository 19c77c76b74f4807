"""Rows that rankers are compared on, extracted once a set and kept in var/bench; never the test.

The families are fitted before the first cut, as in training; rows are impressions (or candidates,
where none are known) of the window between the cuts. The last third of it, by time, is for judging.
"""

from pathlib import Path
from typing import NamedTuple

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
from training.ensemble import ask_features, candidate_rows, shown_queries, shown_rows
from training.fitting import choose_families, fit_models
from training.ranking import stack_families, validation_exam, visible_features
from training.reading import TrainingData, impressions_within, read_training_data
from training.stages import StageClock

_LISTS = 2500
"""Most people whose lists are judged."""


class Judging(NamedTuple):
    """One set: n rows to learn from and to judge, and candidates of Q lists."""

    features: NDArray[np.float16]
    labels: FloatArray
    people: IntArray
    early: BoolArray
    """[n]: may be learned from."""
    late: BoolArray
    """[n]: is judged; all rows are both where the set knows no impressions."""
    list_rows: IntArray
    """[Q, C]: posts, -1 padded."""
    list_features: NDArray[np.float16]
    list_hits: BoolArray
    """[Q, C]: the person acts on it later in the window."""
    list_targets: IntArray
    """[Q]: how many posts the person acts on."""
    list_people: IntArray


def rows_of(name: str, folder: Path | None) -> Judging:
    """Read what was extracted of a set, else extract it; no folder: a simulated world."""
    kept = BENCH / f"ranker_rows-{name}-{FEATURE_HASH}.npz"
    if not kept.exists():
        with Workspace.open(BENCH / f"ranker_rows-{name}") as workspace:
            if folder is None:
                folder = workspace.home / "files"
                World.generate(1, people=5000, posts=12_000).write(folder)
            ingest(workspace, open_dataset(folder), Reporter(as_json=True))
            materialize(workspace)
            np.savez(kept, **_extract(read_training_data(workspace))._asdict())
    with np.load(kept) as arrays:
        return Judging(**arrays)


def _extract(data: TrainingData) -> Judging:
    config, dataset = TrainingConfig(threads=1), data.dataset
    exam, split = validation_exam(data, config)
    models = fit_models(dataset.frame(split.fit), config, StageClock())
    stack, union = stack_families(models, choose_families(models, exam, config), exam, config)
    source = visible_features(data, split, exam.queries)
    some = np.random.default_rng(0).permutation(len(exam))[:_LISTS]
    queries, union = exam.queries[some], union[some]
    features = ask_features(dataset, source, queries, union.rows, union.scores)
    if data.impressions is not None and split.cuts_us is not None:
        inside = impressions_within(data, *split.cuts_us)
        shown = shown_queries(dataset, inside, config.most_impressions)
        rows = shown_rows(dataset, source, shown, stack.families, stack.normalisers)
        times = np.broadcast_to(shown.queries.now_us[:, None], shown.rows.shape)[shown.rows >= 0]
        early = times < np.quantile(times, 2 / 3)
    else:
        rows = candidate_rows(dataset, queries, union, features)
        early = np.ones(len(rows.labels), dtype=bool)
    wanted = exam.targets.owners * exam.n_items + exam.targets.values
    hits = np.isin(some[:, None] * exam.n_items + union.rows, wanted) & (union.rows >= 0)
    return Judging(
        rows.features, rows.labels, rows.groups, early, early if early.all() else ~early,
        union.rows, features, hits, exam.targets.lengths[some], queries.user_rows,
    )  # fmt: skip
