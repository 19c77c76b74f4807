"""What a ranked feed looks like to its callers, and the protocol that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeLevel, DegradeReason
from contracts.events import EventType
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
class SourceRank:
    """At which rank, from 1, a source finds a post, and how many it may give; None: never."""

    source: str
    rank: int | None
    quota: int


@dataclass(frozen=True, slots=True)
class Rival:
    """A post that another lost to."""

    post_id: int
    position: int
    by: float
    """How much more it counts there; negative where the lot or the mix preferred it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What selection makes of a value at one place; the factors' product is its multiplier."""

    position: int
    author_decay: float
    topic_spread: float
    likeness: float
    mix: float
    barred: str | None = None
    """`author_cap` or `mix`, where the post cannot stand at this place at all."""
    drawn: bool = False
    """The place was drawn by lot, with `propensity`, given the places before it."""
    propensity: float = 1.0
    instead: Rival | None = None
    """The post that was worth most at this place, where the lot gave it to another."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One change alone that takes a post onto the first page, or off it; checked by recomputing."""

    change: str
    """`follow_author`, `unfollow_author`, `lift_wishes`, `drop.<rule>`, or a path of the policy."""
    before: float | None
    after: float | None
    size: float | None
    """0: an act of the viewer. Else the relative change of a number. None: a rule is dropped."""
    position: int | None
    """The place that it gives; None: not on the first page any more."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a post stands where it stands in one feed, or why it is not there."""

    feed_id: int
    post_id: int
    outcome: str
    """`served`, `reserve`, `removed`, `outranked` (found, not removed, and behind all places that
    the record keeps) or `not_a_candidate`. Only the first two have a position."""
    position: int | None
    sources: tuple[str, ...] = ()
    removed_by: str | None = None
    value: float | None = None
    """As it was recorded; in the slate, after selection."""
    ledger: Mapping[str, float] = field(default_factory=dict)
    """In the order of the fold, which gives `value` bit for bit; else `value_now`, where given."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    behind: Mapping[str, float | str] = field(default_factory=dict)
    """The post one place ahead and by how much it is ahead, where there is one."""
    page: int = 0
    """Posts of the first page, as it was opened."""
    placement: Placement | None = None
    """At its own place; of a post outside the slate, at the last place of the first page."""
    lost_to: Rival | None = None
    """Who has the last place of the first page, where the post is not on it."""
    sources_now: tuple[SourceRank, ...] = ()
    rules_now: tuple[str, ...] = ()
    """Every rule that would remove it, the record's own first."""
    value_now: float | None = None
    would_stand: int | None = None
    """The place that its value of now gives it in the recorded feed; None: behind them all."""
    flip: Flip | None = None
    flips_tried: int = 0
    from_record: bool = True
    """The outcome stands in the record; otherwise it is computed as things stand now."""
    actions_since: int | None = None
    """Events of this viewer since the feed, where anything was computed now."""
    bundle_now: str | None = None
    """The bundle that computed, where it is another than the feed's."""
    note: str | None = None
    """`unknown_post`, `posted_after` the feed, `not_computed` (a part failed just now), or the
    degrade level of a feed that was not ranked at all."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A viewer's last feed, and how a wish would order the same posts."""

    feed_id: int
    served: tuple[int, ...]
    otherwise: tuple[int, ...]


class Feeds(Protocol):
    """A source of ranked feeds; `serving.service.FeedService` is ours."""

    def open(self, query: FeedQuery) -> FeedPage:
        """Rank a new feed and answer its first page; always answers, however degraded."""
        ...

    def page(
        self, feed_id: int, viewer_id: int, offset: int, limit: int, reader_id: int | None = None
    ) -> FeedPage:
        """Answer a later page of a snapshot; CursorExpired where it is gone.

        `reader_id`: the viewer by the id of now, where they were a stranger when the feed was made.
        """
        ...

    def rank(self, query: FeedQuery, post_ids: NDArray[np.int64]) -> RankedCandidates:
        """Order the caller's own candidates for a viewer."""
        ...

    def explain(self, feed_id: int, viewer_id: int | None, post_id: int) -> Explanation:
        """Explain one post of one feed; NotFound where the feed is not known."""
        ...

    def preview(self, viewer_id: int, wish: EventType, post_id: int) -> Preview:
        """Order the viewer's last feed as if they had wished for more or fewer of a post's kind.

        NotFound where the viewer has no recorded feed, or the post is not known.
        """
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
