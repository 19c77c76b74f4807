"""From scores to judged lists: one pass over the queries in chunks, bounded in memory."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.base import BoolArray, FloatArray, IntArray, ItemHistories, Scorer
from training.dataset import Dataset, Queries, Ragged, histories, seen_items, target_items
from training.metrics import (
    LONGEST,
    hits,
    list_metrics,
    per_user,
    ranking_metrics,
    top_k,
)

CHUNK: Final = 512
"""Most queries scored at a time."""
MOST_SCORES: Final = 1 << 25
"""Most scores held at a time: 128 MB in float32."""


@dataclass(frozen=True, slots=True)
class Exam:
    """Queries with all that judging them needs, made once and used for every model."""

    queries: Queries
    histories: ItemHistories
    seen: Ragged
    targets: Ragged
    target_types: NDArray[np.int8]
    created_us: IntArray
    """[n_items]."""
    popularity: FloatArray
    """[n_items]: people who acted on each item in training."""

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def n_items(self) -> int:
        """Count the items."""
        return len(self.created_us)

    def mask(self, scores: FloatArray, part: slice) -> FloatArray:
        """Sink what may not be shown: items seen, and posts not yet made; in place."""
        seen = self.seen.part(part.start, part.stop)
        scores[seen.owners, seen.values] = -np.inf
        now = self.queries.now_us[part]
        if int(self.created_us.max(initial=0)) > int(now.min(initial=np.iinfo(np.int64).max)):
            scores[self.created_us[None, :] > now[:, None]] = -np.inf
        return scores

    def ndcg(self, ranked: IntArray) -> float:
        """Give the mean NDCG@20 of ranked lists [Q, 20], the figure that choices are made by."""
        return float(self.ndcg_of_each(ranked).mean())

    def ndcg_of_each(self, ranked: IntArray) -> NDArray[np.float64]:
        """Give the NDCG of each ranked list [Q, k]: [Q]."""
        gains = 1.0 / np.log2(np.arange(2, ranked.shape[1] + 2))
        ideal = np.cumsum(gains)[np.minimum(self.targets.lengths, ranked.shape[1]) - 1]
        found: NDArray[np.float64] = hits(ranked, self.targets, self.n_items) @ gains / ideal
        return found


def make_exam(data: Dataset, queries: Queries, popularity: FloatArray) -> Exam:
    """Gather histories, seen items and targets; queries without any target are left out."""
    useful = target_items(data, queries)[0].lengths > 0
    return exam_of(data, queries.take(useful), popularity)


def exam_of(data: Dataset, queries: Queries, popularity: FloatArray) -> Exam:
    """Gather histories, seen items and targets of all queries, with targets or without."""
    targets, types = target_items(data, queries)
    return Exam(
        queries,
        histories(data, queries),
        seen_items(data, queries),
        targets,
        types,
        data.content.created_us,
        popularity,
    )


def chunks(total: int, n_items: int = 1) -> list[slice]:
    """Cut 0..total into slices of at most `CHUNK`, and of few where there are many items."""
    size = max(1, min(CHUNK, MOST_SCORES // max(n_items, 1)))
    return [slice(s, min(s + size, total)) for s in range(0, total, size)]


def ranked_lists(exam: Exam, scorer: Scorer, k: int = LONGEST) -> IntArray:
    """Rank all items for each query and keep the k best, [Q, k]; -1 where fewer can be shown."""
    lists = [
        top_k(exam.mask(scorer.score_all(exam.histories.take(part)), part), k)
        for part in chunks(len(exam), exam.n_items)
    ]
    return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model got on one exam."""

    model: str
    values: dict[str, NDArray[np.float64]]
    """Metric -> a value a person, [people]."""
    lists: dict[str, float]
    """Coverage, novelty, popularity bias, Gini at each k."""
    slices: dict[str, NDArray[np.float64]]
    """Recall@20 on the targets of one kind, a value a person; NaN where there is none."""


def judge(model: str, exam: Exam, ranked: IntArray, slice_of: dict[str, BoolArray]) -> Judged:
    """Compute every metric of ranked lists [Q, >= 50].

    `slice_of`: name -> which targets count, a mask over the exam's target values.
    """
    hit = hits(ranked, exam.targets, exam.n_items)
    people = exam.queries.user_rows
    values = per_user(ranking_metrics(hit, exam.targets.lengths), people)
    parts: dict[str, NDArray[np.float64]] = {}
    for name, mask in slice_of.items():
        targets = exam.targets.keep(mask)
        found = ranking_metrics(hits(ranked, targets, exam.n_items), targets.lengths)
        parts[name] = per_user({name: found["recall@20"]}, people)[name]
    return Judged(model, values, list_metrics(ranked, exam.popularity), parts)
