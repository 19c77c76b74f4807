"""Closed lists of what a feed may say about itself: level, reasons, sources, removals."""

from enum import IntEnum, StrEnum
from typing import Final


class DegradeLevel(StrEnum):
    """How much of the ranking answered, best first."""

    FULL = "full"
    NO_DEEP = "no_deep"
    FIXED_BLEND = "fixed_blend"
    CACHED = "cached"
    FOLLOWING = "following"
    TRENDING = "trending"


DEGRADE_ORDER: Final = tuple(DegradeLevel)


def worst(*levels: DegradeLevel) -> DegradeLevel:
    """Give the most degraded of some levels."""
    return max(levels, key=DEGRADE_ORDER.index)


class DegradeReason(StrEnum):
    """Why a level is not `full`."""

    RANKER_FAILED = "ranker_failed"
    RANKER_TIMEOUT = "ranker_timeout"
    RANKER_UNREACHABLE = "ranker_unreachable"
    DEEP_SOURCE_FAILED = "deep_source_failed"
    SOURCE_FAILED = "source_failed"
    SOURCE_DEADLINE = "source_deadline"
    QUERY_HYDRATOR_FAILED = "query_hydrator_failed"
    FILTER_FAILED = "filter_failed"
    NO_BUNDLE = "no_bundle"
    NO_CANDIDATES = "no_candidates"
    UNKNOWN_VIEWER = "unknown_viewer"
    FEED_FAILED = "feed_failed"
    VIEWER_STATE_FAILED = "viewer_state_failed"
    BREAKER_OPEN = "breaker_open"
    COMPONENT_SLOW = "component_slow"
    FEED_DEADLINE = "feed_deadline"


class SourceName(StrEnum):
    """Where a candidate came from; the order is the bit in the candidate's `sources` mask."""

    IN_NETWORK = "in_network"
    COLLABORATIVE = "collaborative"
    DEEP = "deep"
    CONTENT = "content"
    ITEM_TO_ITEM = "item_to_item"
    TRENDING = "trending"
    FRESH = "fresh"
    FOLLOWS_OF_FOLLOWS = "follows_of_follows"
    CALLER = "caller"

    @property
    def bit(self) -> int:
        return 1 << list(SourceName).index(self)


class RemovalReason(IntEnum):
    """Why a candidate was removed; the number is what the decision record stores."""

    DUPLICATE = 1
    OWN = 2
    BLOCKED = 3
    MUTED_AUTHOR = 4
    MUTED_WORD = 5
    SEEN = 6
    SERVED_THIS_SESSION = 7
    TOO_OLD = 8
    LANGUAGE = 9
    INVENTORY_HOLDOUT = 10
    DELETED = 11
    NOT_VISIBLE = 12
    UNSCORED = 13
    OVER_CAP = 14

    @property
    def word(self) -> str:
        return self.name.lower()
