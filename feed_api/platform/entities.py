"""Posts, people, follows and blocks: each write is one transaction that ends in the event log."""

from typing import Final, NamedTuple

import orjson

from contracts.clock import to_us
from contracts.errors import InvalidInput, Unprocessable
from contracts.events import EventType
from contracts.ids import UNKNOWN_ID, Namespace
from feed_api.platform.events import MAX_AHEAD_US
from feed_api.platform.queries import (
    StoredPerson,
    StoredPost,
    interned,
    known_id,
    nothing_here,
    stored_person,
    stored_post,
)
from feed_api.platform.rows import (
    BlockRow,
    FollowRow,
    block_table,
    follow_table,
    own_event,
    person_table,
    post_table,
)
from feed_api.platform.schemas import Moment, PersonIn, PostIn
from feed_api.state import ApiState

_BLOCK_EVENTS: Final = {
    "block": (EventType.BLOCK, EventType.UNBLOCK),
    "mute": (EventType.MUTE, EventType.UNMUTE),
}


class Written(NamedTuple):
    """What a write came to."""

    created: bool
    seq: int
    """End of the event log after it."""


def put_post(api: ApiState, external: str, wanted: PostIn, now_us: int) -> Written:
    """Make a post what it should be; one that is so already stays untouched."""
    given_us = _given_us(wanted.created, now_us)
    (post_id,) = interned(api.workspace, Namespace.POST, [external])
    author = [] if wanted.author is None else [wanted.author]
    before = stored_post(api.workspace, post_id)
    kept_us = now_us if before is None else before.created_us
    post = StoredPost(
        author_id=next(iter(interned(api.workspace, Namespace.PERSON, author)), None),
        text=wanted.text,
        topics=tuple(dict.fromkeys(interned(api.workspace, Namespace.TOPIC, wanted.topics))),
        language=wanted.language,
        created_us=kept_us if given_us is None else given_us,
        deleted=False,
    )
    if post == before:
        return _untouched(api)
    created = before is None or before.deleted
    kind = EventType.POST_CREATED if created else EventType.POST_EDITED
    viewer_id = UNKNOWN_ID if post.author_id is None else post.author_id
    event = own_event(kind, viewer_id, now_us, post=post_id)
    appended = api.workspace.write(event, posts=post_table(post_id, post, now_us))
    return Written(created, appended.last_seq)


def delete_post(api: ApiState, external: str, now_us: int) -> Written:
    """Take a post out of all feeds; NotFound where there never was one."""
    post_id = known_id(api.workspace, Namespace.POST, external)
    before = stored_post(api.workspace, post_id)
    if before is None:
        raise nothing_here()
    if before.deleted:
        return _untouched(api)
    viewer_id = UNKNOWN_ID if before.author_id is None else before.author_id
    event = own_event(EventType.POST_DELETED, viewer_id, now_us, post=post_id)
    appended = api.workspace.write(event, deleted_posts=[post_id])
    return Written(False, appended.last_seq)


def put_person(api: ApiState, external: str, wanted: PersonIn, now_us: int) -> Written:
    """Make what is said about a person what it should be."""
    given_us = _given_us(wanted.created, now_us)
    (person_id,) = interned(api.workspace, Namespace.PERSON, [external])
    before = stored_person(api.workspace, person_id)
    kept_us = None if before is None else before.created_us
    attributes = orjson.dumps(wanted.attributes, option=orjson.OPT_SORT_KEYS).decode()
    person = StoredPerson(
        created_us=kept_us if given_us is None else given_us,
        language=wanted.language,
        attributes=attributes if wanted.attributes else None,
    )
    if person == before:
        return _untouched(api)
    event = own_event(EventType.PERSON_UPDATED, person_id, now_us)
    appended = api.workspace.write(event, people=person_table(person_id, person))
    return Written(before is None, appended.last_seq)


def delete_person(api: ApiState, external: str, now_us: int) -> Written:
    """Erase what is said about a person, with follows and blocks; NotFound for a stranger."""
    person_id = known_id(api.workspace, Namespace.PERSON, external)
    event = own_event(EventType.PERSON_ERASED, person_id, now_us)
    appended = api.workspace.write(event, erased_people=[person_id])
    return Written(False, appended.last_seq)


def put_follow(api: ApiState, follower: str, followee: str, now_us: int) -> Written:
    """Let one person follow another; people who are new get an id."""
    source, target = _two_people(api, follower, followee, "follow")
    if api.workspace.catalog.has_follow(source, target):
        return _untouched(api)
    event = own_event(EventType.FOLLOW, source, now_us, to=target)
    follows = follow_table([FollowRow(source, target, now_us)])
    return Written(True, api.workspace.write(event, follows_added=follows).last_seq)


def delete_follow(api: ApiState, follower: str, followee: str, now_us: int) -> Written:
    """End a follow; NotFound where one of the two is a stranger."""
    source, target = (known_id(api.workspace, Namespace.PERSON, p) for p in (follower, followee))
    if not api.workspace.catalog.has_follow(source, target):
        return _untouched(api)
    event = own_event(EventType.UNFOLLOW, source, now_us, to=target)
    follows = follow_table([FollowRow(source, target, now_us)])
    return Written(False, api.workspace.write(event, follows_removed=follows).last_seq)


def put_block(api: ApiState, pair: tuple[str, str], kind: str, now_us: int) -> Written:
    """Let one person block or mute another; people who are new get an id."""
    source, target = _two_people(api, *pair, kind)
    if api.workspace.catalog.has_block(source, target, kind):
        return _untouched(api)
    event = own_event(_BLOCK_EVENTS[kind][0], source, now_us, to=target)
    blocks = block_table([BlockRow(source, target, kind, now_us)])
    return Written(True, api.workspace.write(event, blocks_added=blocks).last_seq)


def delete_block(api: ApiState, pair: tuple[str, str], kind: str, now_us: int) -> Written:
    """End a block or mute; NotFound where one of the two is a stranger."""
    source, target = (known_id(api.workspace, Namespace.PERSON, p) for p in pair)
    if not api.workspace.catalog.has_block(source, target, kind):
        return _untouched(api)
    event = own_event(_BLOCK_EVENTS[kind][1], source, now_us, to=target)
    blocks = block_table([BlockRow(source, target, kind, now_us)])
    return Written(False, api.workspace.write(event, blocks_removed=blocks).last_seq)


def _untouched(api: ApiState) -> Written:
    return Written(False, api.workspace.log.last_seq)


def _two_people(api: ApiState, first: str, second: str, verb: str) -> tuple[int, int]:
    if first == second:
        msg = f"nobody can {verb} themselves"
        raise Unprocessable(msg)
    source, target = interned(api.workspace, Namespace.PERSON, [first, second])
    return source, target


def _given_us(created: Moment | None, now_us: int) -> int | None:
    """Read the time that was given; InvalidInput for one that is still to come."""
    if created is None:
        return None
    created_us = to_us(created)
    if not 0 <= created_us <= now_us + MAX_AHEAD_US:
        msg = "created: between 1970 and 5 minutes from now"
        raise InvalidInput(msg)
    return min(created_us, now_us)
