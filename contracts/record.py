"""The decision record: what one feed served, from what, and why. One row a feed.

The schema holds what selection consumed for the best rows, so that a later replay
can recompute probabilities and ledger. Nothing personal beyond ids.
"""

from typing import Final

import pyarrow as pa

from contracts.events import UTC_US

RECORD_VERSION: Final = 1

RECORD_SCHEMA: Final = pa.schema(
    [
        pa.field("record_version", pa.int16(), nullable=False),
        pa.field("feed_id", pa.int64(), nullable=False),
        pa.field("viewer_id", pa.int64(), nullable=False),
        pa.field("now", UTC_US, nullable=False),
        pa.field("bundle_id", pa.string(), nullable=False),
        pa.field("policy_hash", pa.string(), nullable=False),
        pa.field("log_seq", pa.int64(), nullable=False),  # event log position that was applied
        pa.field("history_version", pa.int64(), nullable=False),  # events in this viewer's history
        pa.field("assignments", pa.string(), nullable=False),  # JSON: layer -> [experiment, arm]
        pa.field("level", pa.string(), nullable=False),  # DegradeLevel
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # DegradeReason
        pa.field("source_yield", pa.string(), nullable=False),  # JSON: source -> rows
        pa.field("stage_us", pa.string(), nullable=False),  # JSON: stage -> microseconds
        pa.field("post_ids", pa.list_(pa.int64()), nullable=False),  # ordered: slate, then reserve
        pa.field("slate", pa.int16(), nullable=False),  # how many of post_ids selection ordered
        pa.field("sources", pa.list_(pa.int32()), nullable=False),  # bit mask of SourceName
        pa.field("family_scores", pa.binary(), nullable=False),  # float16 [slate, 3]
        pa.field("features", pa.binary(), nullable=False),  # float16 [slate, F], as scored
        pa.field("feature_hash", pa.string(), nullable=False),  # of the feature list
        pa.field("probabilities", pa.binary(), nullable=False),  # float32 [slate, actions]
        pa.field("in_network", pa.binary(), nullable=False),  # bool [slate]
        pa.field("cold_start", pa.binary(), nullable=False),  # bool [slate]: got the policy's lift
        pa.field("values", pa.binary(), nullable=False),  # float64 [posts], before selection
        pa.field("selection", pa.binary(), nullable=False),  # float64 [slate], its multiplier
        pa.field("reason_codes", pa.list_(pa.string()), nullable=False),  # ReasonCode a post
        pa.field("reason_refs", pa.list_(pa.int64()), nullable=False),  # -1: refers to nothing
        pa.field("removed_ids", pa.list_(pa.int64()), nullable=False),
        pa.field("removed_reasons", pa.list_(pa.int8()), nullable=False),  # RemovalReason
    ]
)
