"""What a ranked feed looks like to its callers, and the protocol that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.query import FeedQuery


class ReasonCode(StrEnum):
    """Why a post is in a feed, in one word; `FeedItem.reason_ref` says to what it refers."""

    FOLLOWING = "following"  # ref: the author followed
    SIMILAR_TO_LIKED = "similar_to_liked"  # ref: the post that was liked or clicked
    PEOPLE_LIKE_YOU = "people_like_you"
    RECENT_INTEREST = "recent_interest"  # ref: the topic of the recent actions
    TOPIC = "topic"  # ref: the topic
    TRENDING = "trending"
    NEW_POST = "new_post"
    CALLER = "caller"  # the caller's own candidate


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One post of a page."""

    position: int
    """Slot in the whole feed, from 0; positions keep their gaps where a post has fallen out."""
    post_id: int
    reason: ReasonCode
    reason_ref: int | None
    value: float


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page of a snapshot feed."""

    feed_id: int
    viewer_id: int
    items: tuple[FeedItem, ...]
    next_offset: int | None
    """Where the next page begins; None at the end of the snapshot."""
    level: DegradeLevel
    degrade_reasons: tuple[DegradeReason, ...] = ()
    policy_hash: str = ""
    bundle_id: str = ""
    followed_share: float = 0.0
    gaps: int = 0
    """Posts of this page that have fallen out since the snapshot (deleted, blocked)."""


@dataclass(frozen=True, slots=True)
class RankedCandidates:
    """The caller's own candidates, ordered; posts that were removed carry their reason."""

    post_ids: NDArray[np.int64]
    values: NDArray[np.float64]
    removed: Mapping[int, str]
    level: DegradeLevel
    degrade_reasons: tuple[DegradeReason, ...]
    policy_hash: str
    bundle_id: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a post stands where it stands in one feed, or why it is not there (first form)."""

    feed_id: int
    post_id: int
    outcome: str
    """`served`, `reserve`, `removed` or `not_a_candidate`."""
    position: int | None
    sources: tuple[str, ...] = ()
    removed_by: str | None = None
    value: float | None = None
    ledger: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    behind: Mapping[str, float | str] = field(default_factory=dict)
    """The post one place ahead and by how much it is ahead, where there is one."""


class Feeds(Protocol):
    """A source of ranked feeds; `serving.service.FeedService` is ours."""

    def open(self, query: FeedQuery) -> FeedPage:
        """Rank a new feed and answer its first page; always answers, however degraded."""
        ...

    def page(self, feed_id: int, viewer_id: int, offset: int, limit: int) -> FeedPage:
        """Answer a later page of a snapshot; CursorExpired where it is gone."""
        ...

    def rank(self, query: FeedQuery, post_ids: NDArray[np.int64]) -> RankedCandidates:
        """Order the caller's own candidates for a viewer."""
        ...

    def explain(self, feed_id: int, viewer_id: int | None, post_id: int) -> Explanation:
        """Explain one post of one feed; NotFound where the feed is not known."""
        ...

    def wait_applied(self, seq: int, timeout_seconds: float) -> bool:
        """Wait until the event log is applied up to `seq`; False at the time-out."""
        ...

    def health(self) -> Mapping[str, object]:
        """Say what is loaded: bundle, posts, people, applied log position, ranker state."""
        ...

    def close(self) -> None:
        """Write out what is queued and stop the threads."""
        ...
