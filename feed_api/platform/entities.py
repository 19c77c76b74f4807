"""Posts, people, follows and blocks: each write is one transaction that ends in the event log."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from contracts.clock import to_us
from contracts.errors import InvalidInput, Unprocessable
from contracts.events import EventType
from contracts.ids import UNKNOWN_ID, Namespace
from feed_api.platform import queries
from feed_api.platform.events import MAX_AHEAD_US
from feed_api.platform.queries import StoredPerson, StoredPost
from feed_api.platform.rows import EVENT_OF, edge_changes, own_event, person_table, post_table
from feed_api.platform.schemas import Moment, PersonIn, PostIn
from feed_api.state import ApiState


class Written(NamedTuple):
    """What a write came to."""

    created: bool
    seq: int
    """End of the event log after it."""


def put_post(api: ApiState, external: str, wanted: PostIn, now_us: int) -> Written:
    """Make a post what it should be; one that is so already stays untouched."""
    (post_id,) = queries.interned(api.workspace, Namespace.POST, [external])
    author = [] if wanted.author is None else [wanted.author]
    topics = queries.interned(api.workspace, Namespace.TOPIC, wanted.topics)
    before = queries.stored_post(api.workspace, post_id)
    kept_us = now_us if before is None else before.created_us
    given_us = _given_us(wanted.created, kept_us, now_us)
    post = StoredPost(
        author_id=next(iter(queries.interned(api.workspace, Namespace.PERSON, author)), None),
        text=wanted.text,
        topics=tuple(dict.fromkeys(topics)),
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
    post_id = queries.known_id(api.workspace, Namespace.POST, external)
    before = queries.stored_post(api.workspace, post_id)
    if before is None:
        raise queries.nothing_here()
    if before.deleted:
        return _untouched(api)
    viewer_id = UNKNOWN_ID if before.author_id is None else before.author_id
    event = own_event(EventType.POST_DELETED, viewer_id, now_us, post=post_id)
    return Written(False, api.workspace.write(event, deleted_posts=[post_id]).last_seq)


def put_person(api: ApiState, external: str, wanted: PersonIn, now_us: int) -> Written:
    """Make what is said about a person what it should be."""
    (person_id,) = queries.interned(api.workspace, Namespace.PERSON, [external])
    before = queries.stored_person(api.workspace, person_id)
    kept_us = None if before is None else before.created_us
    given_us = _given_us(wanted.created, kept_us, now_us)
    attributes = _text_of(wanted.attributes)
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
    person_id = queries.known_id(api.workspace, Namespace.PERSON, external)
    event = own_event(EventType.PERSON_ERASED, person_id, now_us)
    return Written(False, api.workspace.write(event, erased_people=[person_id]).last_seq)


def put_edge(api: ApiState, pair: tuple[str, str], kind: str, now_us: int) -> Written:
    """Let one person follow, block or mute another; people who are new get an id."""
    if pair[0] == pair[1]:
        raise Unprocessable(f"nobody can {kind} themselves")
    source, target = queries.interned(api.workspace, Namespace.PERSON, pair)
    return _write_edge(api, (source, target, kind), now_us, holds=True)


def delete_edge(api: ApiState, pair: tuple[str, str], kind: str, now_us: int) -> Written:
    """End a follow, block or mute; NotFound where one of the two is a stranger."""
    source, target = (queries.known_id(api.workspace, Namespace.PERSON, p) for p in pair)
    return _write_edge(api, (source, target, kind), now_us, holds=False)


def _write_edge(api: ApiState, edge: tuple[int, int, str], now_us: int, *, holds: bool) -> Written:
    source, target, kind = edge
    catalog = api.workspace.catalog
    stands = (
        catalog.has_follow(source, target)
        if kind == "follow"
        else catalog.has_block(source, target, kind)
    )
    if stands is holds:
        return _untouched(api)
    event = own_event(EVENT_OF[kind, holds], source, now_us, to=target)
    appended = api.workspace.write(event, **edge_changes({edge: (holds, now_us)}))
    return Written(holds, appended.last_seq)


def _untouched(api: ApiState) -> Written:
    return Written(False, api.workspace.log.last_seq)


def _text_of(attributes: Mapping[str, object]) -> str:
    """Write attributes as JSON; InvalidInput for a number or a text that has no form there."""
    try:
        return orjson.dumps(attributes, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidInput(f"attributes: {error}") from error


def _given_us(created: Moment | None, kept_us: int | None, now_us: int) -> int | None:
    """Read the time that was given; InvalidInput for one that is still to come.

    One that a fast clock puts a little ahead counts as now; said again, it changes nothing.
    """
    if created is None:
        return None
    created_us = to_us(created)
    if not 0 <= created_us <= now_us + MAX_AHEAD_US:
        raise InvalidInput("created: between 1970 and 5 minutes from now")
    said_before = kept_us is not None and now_us - MAX_AHEAD_US <= kept_us <= created_us
    return kept_us if created_us > now_us and said_before else min(created_us, now_us)
