"""A decision record as arrays: what selection consumed, and how to fold and select it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.policy import ACTIONS, FAMILIES, Action, Policy
from contracts.record import NO_SCORER
from contracts.value import Ledger
from features.views import FEATURES
from serving.stages.ledgers import Adjustments, ensemble_ledger, fixed_blend_ledger, trending_ledger
from serving.stages.slate import Pool, Slate, fill_slate

Record = Mapping[str, Any]
Floats = NDArray[np.float64]

PROMISING = (ACTIONS.index(Action.CLICK), ACTIONS.index(Action.LIKE))
_FAMILY = [FEATURES.index(f"score_{family}") for family in FAMILIES]
"""The family scores stand among the features, rounded alike."""
NO_PROMISE = np.float32(0.1)


@dataclass(frozen=True, slots=True)
class Decision:
    """The pool of one feed, best value first as it was ranked; p rows."""

    record: Record
    post_ids: NDArray[np.int64]
    adjustments: Adjustments
    features: NDArray[np.float16]
    """[p, F], as scored; [0, 0] where no ranker answered."""
    probabilities: NDArray[np.float32]
    """[p, actions]; [0, 0] likewise."""
    family_scores: NDArray[np.float16]
    trend_ranks: NDArray[np.int32]

    @classmethod
    def of(cls, record: Record) -> "Decision":
        """Read a record of RECORD_SCHEMA."""
        rows = len(record["pool_ids"])
        return cls(
            record,
            np.asarray(record["pool_ids"], dtype=np.int64),
            Adjustments(
                np.asarray(record["in_network"], np.bool_),
                np.asarray(record["cold_start"], np.bool_),
                np.asarray(record["author_shown"], np.float16),
                np.asarray(record["topic_shown"], np.float16),
                np.asarray(record["control"], np.int8),
            ),
            _columns(np.asarray(record["features"], np.float16), rows),
            _columns(np.asarray(record["probabilities"], np.float32), rows),
            _columns(np.asarray(record["family_scores"], np.float16), rows),
            np.asarray(record["trend_ranks"], np.int32),
        )

    @property
    def slate(self) -> NDArray[np.int64]:
        """Rows of the pool that were served, in order."""
        return np.asarray(self.record["slate"], dtype=np.int64)

    @property
    def reserve_values(self) -> NDArray[np.float32]:
        """Values of the reserve, before selection."""
        return np.asarray(self.record["reserve_values"], dtype=np.float32)

    @property
    def ranked(self) -> bool:
        """Whether the pipeline ranked the feed; otherwise its posts are all in the reserve."""
        return bool(self.record["scorer"] != NO_SCORER)

    @property
    def needs_ranker(self) -> bool:
        """Whether the values were folded from the predictions of a ranker."""
        return bool(self.record["scorer"] == "ensemble")

    @property
    def ordered_ids(self) -> NDArray[np.int64]:
        """Post ids of the whole snapshot: slate, then reserve."""
        reserve = np.asarray(self.record["reserve_ids"], dtype=np.int64)
        return np.concatenate([self.post_ids[self.slate], reserve])

    def ledger(
        self,
        policy: Policy,
        *,
        probabilities: NDArray[np.float32] | None = None,
        adjustments: Adjustments | None = None,
        scorer: str | None = None,
    ) -> Ledger:
        """Fold the pool's values: as recorded, or with other predictions, adjustments, scorer."""
        changed = self.adjustments if adjustments is None else adjustments
        scorer = self.record["scorer"] if scorer is None else scorer
        if scorer == "ensemble":
            predicted = self.probabilities if probabilities is None else probabilities
            return ensemble_ledger(predicted, changed, policy)
        if scorer == "fixed_blend":
            family = self.features[:, _FAMILY] if self.needs_ranker else self.family_scores
            return fixed_blend_ledger(family.astype(np.float32), changed, policy)
        return trending_ledger(self.trend_ranks)

    def pool(
        self,
        values: Floats,
        probabilities: NDArray[np.float32] | None = None,
        adjustments: Adjustments | None = None,
    ) -> tuple[NDArray[np.int64], Pool]:
        """Order the rows by value, ties by id, and give what selection consumes of them."""
        order = np.lexsort((self.post_ids, -values))
        predicted = self.probabilities if probabilities is None else probabilities
        changed = self.adjustments if adjustments is None else adjustments
        record = self.record
        return order, Pool(
            self.post_ids[order],
            values[order],
            np.asarray(record["authors"], np.int64)[order],
            np.asarray(record["topics"], np.int64)[order],
            changed.in_network[order],
            changed.cold[order],
            promise_of(predicted, len(order))[order],
            np.asarray(record["impressions"], np.float32)[order],
            np.asarray(record["positives"], np.float32)[order],
            np.asarray(record["content_codes"], np.uint64)[order],
        )

    def select(self, pool: Pool, policy: Policy) -> Slate:
        """Choose the slate of a pool as this feed's request would."""
        record = self.record
        page = int(record["limit"])
        return fill_slate(pool, policy, record["feed_id"], record["viewer_id"], page)


def promise_of(probabilities: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Give each row's predicted probability of a click or like; a constant without a ranker."""
    if probabilities.size:
        promise: NDArray[np.float32] = probabilities[:, PROMISING].max(axis=1)
        return promise
    return np.full(rows, NO_PROMISE)


def checksum(probabilities: NDArray[np.float32], values: Floats, slate: Slate) -> int:
    """Hash what replay recomputes, to the bit: predictions, values, slate, multipliers, chances."""
    digest = blake2b(digest_size=8)
    for part in (probabilities, values, slate.rows, slate.multiplier, slate.propensity):
        digest.update(np.ascontiguousarray(part).tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)


def _columns(flat: NDArray[Any], rows: int) -> NDArray[Any]:
    """Turn a flat [columns, rows] to [rows, columns]; [0, 0] where nothing is held."""
    if not flat.size:
        return flat.reshape(0, 0)
    return np.ascontiguousarray(flat.reshape(-1, rows).T)
