"""From a ranked feed to its decision record and its snapshot."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel
from contracts.record import RECORD_VERSION
from features.views import FEATURE_HASH
from serving.candidates import FAMILY, FEATURES, IN_NETWORK, POST_ID, PROBABILITIES, SOURCES
from serving.pipeline import Ranked
from serving.reasons import Reasons
from serving.scorers import cold_start
from serving.snapshots import Snapshot

_REMOVED_KEPT = 400
"""Removed rows that a record keeps; the rest is counted by reason in the metrics."""


def snapshot_of(ranked: Ranked, reasons: Reasons, bundle_id: str) -> Snapshot:
    """Keep the order, reasons and values of a feed: slate, then reserve."""
    query, selected, trace = ranked.context.query, ranked.selected, ranked.trace
    rows = np.concatenate([selected.slate, selected.reserve])
    values = ranked.ledger.value[rows]
    values[: len(selected.slate)] *= selected.multiplier
    return Snapshot(
        feed_id=query.feed_id,
        viewer_id=query.viewer_id,
        now_us=query.now_us,
        post_ids=ranked.candidates[POST_ID][rows],
        reason_codes=reasons.codes,
        reason_refs=reasons.refs,
        values=values,
        level=trace.level,
        degrade_reasons=tuple(trace.reasons),
        policy_hash=ranked.context.policy.hash,
        bundle_id=bundle_id,
        followed_share=selected.followed_share,
    )


def record_of(ranked: Ranked, snapshot: Snapshot) -> dict[str, Any]:
    """Write down everything that selection consumed; columns of `RECORD_SCHEMA`."""
    context, selected, trace = ranked.context, ranked.selected, ranked.trace
    candidates = ranked.candidates
    slate = selected.slate
    rows = np.concatenate([slate, selected.reserve])
    scored = PROBABILITIES in candidates
    return {
        "record_version": RECORD_VERSION,
        "feed_id": snapshot.feed_id,
        "viewer_id": snapshot.viewer_id,
        "now": snapshot.now_us,
        "bundle_id": snapshot.bundle_id,
        "policy_hash": snapshot.policy_hash,
        "log_seq": context.log_seq,
        "history_version": context.history_version,
        "assignments": json.dumps({k: list(v) for k, v in context.query.assignments.items()}),
        "level": snapshot.level.value,
        "reasons": [reason.value for reason in snapshot.degrade_reasons],
        "source_yield": json.dumps(trace.source_yield),
        "stage_us": json.dumps(trace.stage_us),
        "post_ids": snapshot.post_ids,
        "slate": len(slate),
        "sources": candidates[SOURCES][rows],
        "family_scores": candidates[FAMILY][slate].tobytes() if FAMILY in candidates else b"",
        "features": candidates[FEATURES][slate].tobytes() if scored else b"",
        "feature_hash": FEATURE_HASH,
        "probabilities": candidates[PROBABILITIES][slate].tobytes() if scored else b"",
        "in_network": candidates[IN_NETWORK][slate].tobytes(),
        "cold_start": _take(cold_start(candidates, context.policy), slate),
        "values": ranked.ledger.value[rows].tobytes(),
        "selection": selected.multiplier.tobytes(),
        "reason_codes": list(snapshot.reason_codes),
        "reason_refs": snapshot.reason_refs,
        "removed_ids": ranked.removed.post_ids[:_REMOVED_KEPT],
        "removed_reasons": ranked.removed.reasons[:_REMOVED_KEPT],
    }


def snapshot_from_record(record: dict[str, Any]) -> Snapshot:
    """Rebuild a snapshot after a restart, from the record of its feed."""
    values = np.frombuffer(record["values"], dtype=np.float64).copy()
    multiplier = np.frombuffer(record["selection"], dtype=np.float64)
    values[: len(multiplier)] *= multiplier
    in_network = np.frombuffer(record["in_network"], dtype=np.bool_)
    return Snapshot(
        feed_id=record["feed_id"],
        viewer_id=record["viewer_id"],
        now_us=record["now"],
        post_ids=record["post_ids"],
        reason_codes=tuple(record["reason_codes"]),
        reason_refs=record["reason_refs"],
        values=values,
        level=DegradeLevel(record["level"]),
        degrade_reasons=(),
        policy_hash=record["policy_hash"],
        bundle_id=record["bundle_id"],
        followed_share=float(in_network.mean()) if len(in_network) else 0.0,
    )


def _take(mask: NDArray[np.bool_], rows: NDArray[np.int64]) -> bytes:
    return mask[rows].tobytes()
