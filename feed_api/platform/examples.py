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
        "text": "At place 2 of this feed. It was found through the people you follow. "
        "p-4 stands one place ahead; it is worth 0.012 more.",
        "position": 1,
        "sources": ["in_network"],
        "removed_by": None,
        "value": 0.731,
        "ledger": {"term.like": 0.5, "term.click": 0.231, "mult.out_of_network": 1.0},
        "probabilities": {"like": 0.11, "click": 0.32},
        "behind": {"post_id": "p-4", "value_before_selection": 0.012},
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
