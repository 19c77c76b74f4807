"""The decision record: what one feed served, from what, and why. One row a feed.

It holds everything that selection consumed: replay recomputes probabilities, ledger and slate from
it and compares checksums. `docs/records.md` says how to read it without this code. Nothing
personal beyond ids.
"""

from typing import Final

import pyarrow as pa

from contracts.events import UTC_US

RECORD_VERSION: Final = 3

NO_SCORER: Final = "none"
"""The `scorer` of a feed that the pipeline did not rank: its pool is empty."""


def _list(of: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", of, nullable=False))


RECORD_SCHEMA: Final = pa.schema(
    [
        pa.field("record_version", pa.int16(), nullable=False),
        pa.field("feed_id", pa.int64(), nullable=False),  # seeds every draw of the feed
        pa.field("viewer_id", pa.int64(), nullable=False),
        pa.field("now", UTC_US, nullable=False),  # the only clock that the stages read
        pa.field("limit", pa.int16(), nullable=False),  # posts of the first page
        pa.field("bundle_id", pa.string(), nullable=False),
        pa.field("policy_hash", pa.string(), nullable=False),
        pa.field("log_seq", pa.int64(), nullable=False),  # event log position that was applied
        pa.field("history_version", pa.int64(), nullable=False),  # events in this viewer's history
        pa.field("assignments", pa.string(), nullable=False),  # JSON: layer -> [experiment, arm]
        pa.field("level", pa.string(), nullable=False),  # DegradeLevel
        pa.field("reasons", _list(pa.string()), nullable=False),  # DegradeReason
        pa.field("source_yield", pa.string(), nullable=False),  # JSON: source -> rows
        pa.field("stage_us", pa.string(), nullable=False),  # JSON: stage -> microseconds
        pa.field("scorer", pa.string(), nullable=False),  # ensemble, fixed_blend, velocity or none
        # The pool, best value first: [p] rows that selection looked at.
        pa.field("pool_ids", _list(pa.int64()), nullable=False),
        pa.field("authors", _list(pa.int64()), nullable=False),  # person ids, -1: none
        pa.field("topics", _list(pa.int64()), nullable=False),  # first topic's id, -1: none
        pa.field("sources", _list(pa.int32()), nullable=False),  # bit mask of SourceName
        pa.field("in_network", _list(pa.bool_()), nullable=False),
        pa.field("cold_start", _list(pa.bool_()), nullable=False),  # the post is new
        pa.field("author_shown", _list(pa.float16()), nullable=False),
        pa.field("topic_shown", _list(pa.float16()), nullable=False),
        pa.field("control", _list(pa.int8()), nullable=False),
        pa.field("impressions", _list(pa.float32()), nullable=False),  # of new posts, else 0
        pa.field("positives", _list(pa.float32()), nullable=False),  # of new posts, else 0
        pa.field("content_codes", _list(pa.uint64()), nullable=False),
        pa.field("features", _list(pa.float16()), nullable=False),  # [F, p], as scored
        pa.field("feature_hash", pa.string(), nullable=False),  # of the feature list
        pa.field("probabilities", _list(pa.float32()), nullable=False),  # [actions, p]
        pa.field("family_scores", _list(pa.float16()), nullable=False),  # [4, p]; fixed_blend only
        pa.field("trend_ranks", _list(pa.int32()), nullable=False),  # velocity only
        # What selection made of it.
        pa.field("slate", _list(pa.int16()), nullable=False),  # [s] rows of the pool, in order
        pa.field("propensities", _list(pa.float32()), nullable=False),  # of the slots that were
        # drawn, given those before; all later ones were chosen for certain
        pa.field("kept_value", pa.float32(), nullable=False),  # expected over greedy value
        pa.field("reserve_ids", _list(pa.int64()), nullable=False),  # ordered, behind the slate
        pa.field("reserve_values", _list(pa.float32()), nullable=False),  # before selection
        pa.field("reason_codes", _list(pa.int8()), nullable=False),  # place in ReasonCode, a post
        pa.field("reason_refs", _list(pa.int64()), nullable=False),  # -1: refers to nothing
        pa.field("removed_ids", _list(pa.int64()), nullable=False),
        pa.field("removed_reasons", _list(pa.int8()), nullable=False),  # RemovalReason
        pa.field("removed_counts", pa.string(), nullable=False),  # JSON: reason -> all rows
        pa.field("removed_rate", pa.float32(), nullable=False),  # share of them kept here
        pa.field("blanked", pa.int16(), nullable=False),  # people erased since, ids gone
        pa.field("checksum", pa.int64(), nullable=False),  # of what replay recomputes
        pa.field("digest", pa.int64(), nullable=False),  # of the record's other columns
    ]
)

PAGE_SCHEMA: Final = pa.schema(
    [
        pa.field("feed_id", pa.int64(), nullable=False),
        pa.field("viewer_id", pa.int64(), nullable=False),
        pa.field("now", UTC_US, nullable=False),  # when the page was read
        pa.field("log_seq", pa.int64(), nullable=False),
        pa.field("offset", pa.int32(), nullable=False),  # place in slate and reserve, from 0
        pa.field("posts", _list(pa.int64()), nullable=False),  # as they were served
        pa.field("gaps", pa.int16(), nullable=False),  # posts that had fallen out
        pa.field("digest", pa.int64(), nullable=False),
    ]
)
"""A page that was read: every later page, and a first page that had lost a post."""
