"""A recorded feed laid out again: what each row counts at each place, as recorded or changed.

`arrange` orders a pool by any policy, predictions or adjustments; `standing` takes a place of the
result apart into the factors of selection; `with_row` adds a post that the record does not hold.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.policy import Policy
from contracts.value import Ledger
from serving.stages.decision import Decision, Record
from serving.stages.ledgers import Adjustments
from serving.stages.selection import choose_pool
from serving.stages.slate import Pool, Slate, decay_table, likeness_factor, most_followed

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Predictions = NDArray[np.float32]

_POOL_DTYPES: Final = {
    "authors": np.int64,
    "topics": np.int64,
    "impressions": np.float32,
    "positives": np.float32,
    "content_codes": np.uint64,
}


@dataclass(frozen=True, slots=True)
class Arranged:
    """A decision's rows in order: the pool, best first, and the slate chosen from it."""

    ledger: Ledger
    """Of the decision's rows."""
    rows: Rows
    """[p]: the decision's row of each pool row."""
    pool: Pool
    slate: Slate

    def pool_row(self, row: int) -> int:
        """Give the pool row of a decision's row."""
        return int(np.flatnonzero(self.rows == row)[0])

    def place_of(self, row: int) -> int | None:
        """Give the place in the slate of a decision's row; None where it is not in it."""
        places = np.flatnonzero(self.rows[self.slate.rows] == row)
        return int(places[0]) if len(places) else None


def arrange(
    decision: Decision,
    policy: Policy,
    predicted: Predictions | None = None,
    adjusted: Adjustments | None = None,
    kept: int = -1,
) -> Arranged:
    """Fold, order and select a decision's rows as its request would.

    Where there are more rows than a pool may have, the best stay, and row `kept` with them.
    """
    ledger = decision.ledger(policy, probabilities=predicted, adjustments=adjusted)
    order, pool = decision.pool(ledger.value, predicted, adjusted)
    if len(order) > policy.selection.pool:
        facts = decision.adjustments if adjusted is None else adjusted
        chosen = choose_pool(order, facts.in_network, facts.cold, policy)
        stays = np.isin(order, chosen) | (order == kept)
        order = order[stays]
        pool = Pool(*(getattr(pool, column.name)[stays] for column in fields(Pool)))
    return Arranged(ledger, order, pool, decision.select(pool, policy))


@dataclass(frozen=True, slots=True)
class Standing:
    """What each row of a pool counts at one place; all [p]."""

    author_decay: Floats
    topic_spread: Floats
    likeness: Floats
    mix: Floats
    capped: Mask
    """Its author stands before this place as often as the policy lets one."""
    free: Mask
    """Neither chosen before nor capped."""
    open: Mask
    """The mix of followed and others lets it stand here, too."""
    values: Floats


def standing(pool: Pool, policy: Policy, chosen: Rows) -> Standing:
    """Take apart the place behind `chosen` rows of a pool, as `serving.stages.slate` fills it."""
    rules, mix = policy.selection, policy.mix
    authors, topics = _repeats(pool.authors, chosen), _repeats(pool.topics, chosen)
    length = len(chosen) + 1
    author_decay = decay_table(rules.author_decay, rules.author_floor, length)[authors]
    topic_spread = decay_table(rules.topic_decay, rules.topic_floor, length)[topics]
    likeness = likeness_factor(_greatest_likeness(pool.codes, chosen), 1.0 - rules.relevance)
    capped = authors >= rules.max_per_author
    free = ~capped
    free[chosen] = False
    pull, side = 1.0, np.ones(len(free), dtype=bool)
    followed, slot = int(pool.followed[chosen].sum()), len(chosen)
    if (free & pool.followed).any() and (free & ~pool.followed).any():
        if followed + 1 <= mix.followed_min * (slot + 1):
            side = pool.followed
        elif followed + 1 > most_followed(slot, mix):
            side = ~pool.followed
        else:
            share = followed / slot if slot else mix.followed_target
            pull = 1.0 + mix.pull * (mix.followed_target - share)
    pulled = np.where(pool.followed, pull, 1.0)
    values = pool.values * author_decay * topic_spread * likeness * pulled
    return Standing(author_decay, topic_spread, likeness, pulled, capped, free, free & side, values)


def _repeats(keys: Rows, chosen: Rows) -> Rows:
    """Count for each row how many chosen ones share its key; 0 where it has none."""
    same = (keys[:, None] == keys[chosen][None, :]) & (keys >= 0)[:, None]
    counts: Rows = same.sum(axis=1)
    return counts


def _greatest_likeness(codes: NDArray[np.uint64], chosen: Rows) -> Floats:
    """Give each row's greatest likeness to a chosen one, 0 to 1."""
    apart = np.bitwise_count(codes[:, None] ^ codes[chosen][None, :])
    alike = 1.0 - apart / 32.0
    alike[(codes == 0)[:, None] | (codes[chosen] == 0)[None, :]] = 0.0
    greatest: Floats = alike.max(axis=1, initial=0.0)
    return greatest


class Row(NamedTuple):
    """All that selection and fold consume of one post; arrays have one row."""

    post_id: int
    author_id: int
    """-1 where it has none, as the topic."""
    topic_id: int
    adjustments: Adjustments
    impressions: float
    positives: float
    content_code: int
    features: NDArray[np.float16]
    probabilities: Predictions
    """[1, actions]; [0, 0] where no ranker was asked."""
    family_scores: NDArray[np.float16]
    trend_rank: int


def with_row(decision: Decision, row: Row) -> Decision:
    """Add a post behind a decision's rows, as if selection had looked at it too."""
    added = (row.author_id, row.topic_id, row.impressions, row.positives, row.content_code)
    record: Record = {
        **decision.record,
        **{
            name: np.append(held, np.array([value], held.dtype))
            for name, value in zip(_POOL_DTYPES, added, strict=True)
            for held in [np.asarray(decision.record[name], _POOL_DTYPES[name])]
        },
    }
    facts = decision.adjustments._asdict()
    return replace(
        decision,
        record=record,
        post_ids=np.append(decision.post_ids, row.post_id),
        adjustments=Adjustments(
            **{k: np.concatenate([held, getattr(row.adjustments, k)]) for k, held in facts.items()}
        ),
        features=_stacked(decision.features, row.features),
        probabilities=_stacked(decision.probabilities, row.probabilities),
        family_scores=_stacked(decision.family_scores, row.family_scores),
        trend_ranks=np.append(decision.trend_ranks, np.int32(row.trend_rank)),
    )


def _stacked(held: NDArray[Any], added: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([held, added]) if held.size else held
