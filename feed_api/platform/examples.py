"""An example of every operation, for the OpenAPI file; tests hold them to the schemas."""

from collections.abc import Mapping
from typing import Any, Final

_FEED_ID: Final = "00d2f0c4a1b2c3d4"
_POLICY: Final = "3f2a9c01b7de4f55"
_BUNDLE: Final = "7c1e0b9d2a4f6830"

REQUESTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "rank_posts": {"viewer": "ann", "posts": ["p-17", "p-4", "p-99"], "limit": 10},
    "post_events": {
        "events": [
            {
                "viewer": "ann",
                "type": "like",
                "post": "p-17",
                "time": "2026-11-24T10:00:00Z",
                "event_id": "e-1001",
                "feed_id": _FEED_ID,
                "position": 0,
            },
            {"viewer": "ann", "type": "dwell", "post": "p-17", "value": 5200},
            {"viewer": "ann", "type": "follow", "target": "bob"},
        ]
    },
    "put_post": {
        "text": "How a headwater becomes a river",
        "author": "bob",
        "topics": ["rivers", "maps"],
        "language": "en",
        "created": "2026-11-24T09:30:00Z",
    },
    "put_person": {
        "language": "en",
        "created": "2026-10-01T08:00:00Z",
        "attributes": {"country": "NZ", "age": 31},
    },
}
"""Operation id -> a body that it takes."""

ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "read_feed": {
        "feed_id": _FEED_ID,
        "items": [
            {
                "position": 0,
                "post_id": "p-17",
                "reason": {
                    "code": "following",
                    "text": "Because you follow bob",
                    "ref": "bob",
                },
                "value": 0.731,
            }
        ],
        "next": "AQDS8MShssPUAAAAAAAAAAEAAAABq83vEjRWeJCrze8SNFZ4kA",
        "level": "full",
        "degrade_reasons": [],
        "policy_hash": _POLICY,
        "bundle_id": _BUNDLE,
        "followed_share": 0.5,
        "gaps": 0,
    },
    "explain_post": {
        "feed_id": _FEED_ID,
        "post_id": "p-17",
        "outcome": "served",
        "text": "At place 2 of this feed. It was found through the people you follow. Most of its "
        "value is the chance of a like (73 %, +0.365). “How a headwater becomes a river” (p-4) "
        "stands one place ahead; it counts 0.012 more. Its place was drawn by lot among the best, "
        "where it had 31 %. It would leave the first page if the viewer did not follow its "
        "author. All of this stands in the feed's record.",
        "position": 1,
        "sources": ["in_network"],
        "removed_by": None,
        "value": 0.493,
        "ledger": {
            "term.click": 0.128,
            "term.like": 0.365,
            "mult.out_of_network": 1.0,
            "mult.selection": 1.0,
        },
        "probabilities": {"click": 0.32, "like": 0.73},
        "behind": {"post_id": "p-4", "value_before_selection": 0.012, "value_in_place": 0.012},
        "page": 20,
        "placement": {
            "position": 1,
            "author_decay": 1.0,
            "topic_spread": 1.0,
            "likeness": 1.0,
            "mix": 1.0,
            "barred": None,
            "drawn": True,
            "propensity": 0.31,
            "instead": None,
        },
        "lost_to": None,
        "sources_now": [],
        "rules_now": [],
        "value_now": None,
        "would_stand": None,
        "flip": {
            "change": "unfollow_author",
            "before": None,
            "after": None,
            "size": 0.0,
            "position": None,
        },
        "flips_tried": 1,
        "from_record": True,
        "actions_since": None,
        "bundle_now": None,
        "note": None,
    },
    "preview_control": {
        "feed_id": _FEED_ID,
        "items": [
            {"post_id": "p-4", "before": 1, "after": 0},
            {"post_id": "p-17", "before": 0, "after": 5},
        ],
    },
    "rank_posts": {
        "items": [{"position": 0, "post_id": "p-17", "value": 0.731}],
        "removed": [{"post_id": "p-4", "reason": "seen"}],
        "unknown": ["p-99"],
        "level": "full",
        "degrade_reasons": [],
        "policy_hash": _POLICY,
        "bundle_id": _BUNDLE,
    },
    "read_funnel": {
        "feeds": 2000,
        "ranked": 1999,
        "levels": {"full": 1980, "fixed_blend": 19, "cached": 1},
        "reasons": {"ranker_timeout": 19, "query_hydrator_failed": 1},
        "failed": {"ensemble": 19},
        "sources": {"deep": {"found": 280.4, "reached": 26.3, "asked": 1870, "empty": 12}},
        "duplicates": 640.2,
        "candidates": 812.5,
        "removed": {"own": 1.2, "seen": 96.4},
        "pool": 100.0,
        "slate": 40.0,
        "reserve": 100.0,
        "personalised": 0.91,
        "warm": 0.94,
        "followed": 0.43,
        "kept_value": 0.987,
        "stages": {"feed": {"p50_us": 6120.0, "p95_us": 9410.0}},
        "recall": {"feeds": 41, "mean": 0.93, "lowest": 0.84},
        "calibration": {
            "click": {
                "impressions": 18210,
                "expected": 1930.4,
                "observed": 1877.0,
                "tolerance": 1.1,
            }
        },
        "lag_seconds": 0.0,
        "ahead_seconds": -4.1,
        "since_start": {
            "feeds": 51200,
            "reached": {"deep": 1346560},
            "removed": {"seen": 4935680},
            "stage_counts": {"feed": [0, 0, 12, 3400, 41000, 6700, 80, 8, 0, 0, 0, 0, 0]},
            "stage_seconds": {"feed": 313.6},
        },
    },
    "post_events": {
        "accepted": 2,
        "duplicates": 0,
        "rejected": [{"index": 1, "reason": "value: dwell needs milliseconds, 0 or more"}],
        "seq": 120034,
    },
    "health": {"status": "alive"},
    "readiness": {
        "ready": True,
        "checks": {"keys": True, "event_log": True, "feeds": True},
        "feeds": {"applied_seq": 120034, "posts": 100000, "people": 20000},
    },
}
"""Operation id -> a body that it gives; the others answer without one."""

PARAMETERS: Final[Mapping[str, str | int]] = {
    "viewer": "ann",
    "limit": 20,
    "cursor": "AQDS8MShssPUAAAAAAAAAAEAAAABq83vEjRWeJCrze8SNFZ4kA",
    "wait": "applied",
    "kind": "block",
    "type": "fewer_of_author",
    "post": "p-17",
    "feed_id": _FEED_ID,
    "post_id": "p-17",
    "person_id": "ann",
    "follower": "ann",
    "followee": "bob",
    "blocker": "ann",
    "blocked": "bob",
    "Idempotency-Key": "0190b5c2-8d2e-7f31-9c7e-2f6f2f0a9b11",
}
"""Parameter -> a value that it takes."""
