"""The closed event enum, its Arrow schema, and what undoes what."""

from enum import IntEnum
from typing import Final

import pyarrow as pa


class EventType(IntEnum):
    """Everything that can happen; the number is what is stored, so numbers are never reused."""

    SERVED = 1
    IMPRESSION = 2
    VIEW = 3
    DWELL = 4
    CLICK = 5
    LIKE = 6
    UNLIKE = 7
    COMMENT = 8
    REPOST = 9
    UNREPOST = 10
    SHARE = 11
    SAVE = 12
    UNSAVE = 13
    HIDE = 14
    NOT_INTERESTED = 15
    REPORT = 16
    FOLLOW = 17
    UNFOLLOW = 18
    FOLLOW_AUTHOR = 19
    MUTE = 20
    BLOCK = 21
    UNBLOCK = 22
    POST_CREATED = 23
    POST_EDITED = 24
    POST_DELETED = 25
    PERSON_UPDATED = 26
    PERSON_ERASED = 27
    UNMUTE = 28
    MORE_OF_AUTHOR = 29
    FEWER_OF_AUTHOR = 30
    MORE_OF_TOPIC = 31
    FEWER_OF_TOPIC = 32
    RESET_CONTROLS = 33

    @property
    def word(self) -> str:
        """The lower-case name that files and the API use, e.g. `not_interested`."""
        return self.name.lower()


EVENT_TYPE_BY_WORD: Final = {t.word: t for t in EventType}

UNDO_OF: Final = {
    EventType.UNLIKE: EventType.LIKE,
    EventType.UNREPOST: EventType.REPOST,
    EventType.UNSAVE: EventType.SAVE,
    EventType.UNFOLLOW: EventType.FOLLOW,
    EventType.UNBLOCK: EventType.BLOCK,
    EventType.UNMUTE: EventType.MUTE,
}
"""An undo event -> the event whose effect it removes."""

POSITIVE_ACTIONS: Final = (
    EventType.CLICK,
    EventType.LIKE,
    EventType.COMMENT,
    EventType.REPOST,
    EventType.SHARE,
    EventType.SAVE,
)
"""Actions on a post that enter a viewer's history and count as relevance."""

NEGATIVE_ACTIONS: Final = (EventType.HIDE, EventType.NOT_INTERESTED, EventType.REPORT)

AUTHOR_CONTROLS: Final = {EventType.MORE_OF_AUTHOR: 1, EventType.FEWER_OF_AUTHOR: -1}
TOPIC_CONTROLS: Final = {EventType.MORE_OF_TOPIC: 1, EventType.FEWER_OF_TOPIC: -1}
"""What a viewer asked to see more (1) or fewer (-1) of: the author, or first topic, of a post."""
CONTROLS: Final = (*AUTHOR_CONTROLS, *TOPIC_CONTROLS)

NEEDS_POST: Final = frozenset(
    {t for t in EventType if t.value <= EventType.REPORT}
    | set(CONTROLS)
    | {
        EventType.FOLLOW_AUTHOR,
        EventType.POST_CREATED,
        EventType.POST_EDITED,
        EventType.POST_DELETED,
    }
)
NEEDS_TARGET: Final = frozenset(
    {
        EventType.FOLLOW,
        EventType.UNFOLLOW,
        EventType.FOLLOW_AUTHOR,
        EventType.MUTE,
        EventType.UNMUTE,
        EventType.BLOCK,
        EventType.UNBLOCK,
    }
)

UTC_US: Final = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("event_id", pa.int64(), nullable=False),  # 63-bit; hash of the external id
        pa.field("type", pa.int8(), nullable=False),  # EventType
        pa.field("viewer_id", pa.int64(), nullable=False),  # who did it
        pa.field("post_id", pa.int64()),  # on which post
        pa.field("target_id", pa.int64()),  # on which person (follow, mute, block)
        pa.field("event_time", UTC_US, nullable=False),  # when it happened
        pa.field("known_time", UTC_US, nullable=False),  # when the platform could know it
        pa.field("known_assumed", pa.bool_(), nullable=False),  # known_time was not given
        pa.field("value", pa.float32()),  # dwell: milliseconds; a rating where there is one
        pa.field("feed_id", pa.int64()),  # the feed that showed it
        pa.field("position", pa.int16()),  # slot in that feed, from 0
    ]
)

LOG_SCHEMA: Final = pa.schema([pa.field("seq", pa.int64(), nullable=False), *EVENT_SCHEMA])
"""What the event log gives back: the event and its place in the log, from 1, without gaps
between batches of one writer."""
