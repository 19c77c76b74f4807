"""Judging on a published split: every item is ranked, what is known is left out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from models.base import FloatArray, IntArray
from training.dataset import Ragged, spread
from training.metrics import LONGEST, hits, ranking_metrics, top_k
from training.protocols.split import Split, binary

BLOCK: Final = 256
"""People scored at a time."""
Scorer = Callable[[IntArray], FloatArray]
"""People [Q] to scores [Q, n_items]."""


def people_with_targets(split: Split) -> IntArray:
    """Give the people who have a target, ascending."""
    return np.flatnonzero(split.targets.lengths).astype(np.int64)


def blocks(people: IntArray) -> Iterator[IntArray]:
    """Cut people into blocks."""
    for start in range(0, len(people), BLOCK):
        yield people[start : start + BLOCK]


class Known:
    """What each person knows already, ready to be left out."""

    def __init__(self, split: Split) -> None:
        self._matrix = binary(split.asked, split.n_items)

    def of(self, people: IntArray) -> csr_array:
        """Mark it, [Q, n_items]."""
        return csr_array(self._matrix[people])

    def sink(self, scores: FloatArray, people: IntArray) -> FloatArray:
        """Put it behind everything, in place."""
        rows, columns = self.of(people).nonzero()
        scores[rows, columns] = -np.inf
        return scores


def taken(lists: Ragged, people: IntArray) -> Ragged:
    """Pick the lists of some people."""
    index = spread(lists.offsets[people], lists.offsets[people + 1])
    return Ragged(lists.values[index.values], index.offsets)


def ranked(
    split: Split, people: IntArray, scorer: Scorer, done: Callable[[int], None] | None = None
) -> IntArray:
    """Rank all items for people, the best `LONGEST` of each: [Q, LONGEST]; ties by item number."""
    known, lists = Known(split), []
    for block in blocks(people):
        lists.append(top_k(known.sink(scorer(block), block), LONGEST))
        if done is not None:
            done(len(block))
    return np.concatenate(lists)


def judged(split: Split, people: IntArray, lists: IntArray) -> Mapping[str, NDArray[np.float64]]:
    """Compute recall, NDCG, HR and MRR at each k, a value a person.

    Recall is over all targets, NDCG is ideal over min(k, targets): as LightGCN's code does.
    """
    targets = taken(split.targets, people)
    return ranking_metrics(hits(lists, targets, split.n_items), targets.lengths)
