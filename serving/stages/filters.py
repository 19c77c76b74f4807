"""The filters: one rule a class, each with the reason it gives. Their order is in home_feed."""

from collections.abc import Set
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.clock import HOUR_US
from contracts.degrade import DegradeReason, RemovalReason
from contracts.seeds import unit_interval
from features.caches import FeatureCache
from serving.candidates import Candidates, members
from serving.columns import AUTHOR, CREATED, DELETED, LANGUAGE, POST_ID, SLOT
from serving.components import Fault, OnError
from serving.context import QueryContext

Mask = NDArray[np.bool_]

# A filter that protects people must not be skipped: the feed falls to the next level instead.
_MUST = Fault(OnError.FAIL, DegradeReason.FILTER_FAILED)
_MAY = Fault(OnError.SKIP, DegradeReason.FILTER_FAILED)


class AccessRule(Protocol):
    """What the API knows about access, as one columnar question."""

    def visible(
        self, viewer_id: int, post_ids: NDArray[np.int64], author_slots: NDArray[np.int64]
    ) -> Mask:
        """Give a mask [n]: may this viewer see these posts now?"""


class EveryoneMaySee:
    """The access rule of a platform whose posts are all public."""

    def visible(
        self, viewer_id: int, post_ids: NDArray[np.int64], author_slots: NDArray[np.int64]
    ) -> Mask:
        """See `AccessRule`."""
        del viewer_id, author_slots
        return np.ones(len(post_ids), dtype=bool)


def still_visible(
    cache: FeatureCache, access: AccessRule, viewer_id: int, slots: NDArray[np.int64]
) -> Mask:
    """Say which posts [n] a viewer may be shown now: known, not deleted, of nobody banned."""
    if not len(slots):
        return np.empty(0, dtype=bool)
    posts, graph, viewer = cache.posts, cache.graph, cache.people.index.slot_of(viewer_id)
    known = slots >= 0
    rows = np.where(known, slots, 0)
    authors = posts.author_slot[rows].astype(np.int64)
    banned = np.concatenate([graph.blocked(viewer), graph.blocked_by(viewer), graph.muted(viewer)])
    allowed = access.visible(viewer_id, posts.post_id[rows], authors)
    return known & ~posts.deleted[rows] & ~np.isin(authors, banned) & allowed


class Rule:
    """A filter whose first line declares its reason, its columns, and what a failure of it means.

    It goes by the word of its reason where it has no other name.
    """

    name: ClassVar[str]
    removal: ClassVar[RemovalReason]
    reads: ClassVar[frozenset[str]]
    fault: ClassVar[Fault]

    def __init_subclass__(
        cls, *, removal: RemovalReason, reads: Set[str], fault: Fault, name: str | None = None
    ) -> None:
        cls.name = removal.word if name is None else name
        cls.removal, cls.reads, cls.fault = removal, frozenset(reads), fault


class DeletedFilter(Rule, removal=RemovalReason.DELETED, reads={DELETED}, fault=_MUST):
    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        del context
        return ~candidates[DELETED]


class OwnFilter(Rule, removal=RemovalReason.OWN, reads={AUTHOR}, fault=_MAY):
    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        if context.viewer_slot < 0:
            return np.ones(len(candidates), dtype=bool)
        kept: Mask = candidates[AUTHOR] != context.viewer_slot
        return kept


class BlockedFilter(Rule, removal=RemovalReason.BLOCKED, reads={AUTHOR}, fault=_MUST):
    """Removes authors blocked by the viewer and authors who block the viewer."""

    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        return ~members(candidates[AUTHOR], context.blocked_authors)


class MutedAuthorFilter(Rule, removal=RemovalReason.MUTED_AUTHOR, reads={AUTHOR}, fault=_MUST):
    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        return ~members(candidates[AUTHOR], context.muted_authors)


class SeenFilter(Rule, removal=RemovalReason.SEEN, reads={SLOT}, fault=_MAY):
    """Removes posts with an impression or a view by this viewer, and posts already acted on."""

    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        if not context.policy.filters.hide_seen:
            return np.ones(len(candidates), dtype=bool)
        return ~members(candidates[SLOT], np.concatenate([context.seen, context.recent_slots]))


class ServedFilter(Rule, removal=RemovalReason.SERVED_THIS_SESSION, reads={SLOT}, fault=_MAY):
    """Removes posts served to this viewer within the policy's session window."""

    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        return ~members(candidates[SLOT], context.served)


class AgeFilter(Rule, removal=RemovalReason.TOO_OLD, reads={CREATED}, fault=_MAY):
    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        hours = context.policy.filters.max_age_hours
        if hours is None:
            return np.ones(len(candidates), dtype=bool)
        return candidates[CREATED] >= context.query.now_us - int(hours * HOUR_US)


class LanguageFilter(Rule, removal=RemovalReason.LANGUAGE, reads={LANGUAGE}, fault=_MAY):
    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        if not context.policy.filters.match_language or context.language < 0:
            return np.ones(len(candidates), dtype=bool)
        language = candidates[LANGUAGE]
        kept: Mask = (language < 0) | (language == context.language)
        return kept


class InventoryHoldoutFilter(
    Rule, removal=RemovalReason.INVENTORY_HOLDOUT, reads={POST_ID}, fault=_MAY
):
    """Withholds a fixed share of posts per viewer, so that their absence can be measured."""

    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        share = context.policy.filters.inventory_holdout
        if share <= 0.0:
            return np.ones(len(candidates), dtype=bool)
        draw = unit_interval(context.query.viewer_id, candidates[POST_ID], "inventory_holdout")
        return draw >= share


class VisibilityFilter(
    Rule, removal=RemovalReason.NOT_VISIBLE, reads={POST_ID, AUTHOR}, fault=_MUST, name="visibility"
):
    """Asks the access rule; always the last filter: moderation decides whether, models order."""

    def __init__(self, rule: AccessRule) -> None:
        self._rule = rule

    def keep(self, context: QueryContext, candidates: Candidates) -> Mask:
        return self._rule.visible(context.query.viewer_id, candidates[POST_ID], candidates[AUTHOR])
