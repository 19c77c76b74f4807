"""Selection: an ordered slate with author decay, topic spread and a bounded mix."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeReason
from contracts.policy import Mix, Selection
from contracts.value import sink_unusable
from serving.candidates import AUTHOR, IN_NETWORK, POST_ID, TOPIC, Candidates
from serving.components import Fault, OnError, Selected
from serving.context import QueryContext

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


class SlateSelector:
    """Takes one row a slot: the best value after decay, within the bounds of the mix."""

    name: ClassVar[str] = "slate"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({POST_ID, AUTHOR, TOPIC, IN_NETWORK})

    def select(self, context: QueryContext, candidates: Candidates, values: Floats) -> Selected:
        """Order candidates [n] by `values` [n] into a slate and a reserve."""
        policy = context.policy
        order = by_value(values, candidates[POST_ID])
        pool = order[: policy.selection.pool]
        greedy = _Greedy(
            values[pool],
            candidates[AUTHOR][pool],
            candidates[TOPIC][pool],
            candidates[IN_NETWORK][pool],
            policy.selection,
        )
        slate, multiplier = greedy.fill(policy.selection.slate, policy.mix)
        chosen = pool[slate]
        left = np.ones(len(values), dtype=bool)
        left[chosen] = False
        reserve = order[left[order]][: policy.selection.reserve]
        followed = candidates[IN_NETWORK][chosen]
        share = float(followed.mean()) if len(chosen) else 0.0
        return Selected(chosen, reserve, multiplier, share)


def by_value(values: Floats, post_ids: Rows) -> Rows:
    """Order rows by value, best first; ties by post id; unusable values left out."""
    usable = sink_unusable(values)
    order = np.lexsort((post_ids, -usable))
    return order[np.isfinite(usable[order])]


def decay_table(decay: float, floor: float, length: int) -> Floats:
    """Give the multiplier of the k-th repeat: (1 - floor) * decay^k + floor, k from 0."""
    return (1.0 - floor) * decay ** np.arange(length, dtype=np.float64) + floor


_NEVER: Final = -np.inf


_NO_ROWS: Final = np.empty(0, dtype=np.int64)


class _Repeats:
    """How often each author (or topic) of a pool has been chosen, and what that costs."""

    def __init__(self, keys: Rows, table: Floats) -> None:
        unique, codes = np.unique(keys, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        stops = np.cumsum(np.bincount(codes, minlength=len(unique))).tolist()
        self._rows = [order[a:b] for a, b in zip([0, *stops], stops, strict=False)]
        self._code: list[int] = codes.tolist()
        self._count = [0] * len(unique)
        self._unknown = 0 if len(unique) and unique[0] < 0 else -1
        self._table: list[float] = table.tolist()

    def factor(self, row: int) -> float:
        """Give what a row's value is multiplied by now."""
        code = self._code[row]
        return 1.0 if code == self._unknown else self._table[self._count[code]]

    def choose(self, row: int) -> tuple[Rows, float, int]:
        """Count a chosen row: the rows it touches, the change of their factor, the new count."""
        code = self._code[row]
        if code == self._unknown:
            return _NO_ROWS, 1.0, 0
        count = self._count[code] = self._count[code] + 1
        return self._rows[code], self._table[count] / self._table[count - 1], count


class _Greedy:
    """Greedy choice over a pool sorted by value; followed rows stand first in its arrays."""

    def __init__(
        self,
        values: Floats,
        authors: Rows,
        topics: Rows,
        followed: NDArray[np.bool_],
        rules: Selection,
    ) -> None:
        self._order = np.argsort(~followed, kind="stable")
        self._boundary = int(followed.sum())
        self._current = values[self._order]
        length = rules.slate + 1
        self._authors = _Repeats(
            authors[self._order], decay_table(rules.author_decay, rules.author_floor, length)
        )
        self._topics = _Repeats(
            topics[self._order], decay_table(rules.topic_decay, rules.topic_floor, length)
        )
        self._cap = rules.max_per_author
        self._followed = self._current[: self._boundary]
        self._others = self._current[self._boundary :]

    def fill(self, slots: int, mix: Mix) -> tuple[Rows, Floats]:
        """Choose rows for `slots` slots; positions in the pool, and each one's multiplier."""
        chosen: list[int] = []
        multipliers: list[float] = []
        followed_taken = 0
        for slot in range(min(slots, len(self._current))):
            row = self._pick(slot, followed_taken, mix)
            if row < 0:
                break
            chosen.append(row)
            multipliers.append(self._authors.factor(row) * self._topics.factor(row))
            followed_taken += row < self._boundary
            self._take(row)
        return self._order[np.array(chosen, dtype=np.int64)], np.array(multipliers)

    def _pick(self, slot: int, followed_taken: int, mix: Mix) -> int:
        current, boundary = self._current, self._boundary
        followed = int(self._followed.argmax()) if boundary else -1
        other = boundary + int(self._others.argmax()) if boundary < len(current) else -1
        best_followed = current.item(followed) if followed >= 0 else _NEVER
        best_other = current.item(other) if other >= 0 else _NEVER
        if _NEVER in (best_followed, best_other):
            if best_followed == best_other:
                return -1
            return followed if best_other == _NEVER else other
        if followed_taken + 1 <= mix.followed_min * (slot + 1):
            return followed
        if followed_taken + 1 > mix.followed_max * (slot + 1) + 1e-9:
            return other
        return followed if best_followed >= best_other else other

    def _take(self, row: int) -> None:
        current = self._current
        current[row] = _NEVER
        rows, change, count = self._authors.choose(row)
        if count >= self._cap:
            current[rows] = _NEVER
        else:
            current[rows] *= change
        rows, change, _ = self._topics.choose(row)
        current[rows] *= change
