"""The slate: rows of a pool chosen slot by slot, with the probability that each was chosen with.

A slot takes the best value after author decay, topic spread, MMR and the pull of the mix. On the
first page it is drawn instead: Plackett-Luce over the slot's best rows (Luce 1959; Plackett 1975),
mixed with the best row so far that the slot loses at most the policy's regret in expectation. The
best of what is left after k draws is never worse than the greedy slate's (k+1)-th row, decay aside,
so bounded slots bound the slate. Everything that is read here stands in the decision record.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.order import largest
from contracts.policy import Mix, Policy, Selection
from contracts.seeds import stage_generator, unit_interval

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]

_NEVER: Final = -np.inf
_LEAST: Final = 1e-9
_PANEL: Final = 64
"""Posterior draws of which each row's share of wins is its probability (Thompson 1933)."""
_LIKENESS: Final = 1.0 - np.arange(65) / 32.0
"""Differing bits of two codes -> roughly the cosine of their vectors."""
_NO_ROWS: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Pool:
    """What selection consumes of the rows that it looks at, best value first; all [p]."""

    post_ids: Rows
    values: Floats
    authors: Rows
    """Any code, equal for equal authors; -1 where there is none."""
    topics: Rows
    followed: NDArray[np.bool_]
    cold: NDArray[np.bool_]
    promise: NDArray[np.float32]
    """Predicted probability of a positive action."""
    impressions: NDArray[np.float32]
    positives: NDArray[np.float32]
    codes: NDArray[np.uint64]
    """64 sign bits of the content vector (Charikar, STOC 2002); 0 where there is none."""


class Slate(NamedTuple):
    """Chosen rows of a pool in order, [s] each."""

    rows: Rows
    multiplier: Floats
    """What decay, spread, MMR and pull made of each row's value when it was chosen."""
    propensity: Floats
    """Probability of the choice given the choices before it; 1 where nothing was drawn."""
    kept_value: float
    """Expected over best value, slot by slot, summed over the drawn slots; 1 is greedy."""


def fill_slate(pool: Pool, policy: Policy, feed_id: int, viewer_id: int, first_page: int) -> Slate:
    """Choose the slate; the first `first_page` slots are drawn, the rest is greedy.

    Nothing is drawn where the page would keep less than the policy's budget allows.
    """
    slate = _Filling(pool, policy, feed_id, viewer_id).run(first_page)
    if slate.kept_value < 1.0 - policy.exploration.budget:
        return _Filling(pool, policy, feed_id, viewer_id).run(0)
    return slate


def decay_table(decay: float, floor: float, length: int) -> Floats:
    """Give the multiplier of the k-th repeat: (1 - floor) * decay^k + floor, k from 0; never 0."""
    table = (1.0 - floor) * decay ** np.arange(length, dtype=np.float64) + floor
    return np.maximum(table, _LEAST)


def likeness_factor(greatest: Floats, cost: float) -> Floats:
    """Give what MMR leaves of a value by the greatest likeness to a chosen row; never 0."""
    return np.maximum(1.0 - cost * greatest, _LEAST)


def most_followed(slot: int, mix: Mix) -> int:
    """Give the most followed rows that slots 0 to `slot` may hold: the bound, rounded up."""
    return ceil(mix.followed_max * (slot + 1) - 1e-9)


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

    def choose(self, row: int) -> tuple[Rows, float, int]:
        """Count a chosen row: the rows it touches, the change of their factor, the new count."""
        code = self._code[row]
        if code == self._unknown:
            return _NO_ROWS, 1.0, 0
        count = self._count[code] = self._count[code] + 1
        return self._rows[code], self._table[count] / self._table[count - 1], count


class _Likeness:
    """MMR over sign codes: what the greatest likeness to a chosen row costs."""

    def __init__(self, codes: NDArray[np.uint64], relevance: float) -> None:
        self._codes, self._cost = codes, 1.0 - relevance
        self._unknown = codes == 0
        self._greatest, self._kept = np.zeros(len(codes)), np.ones(len(codes))
        self.active = self._cost > 0.0 and bool(codes.any())

    def change(self, row: int) -> Floats:
        """Count a chosen row: the change of every row's factor, [p]."""
        code = self._codes[row]
        if not code:
            return np.ones(len(self._codes))
        same = _LIKENESS[np.bitwise_count(self._codes ^ code)]
        same[self._unknown] = 0.0
        greatest = np.maximum(self._greatest, same, out=self._greatest)
        kept = likeness_factor(greatest, self._cost)
        change: Floats = kept / self._kept
        self._kept = kept
        return change


class _Filling:
    """One slate being filled; followed rows stand first in its arrays, best first within."""

    def __init__(self, pool: Pool, policy: Policy, feed_id: int, viewer_id: int) -> None:
        order = self._order = np.argsort(~pool.followed, kind="stable")
        self._policy, self._feed_id, self._viewer_id = policy, feed_id, viewer_id
        self._pool = pool
        self._boundary = int(pool.followed.sum())
        self._values = pool.values[order]
        self._current = self._values.copy()
        rules: Selection = policy.selection
        length = rules.slate + 1
        self._authors = _Repeats(
            pool.authors[order], decay_table(rules.author_decay, rules.author_floor, length)
        )
        self._topics = _Repeats(
            pool.topics[order], decay_table(rules.topic_decay, rules.topic_floor, length)
        )
        self._likeness = _Likeness(pool.codes[order], rules.relevance)
        tried = np.zeros(len(order), dtype=bool)
        tried[np.flatnonzero(pool.cold)[: policy.cold_start.candidates]] = True
        self._cold = tried[order]
        self._panel: Floats | None = None

    def run(self, first_page: int) -> Slate:
        """Fill slot by slot until the slate is full or no row is left."""
        rules, mix = self._policy.selection, self._policy.mix
        slots = min(rules.slate, len(self._current))
        drawn = min(first_page, slots) if self._policy.exploration.temperature > 0.0 else 0
        chances = unit_interval(self._feed_id, np.arange(drawn), "exploration").tolist()
        chosen: list[int] = []
        multipliers: list[float] = []
        propensity = np.ones(slots)
        expected = best_total = 0.0
        followed = 0
        for slot in range(slots):
            start, stop, pull = self._side(slot, followed, mix)
            if start == stop:
                break
            offers = self._current[start:stop]
            if pull != 1.0:
                offers = offers.copy()
                offers[: self._boundary] *= pull
            row = int(offers.argmax())
            best = offers.item(row)
            if best == _NEVER:
                break
            if slot < drawn:
                row, propensity[slot], kept = self._draw(slot, offers, row, start, chances[slot])
                expected += kept * best
                best_total += best
            row += start
            value = self._current.item(row) * (pull if row < self._boundary else 1.0)
            chosen.append(row)
            multipliers.append(value / self._values.item(row))
            followed += row < self._boundary
            self._take(row, rules.max_per_author)
        rows = self._order[np.array(chosen, dtype=np.int64)]
        kept_value = expected / best_total if best_total > 0.0 else 1.0
        return Slate(rows, np.array(multipliers), propensity[: len(rows)], kept_value)

    def _side(self, slot: int, followed: int, mix: Mix) -> tuple[int, int, float]:
        """Say which rows a slot may take, [start, stop), and what followed ones count."""
        boundary, end = self._boundary, len(self._current)
        if boundary in {0, end}:
            return 0, end, 1.0
        any_followed = self._current[:boundary].max() > _NEVER
        if not any_followed or self._current[boundary:].max() == _NEVER:
            return (0, boundary, 1.0) if any_followed else (boundary, end, 1.0)
        if followed + 1 <= mix.followed_min * (slot + 1):
            return 0, boundary, 1.0
        if followed + 1 > most_followed(slot, mix):
            return boundary, end, 1.0
        share = followed / slot if slot else mix.followed_target
        return 0, end, 1.0 + mix.pull * (mix.followed_target - share)

    def _draw(
        self, slot: int, offers: Floats, best: int, start: int, chance: float
    ) -> tuple[int, float, float]:
        """Draw a row of the offers: row, its probability, expected over best value."""
        top = offers.item(best)
        if slot in self._policy.cold_start.slots:
            tried = self._cold_choices(start, len(offers))
            if len(tried):
                wins = self._wins(tried)
                ratios = [max(offers.item(row - start), 0.0) / top for row in tried.tolist()]
                rows = (tried - start).tolist()
                return _mixed(rows, wins, ratios, best, self._policy.cold_start.regret, chance)
        rules = self._policy.exploration
        rows = [r for r in largest(offers, rules.choices).tolist() if offers.item(r) > 0.0]
        ratios = [offers.item(row) / top for row in rows]
        weights = [ratio ** (1.0 / rules.temperature) for ratio in ratios]
        total = sum(weights)
        shares = [weight / total for weight in weights]
        return _mixed(rows, shares, ratios, best, rules.regret, chance)

    def _cold_choices(self, start: int, width: int) -> Rows:
        here = slice(start, start + width)
        usable = self._cold[here] & (self._current[here] > _NEVER)
        return np.flatnonzero(usable) + start

    def _wins(self, rows: Rows) -> list[float]:
        """Give each new row's share of a panel of posterior draws that it wins; sums to 1.

        The panel depends on viewer and rows, not on the feed: the shares are the probabilities.
        """
        if self._panel is None:
            pool, strength = self._pool, self._policy.cold_start.prior_strength
            new = self._order[self._cold]
            promise = np.clip(pool.promise[new].astype(np.float64), 0.01, 0.99)
            good = pool.positives[new].astype(np.float64)
            bad = np.maximum(pool.impressions[new].astype(np.float64) - good, 0.0)
            generator = stage_generator(self._viewer_id, "cold_start")
            self._panel = np.zeros((_PANEL, len(self._order)))
            self._panel[:, self._cold] = generator.beta(
                strength * promise + good, strength * (1.0 - promise) + bad, (_PANEL, len(new))
            )
        winners = self._panel[:, rows].argmax(axis=1)
        counts = np.bincount(winners, minlength=len(rows)) / _PANEL
        shares: list[float] = counts.tolist()
        return shares

    def _take(self, row: int, cap: int) -> None:
        current = self._current
        current[row] = _NEVER
        rows, change, count = self._authors.choose(row)
        if count >= cap:
            current[rows] = _NEVER
        else:
            current[rows] *= change
        rows, change, _ = self._topics.choose(row)
        current[rows] *= change
        if self._likeness.active:
            current *= self._likeness.change(row)


def _mixed(
    rows: list[int],
    shares: list[float],
    ratios: list[float],
    best: int,
    regret: float,
    chance: float,
) -> tuple[int, float, float]:
    """Draw from shares mixed with the best row, so that at most `regret` is lost in expectation."""
    loss = 1.0 - sum(share * ratio for share, ratio in zip(shares, ratios, strict=True))
    weight = 1.0 if loss <= regret else regret / loss
    kept = 1.0 - weight * max(loss, 0.0)
    picked, below = best, 0.0
    for row, share in zip(rows, shares, strict=True):
        below += weight * share
        if chance < below:
            picked = row
            break
    probability = weight * sum(s for r, s in zip(rows, shares, strict=True) if r == picked)
    if picked == best:
        probability += 1.0 - weight
    return picked, probability, kept
