"""Feeds for somebody else's back end: one page, the caller's own candidates, why."""

import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from contracts.errors import NotFound, PipelineError, Unavailable
from contracts.events import EVENT_TYPE_BY_WORD
from contracts.feed import FeedItem, FeedPage
from contracts.funnel import HEALTH_KEY, FunnelReport
from contracts.ids import UNKNOWN_ID, FeedId, Namespace, UserId, feed_id_text, parse_feed_id
from contracts.query import FeedQuery
from feed_api.cursors import Position
from feed_api.platform.queries import id_of, known_id, names_of, nothing_here
from feed_api.platform.schemas import FeedParams, PreviewParams, RankIn
from feed_api.platform.why import why_of
from feed_api.platform.words import REF_NAMESPACE, reason_text
from feed_api.state import ApiState

_RANDOM_BITS: Final = 21
_MAX_PAGE: Final = 100
_PREVIEWED: Final = 20


class FeedAnswer(NamedTuple):
    """A page and how it is written."""

    page: FeedPage
    body: bytes
    next_cursor: str | None


def new_feed_id(now_us: int) -> FeedId:
    """Make a feed id: 42 bits of milliseconds since 1970, then 21 random bits."""
    milliseconds = (now_us // 1000) & ((1 << 42) - 1)
    return FeedId(milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def read_feed(api: ApiState, params: FeedParams, now_us: int) -> FeedAnswer:
    """Rank a new feed or read on in a snapshot; a viewer nobody knows gets a feed as well."""
    if params.cursor is None:
        viewer_id = id_of(api.workspace, Namespace.PERSON, params.viewer)
        query = FeedQuery(new_feed_id(now_us), UserId(viewer_id), now_us, params.limit)
        page, offset = api.feeds.open(query), 0
    else:
        position = api.cursors.read(params.cursor, params.viewer)
        viewer_id, offset = position.viewer_id, position.offset
        reader_id = None
        if viewer_id == UNKNOWN_ID:  # they may have become known since
            reader_id = id_of(api.workspace, Namespace.PERSON, params.viewer)
        page = api.feeds.page(position.feed_id, viewer_id, offset, params.limit, reader_id)
    cursor = None
    if page.next_offset is not None:
        if page.next_offset <= offset:
            msg = f"feed {feed_id_text(page.feed_id)} does not move on from offset {offset}"
            raise PipelineError(msg)
        next_position = Position(page.feed_id, viewer_id, page.next_offset)
        cursor = api.cursors.write(next_position, params.viewer)
    return FeedAnswer(page, _feed_body(api, page, cursor), cursor)


def rank_posts(api: ApiState, wanted: RankIn, now_us: int) -> bytes:
    """Order the caller's candidates; a post that is listed twice counts once."""
    external = list(dict.fromkeys(wanted.posts))
    ids = api.workspace.ids.lookup(Namespace.POST, external)
    known = np.ascontiguousarray(ids[ids != UNKNOWN_ID])
    names = dict(zip(ids.tolist(), external, strict=True))
    viewer_id = id_of(api.workspace, Namespace.PERSON, wanted.viewer)
    limit = min(wanted.limit or len(external), len(external))
    query = FeedQuery(new_feed_id(now_us), UserId(viewer_id), now_us, min(limit, _MAX_PAGE))
    ranked = api.feeds.rank(query, known)
    placed = {*ranked.post_ids.tolist(), *ranked.removed}
    removed = [{"post_id": names[post], "reason": word} for post, word in ranked.removed.items()]
    unknown = [
        text for text, post in zip(external, ids.tolist(), strict=True) if post not in placed
    ]
    ordered = zip(ranked.post_ids[:limit].tolist(), ranked.values[:limit].tolist(), strict=True)
    return _to_json(
        {
            "items": [
                {"position": place, "post_id": names[post_id], "value": value}
                for place, (post_id, value) in enumerate(ordered)
            ],
            "removed": removed,
            "unknown": unknown,
            "level": ranked.level.value,
            "degrade_reasons": [reason.value for reason in ranked.degrade_reasons],
            "policy_hash": ranked.policy_hash,
            "bundle_id": ranked.bundle_id,
        }
    )


def read_funnel(api: ApiState) -> bytes:
    """Give the funnel's report; Unavailable where these feeds keep none."""
    found = api.feeds.health().get(HEALTH_KEY)
    if found is None:
        raise Unavailable("these feeds keep no funnel")
    return FunnelReport.model_validate(found).model_dump_json().encode()


def preview_control(api: ApiState, person: str, params: PreviewParams) -> bytes:
    """Order a viewer's last feed as if they had this wish; NotFound for anything unknown."""
    viewer_id = known_id(api.workspace, Namespace.PERSON, person)
    post_id = known_id(api.workspace, Namespace.POST, params.post)
    with _one_not_found():
        found = api.feeds.preview(viewer_id, EVENT_TYPE_BY_WORD[params.type], post_id)
    before = {post: place for place, post in enumerate(found.served[:_PREVIEWED])}
    after = {post: place for place, post in enumerate(found.otherwise[:_PREVIEWED])}
    shown = list(dict.fromkeys([*after, *before]))
    names = names_of(api.workspace, Namespace.POST, shown)
    return _to_json(
        {
            "feed_id": feed_id_text(found.feed_id),
            "items": [
                {"post_id": names[post], "before": before.get(post), "after": after.get(post)}
                for post in shown
            ],
        }
    )


def explain_post(api: ApiState, feed_text: str, post: str) -> bytes:
    """Explain one post of one feed, in words and in numbers; NotFound for anything unknown."""
    try:
        feed_id = parse_feed_id(feed_text)
    except ValueError as error:
        raise nothing_here() from error
    post_id = known_id(api.workspace, Namespace.POST, post)
    with _one_not_found():
        explanation = api.feeds.explain(feed_id, None, post_id)
    return _to_json(why_of(api.workspace, explanation).body)


@contextmanager
def _one_not_found() -> Iterator[None]:
    """Let nobody read from the words of a NotFound what there is and what there is not."""
    try:
        yield
    except NotFound as error:
        raise nothing_here() from error


def _feed_body(api: ApiState, page: FeedPage, cursor: str | None) -> bytes:
    posts = names_of(api.workspace, Namespace.POST, [item.post_id for item in page.items])
    items: list[dict[str, Any]] = []
    for item, ref in zip(page.items, _refs(api, page.items), strict=True):
        reason = {"code": item.reason.value, "text": reason_text(item.reason, ref), "ref": ref}
        items.append(
            {
                "position": item.position,
                "post_id": posts[item.post_id],
                "reason": reason,
                "value": item.value,
            }
        )
    return _to_json(
        {
            "feed_id": feed_id_text(page.feed_id),
            "items": items,
            "next": cursor,
            "level": page.level.value,
            "degrade_reasons": [reason.value for reason in page.degrade_reasons],
            "policy_hash": page.policy_hash,
            "bundle_id": page.bundle_id,
            "followed_share": page.followed_share,
            "gaps": page.gaps,
        }
    )


def _refs(api: ApiState, items: Sequence[FeedItem]) -> list[str | None]:
    """Give for each item the external id that its reason refers to, one look-up a namespace."""
    wanted: defaultdict[Namespace, set[int]] = defaultdict(set)
    for item in items:
        if item.reason in REF_NAMESPACE and item.reason_ref is not None:
            wanted[REF_NAMESPACE[item.reason]].add(item.reason_ref)
    names: dict[tuple[Namespace | None, int | None], str] = {
        (namespace, number): name
        for namespace, ids in wanted.items()
        for number, name in names_of(api.workspace, namespace, ids).items()
    }
    return [names.get((REF_NAMESPACE.get(item.reason), item.reason_ref)) for item in items]


def _to_json(content: Mapping[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
