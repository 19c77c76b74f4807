"""From scores to judged lists: one pass over the queries in chunks, bounded in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.base import BoolArray, Family, FloatArray, IntArray, ItemHistories, Scorer
from models.blend import BlendedFamilies, RetrievalBlend
from training.dataset import Dataset, Queries, Ragged, histories, seen_items, target_items
from training.metrics import (
    LONGEST,
    distinct,
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
FEW: Final = 400
"""Best items of each family that a blend is first looked for among."""


@dataclass(frozen=True, slots=True)
class Exam:
    """Queries with all that judging them needs, made once and used for every model."""

    queries: Queries
    histories: ItemHistories
    seen: Ragged
    targets: Ragged
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
        return float(self.ndcg_of_hits(hits(ranked, self.targets, self.n_items)).mean())

    def ndcg_of_hits(self, hit: BoolArray) -> NDArray[np.float64]:
        """Give the NDCG of each list from which of its places [Q, k] hold a target: [Q]."""
        gains = 1.0 / np.log2(np.arange(2, hit.shape[1] + 2))
        ideal = np.cumsum(gains)[np.minimum(self.targets.lengths, hit.shape[1]) - 1]
        found: NDArray[np.float64] = hit @ gains / ideal
        return found


def make_exam(data: Dataset, queries: Queries, popularity: FloatArray) -> Exam:
    """Gather histories, seen items and targets; queries without any target are left out."""
    useful = target_items(data, queries).lengths > 0
    return exam_of(data, queries[useful], popularity)


def exam_of(data: Dataset, queries: Queries, popularity: FloatArray) -> Exam:
    """Gather histories, seen items and targets of all queries, with targets or without."""
    return Exam(
        queries,
        histories(data, queries),
        seen_items(data, queries),
        target_items(data, queries),
        data.content.created_us,
        popularity,
    )


def chunks(total: int, n_items: int = 1) -> list[slice]:
    """Cut 0..total into slices of at most `CHUNK`, and of few where there are many items."""
    size = max(1, min(CHUNK, MOST_SCORES // max(n_items, 1)))
    return [slice(s, min(s + size, total)) for s in range(0, total, size)]


def ranked_lists(exam: Exam, scorer: Scorer, k: int = LONGEST) -> IntArray:
    """Rank all items for each query and keep the k best, [Q, k]; -1 where fewer can be shown."""
    lists = [best_of(exam, scorer, part, k)[0] for part in chunks(len(exam), exam.n_items)]
    return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int64)


def best_of(exam: Exam, scorer: Scorer, part: slice, k: int) -> tuple[IntArray, FloatArray]:
    """Rank all items for some queries: the k best, [q, k], -1 padded, and their scores."""
    histories = exam.histories.take(part)
    if not isinstance(scorer, BlendedFamilies) or min(scorer.blend.weights.values()) < 0:
        return _best(exam.mask(scorer.score_all(histories), part), k)
    raw = {f: exam.mask(m.score_all(histories), part) for f, m in scorer.families.items()}
    rows, values, sure = best_among_few(scorer.blend, raw, k)
    if not sure.all():
        rest = {family: scores[~sure] for family, scores in raw.items()}
        rows[~sure], values[~sure] = _best(scorer.blend.combine(rest), k)
    return rows, values


def _best(scores: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    rows = top_k(scores, k)
    return rows, np.take_along_axis(scores, np.maximum(rows, 0), axis=1)


def best_among_few(
    blend: RetrievalBlend, raw: Mapping[Family, FloatArray], k: int, few: int = FEW
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Blend the best of each family alone: the k best, and whether no other item can be better.

    With no weight below 0 an item outside has in no family more than the last one inside (the
    threshold algorithm: Fagin, Lotem, Naor, PODS 2001). Most of the cost of a blend is the map to
    its scale, item by item.
    """
    tops = {f: top_k(scores, few) for f, scores in raw.items()}
    union = distinct(np.concatenate(list(tops.values()), axis=1))
    inside, safe = union >= 0, np.maximum(union, 0)
    near = {f: np.where(inside, np.take_along_axis(raw[f], safe, axis=1), np.nan) for f in tops}
    last = {f: np.take_along_axis(raw[f], top[:, -1:], axis=1) for f, top in tops.items()}
    limit = blend.combine({f: np.where(tops[f][:, -1:] >= 0, last[f], np.nan) for f in tops})[:, 0]
    places, values = _best(blend.combine(near), k)
    rows = np.where(places >= 0, np.take_along_axis(union, np.maximum(places, 0), axis=1), -1)
    # A millionth more than the limit: the map is monotone but for the last bit.
    enough = np.nan_to_num(limit, nan=0.0) * np.float32(1 + 1e-6) + np.float32(1e-6)
    return rows, values, (rows[:, -1] >= 0) & (values[:, -1] > enough)


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
