"""From a ranked feed to its snapshot and its decision record."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason, RemovalReason
from contracts.feed import FeedPage, ReasonCode
from contracts.policy import Policy
from contracts.query import FeedQuery
from contracts.record import NO_SCORER, RECORD_SCHEMA, RECORD_VERSION
from contracts.seeds import unit_interval
from features.views import FEATURE_HASH
from serving import columns as col
from serving.candidates import Candidates
from serving.pipeline import Ranked, Removed
from serving.reasons import Reasons
from serving.snapshots import Snapshot
from serving.stages.decision import Decision, checksum
from serving.stages.slate import Pool, Slate

_REMOVED_KEPT: Final = 100
"""Removed rows that a record keeps as a rule; beyond it they are sampled, and it says the rate."""
_CODES: Final = {code.value: place for place, code in enumerate(ReasonCode)}
_WORDS: Final = tuple(code.value for code in ReasonCode)
_NONE: Final = np.empty((0, 0), dtype=np.float32)


def snapshot_of(ranked: Ranked, reasons: Reasons, bundle_id: str, policy_hash: str) -> Snapshot:
    """Keep the order, reasons and values of a feed: slate, then reserve.

    The reserve's values are those of its record, in 32 bits: pages are the same after a restart.
    """
    query, selected, trace = ranked.context.query, ranked.selected, ranked.trace
    rows = np.concatenate([selected.slate, selected.reserve])
    values = ranked.ledger.value[rows]
    values[: len(selected.slate)] *= selected.multiplier
    values[len(selected.slate) :] = values[len(selected.slate) :].astype(np.float32)
    return Snapshot(
        feed_id=query.feed_id,
        viewer_id=query.viewer_id,
        now_us=query.now_us,
        post_ids=ranked.candidates[col.POST_ID][rows],
        reason_codes=reasons.codes,
        reason_refs=reasons.refs,
        values=values,
        level=trace.level,
        degrade_reasons=tuple(trace.reasons),
        policy_hash=policy_hash,
        bundle_id=bundle_id,
        followed_share=selected.followed_share,
    )


def record_of(
    ranked: Ranked,
    snapshot: Snapshot,
    person_ids: NDArray[np.int64],
    topic_ids: NDArray[np.int64],
) -> dict[str, Any]:
    """Write down everything that selection consumed; columns of `RECORD_SCHEMA`.

    `person_ids` and `topic_ids` map the slots of the pool to ids.
    """
    context, selected, trace = ranked.context, ranked.selected, ranked.trace
    pool, slate, values = selected.pool, selected.chosen, ranked.ledger.value
    probabilities = _part(ranked.candidates, col.PROBABILITIES, selected.pool_rows)
    return {
        **_answer_columns(context.query, snapshot),
        "log_seq": context.log_seq,
        "history_version": context.history_version,
        "source_yield": json.dumps(trace.source_yield),
        "stage_us": json.dumps(trace.stage_us),
        **_pool_columns(ranked, pool, person_ids, topic_ids),
        "features": _turned(_part(ranked.candidates, col.FEATURES, selected.pool_rows)),
        "probabilities": _turned(probabilities),
        "slate": slate.rows,
        "propensities": slate.propensity[: context.query.limit],
        "kept_value": slate.kept_value,
        "reserve_ids": ranked.candidates[col.POST_ID][selected.reserve],
        "reserve_values": values[selected.reserve],
        **_removed_columns(snapshot.feed_id, ranked.removed),
        "checksum": checksum(probabilities, pool.values, slate),
    }


def fallback_record(query: FeedQuery, snapshot: Snapshot, log_seq: int) -> dict[str, Any]:
    """Write down a feed that the pipeline did not rank: an empty pool, all of it in reserve."""
    lists = {field.name: () for field in RECORD_SCHEMA if pa.types.is_list(field.type)}
    none = np.empty(0)
    nothing = Slate(none.astype(np.int64), none, none, 1.0)
    return {
        **lists,
        **_answer_columns(query, snapshot),
        "log_seq": log_seq,
        "history_version": -1,
        "source_yield": "{}",
        "stage_us": "{}",
        "scorer": NO_SCORER,
        "kept_value": 1.0,
        "reserve_ids": snapshot.post_ids,
        "reserve_values": snapshot.values,
        "removed_counts": "{}",
        "removed_rate": 1.0,
        "checksum": checksum(_NONE, none, nothing),
    }


def page_record(page: FeedPage, offset: int, now_us: int, log_seq: int) -> dict[str, Any]:
    """Write down a page as it was read; columns of `PAGE_SCHEMA`."""
    return {
        "feed_id": page.feed_id,
        "viewer_id": page.viewer_id,
        "now": now_us,
        "log_seq": log_seq,
        "offset": offset,
        "posts": [item.post_id for item in page.items],
        "gaps": page.gaps,
    }


def _answer_columns(query: FeedQuery, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "record_version": RECORD_VERSION,
        "feed_id": snapshot.feed_id,
        "viewer_id": snapshot.viewer_id,
        "now": snapshot.now_us,
        "limit": query.limit,
        "bundle_id": snapshot.bundle_id,
        "policy_hash": snapshot.policy_hash,
        "assignments": json.dumps({k: list(v) for k, v in query.assignments.items()}),
        "level": snapshot.level.value,
        "reasons": [reason.value for reason in snapshot.degrade_reasons],
        "feature_hash": FEATURE_HASH,
        "reason_codes": [_CODES[c] for c in snapshot.reason_codes],
        "reason_refs": snapshot.reason_refs,
        "blanked": 0,
    }


def _pool_columns(
    ranked: Ranked, pool: Pool, person_ids: NDArray[np.int64], topic_ids: NDArray[np.int64]
) -> dict[str, Any]:
    candidates, rows = ranked.candidates, ranked.selected.pool_rows
    scorer = ranked.trace.scorer
    new = pool.cold
    trend = ranked.ledger.terms.get("trend_rank")  # 1 / (1 + rank)
    ranks = _NONE if trend is None else np.round(1.0 / trend[rows] - 1.0)
    family = _part(candidates, col.FAMILY, rows) if scorer == "fixed_blend" else _NONE
    return {
        "scorer": scorer,
        "pool_ids": pool.post_ids,
        "authors": _ids(pool.authors, person_ids),
        "topics": _ids(pool.topics, topic_ids),
        "sources": candidates[col.SOURCES][rows],
        "in_network": pool.followed,
        "cold_start": new,
        "author_shown": candidates[col.AUTHOR_SHOWN][rows],
        "topic_shown": candidates[col.TOPIC_SHOWN][rows],
        "control": candidates[col.CONTROL][rows],
        "impressions": np.where(new, pool.impressions, 0.0),
        "positives": np.where(new, pool.positives, 0.0),
        "content_codes": pool.codes,
        "family_scores": _turned(family),
        "trend_ranks": ranks,
    }


def _removed_columns(feed_id: int, removed: Removed) -> dict[str, Any]:
    """Keep all removed rows up to a hundred, else a seeded sample; count them all."""
    counts = Counter(removed.reasons.tolist())
    rate = min(1.0, _REMOVED_KEPT / max(len(removed.post_ids), 1))
    kept = unit_interval(feed_id, removed.post_ids, "removed") < rate
    return {
        "removed_ids": removed.post_ids[kept],
        "removed_reasons": removed.reasons[kept],
        "removed_counts": json.dumps({RemovalReason(k).word: n for k, n in counts.items()}),
        "removed_rate": rate,
    }


def snapshot_from_record(record: Mapping[str, Any], policy: Policy) -> Snapshot:
    """Rebuild a snapshot after a restart, from the record of its feed and its policy."""
    decision = Decision.of(record)
    order, pool = decision.pool(decision.ledger(policy).value)
    chosen = decision.select(pool, policy)
    values = np.concatenate([pool.values[chosen.rows] * chosen.multiplier, decision.reserve_values])
    followed = decision.adjustments.in_network[order][chosen.rows]
    level = DegradeLevel(record["level"])
    share = float(followed.mean() if len(followed) else level is DegradeLevel.FOLLOWING)
    return Snapshot(
        feed_id=record["feed_id"],
        viewer_id=record["viewer_id"],
        now_us=record["now"],
        post_ids=decision.ordered_ids,
        reason_codes=tuple(_WORDS[code] for code in record["reason_codes"]),
        reason_refs=record["reason_refs"],
        values=values,
        level=level,
        degrade_reasons=tuple(DegradeReason(word) for word in record["reasons"]),
        policy_hash=record["policy_hash"],
        bundle_id=record["bundle_id"],
        followed_share=share,
    )


def _part(candidates: Candidates, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Give a column's rows of the pool, best value first; [0, 0] where it was not written."""
    return candidates[name][rows] if name in candidates else _NONE


def _turned(matrix: NDArray[Any]) -> NDArray[Any]:
    """Lay a matrix [p, columns] out a column at a time: it compresses to half."""
    return matrix.T.reshape(-1)


def _ids(slots: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(slots >= 0, ids[np.maximum(slots, 0)], -1) if len(ids) else slots
