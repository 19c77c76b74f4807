"""Why a post stands where it stands, read from the decision record alone (first form)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import RemovalReason, SourceName
from contracts.feed import Explanation
from contracts.policy import ACTIONS, Policy
from contracts.value import Ledger
from serving.scorers import ensemble_ledger, fixed_blend_ledger

Record = dict[str, Any]


def explain_record(record: Record, policy: Policy, post_id: int) -> Explanation:
    """Explain one post of a recorded feed: served, in reserve, removed, or never a candidate."""
    places = np.flatnonzero(record["post_ids"] == post_id)
    if len(places):
        return _ordered(record, policy, post_id, int(places[0]))
    removed = np.flatnonzero(record["removed_ids"] == post_id)
    if len(removed):
        reason = RemovalReason(int(record["removed_reasons"][removed[0]])).word
        return Explanation(record["feed_id"], post_id, "removed", None, removed_by=reason)
    return Explanation(record["feed_id"], post_id, "not_a_candidate", None)


def _ordered(record: Record, policy: Policy, post_id: int, position: int) -> Explanation:
    slate = int(record["slate"])
    values = np.frombuffer(record["values"], dtype=np.float64)
    bits = int(record["sources"][position])
    sources = tuple(s.value for s in SourceName if bits & s.bit)
    behind = _gap(record, values, position)
    if position >= slate:
        return Explanation(
            record["feed_id"], post_id, "reserve", position, sources,
            value=float(values[position]), behind=behind,
        )  # fmt: skip
    rows = record_ledger(record, policy).row(position)
    multiplier = np.frombuffer(record["selection"], dtype=np.float64)[position]
    rows["mult.selection"] = float(multiplier)
    probabilities = _matrix(record["probabilities"], np.float32, slate)
    named = (
        {a.value: float(p) for a, p in zip(ACTIONS, probabilities[position], strict=True)}
        if probabilities.size
        else {}
    )
    return Explanation(
        record["feed_id"], post_id, "served", position, sources,
        value=float(values[position] * multiplier), ledger=rows, probabilities=named, behind=behind,
    )  # fmt: skip


def record_ledger(record: Record, policy: Policy) -> Ledger:
    """Rebuild the ledger of a record's slate from what it holds."""
    slate = int(record["slate"])
    in_network = np.frombuffer(record["in_network"], dtype=np.bool_)
    cold = np.frombuffer(record["cold_start"], dtype=np.bool_)
    probabilities = _matrix(record["probabilities"], np.float32, slate)
    if probabilities.size:
        return ensemble_ledger(probabilities, in_network, cold, policy)
    family = _matrix(record["family_scores"], np.float16, slate)
    return fixed_blend_ledger(family.astype(np.float32), in_network, policy)


def _matrix(raw: bytes, dtype: type, rows: int) -> NDArray[Any]:
    flat: NDArray[Any] = np.frombuffer(raw, dtype=dtype)
    return flat.reshape(rows, -1) if rows and flat.size else flat.reshape(0, 0)


def _gap(record: Record, values: NDArray[Any], position: int) -> dict[str, float | str]:
    if position == 0:
        return {}
    ahead = position - 1
    return {
        "post_id": str(int(record["post_ids"][ahead])),
        "value_before_selection": float(values[ahead] - values[position]),
    }
