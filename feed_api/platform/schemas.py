"""What the platform API takes and gives, as JSON; unknown fields are refused everywhere."""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from contracts.events import EventType

MAX_EVENTS: Final = 1000
MAX_RANKED: Final = 2000

SERVER_TYPES: Final = frozenset(
    {EventType.SERVED}
    | {t for t in EventType if t.word.startswith("post_")}
    | {t for t in EventType if t.word.startswith("person_")}
)
"""Events that the server writes itself, when it serves a feed or an entity changes."""
CLIENT_TYPES: Final = tuple(t for t in EventType if t not in SERVER_TYPES)

ExternalId = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Language = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
]
Topic = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
]


_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _only_text(value: object) -> object:
    """Refuse numbers, as text too: whether they count seconds or milliseconds can not be seen."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.match(value)):
        return value
    raise ValueError("a time is RFC 3339 text with a zone, like 2026-11-24T10:00:00Z")


Moment = Annotated[AwareDatetime, BeforeValidator(_only_text)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FeedParams(_Part):
    """Which page of whose feed."""

    viewer: ExternalId = Field(description="External id of the person who looks at the feed.")
    limit: int = Field(default=20, ge=1, le=100, description="Posts on the page.")
    cursor: str | None = Field(
        default=None, max_length=200, description="`next` of the page before; absent: a new feed."
    )


class NoParams(_Part):
    """None are known: one that is given is refused."""


class WaitParams(_Part):
    """Whether to wait until feeds know of the write."""

    wait: Literal["applied"] | None = Field(
        default=None, description="`applied`: answer when feeds know of it, after 1 s at most."
    )


class BlockParams(WaitParams):
    """Block or mute."""

    kind: Literal["block", "mute"] = Field(default="block", description="Block or mute.")


class PreviewParams(_Part):
    """Which wish to try."""

    type: Literal[
        "more_of_author", "fewer_of_author", "more_of_topic", "fewer_of_topic", "reset_controls"
    ] = Field(description="The wish, as the event of the same type would make it.")
    post: ExternalId = Field(description="The post whose author or first topic is meant.")


class PreviewItem(_Part):
    """One post's places, from 0; null where it is not among the posts shown."""

    post_id: str
    before: int | None
    after: int | None


class PreviewOut(_Part):
    """The first posts of a viewer's last feed, without and with a wish."""

    feed_id: str
    items: list[PreviewItem]


class Reason(_Part):
    """Why a post is in a feed."""

    code: str
    text: str
    ref: str | None
    """External id of the person, post or topic that the code refers to."""


class FeedItemOut(_Part):
    """One post of a page."""

    position: int
    post_id: str
    reason: Reason
    value: float | None


class FeedOut(_Part):
    """One page of a ranked feed."""

    feed_id: str
    items: list[FeedItemOut]
    next: str | None
    level: str
    degrade_reasons: list[str]
    policy_hash: str
    bundle_id: str
    followed_share: float
    gaps: int


class EventIn(_Part):
    """Something that a person did."""

    viewer: ExternalId
    type: str = Field(json_schema_extra={"enum": [t.word for t in CLIENT_TYPES]})
    post: ExternalId | None = None
    target: ExternalId | None = None
    time: Moment | None = None
    event_id: ExternalId | None = None
    feed_id: str | None = Field(default=None, pattern=r"^[0-7][0-9a-f]{15}$")
    position: int | None = Field(default=None, ge=0, le=32767, strict=True)
    value: float | None = Field(default=None, ge=-1e9, le=1e9, strict=True)


class BadRow(BaseModel):
    """A row of a batch that does not fit, kept so that the others can go on."""

    reason: str


def _keep_going(value: object, validate: ValidatorFunctionWrapHandler) -> EventIn | BadRow:
    try:
        event: EventIn = validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return BadRow(reason=f"{place}: {first['msg']}" if place else first["msg"])
    return event


class EventBatch(_Part):
    """Events to add to the log; each row stands for itself."""

    events: list[Annotated[EventIn, WrapValidator(_keep_going)]] = Field(
        min_length=1, max_length=MAX_EVENTS
    )


class RejectedRow(_Part):
    """A row that was not taken, and why."""

    index: int
    reason: str


class EventsOut(_Part):
    """What became of a batch of events."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRow]
    seq: int
    """Place in the event log up to which feeds have to read to know of the batch."""


class PostIn(_Part):
    """A whole post: what is left out is empty, but for `created`, which is kept."""

    text: str = Field(max_length=20_000)
    author: ExternalId | None = None
    topics: list[Topic] = Field(default=[], max_length=32)
    language: Language | None = None
    created: Moment | None = None


class PersonIn(_Part):
    """What is said about a person: what is left out is empty, but for `created`, which is kept."""

    language: Language | None = None
    created: Moment | None = None
    attributes: dict[Topic, str | int | float | bool | None] = Field(default={}, max_length=100)


class RankIn(_Part):
    """The caller's own candidates for a viewer."""

    viewer: ExternalId
    posts: list[ExternalId] = Field(min_length=1, max_length=MAX_RANKED)
    limit: int | None = Field(default=None, ge=1, le=MAX_RANKED, strict=True)


class RankedItem(_Part):
    """One candidate in its place."""

    position: int
    post_id: str
    value: float | None


class RemovedItem(_Part):
    """A candidate that a rule has removed."""

    post_id: str
    reason: str


class RankOut(_Part):
    """The candidates in order."""

    items: list[RankedItem]
    removed: list[RemovedItem]
    unknown: list[str]
    level: str
    degrade_reasons: list[str]
    policy_hash: str
    bundle_id: str


class RivalOut(_Part):
    """A post that another lost to, and how much more it counts there."""

    post_id: str
    position: int
    by: float


class PlacementOut(_Part):
    """What selection makes of a value at one place: factors, and how the place was given."""

    position: int
    author_decay: float
    topic_spread: float
    likeness: float
    mix: float
    barred: str | None
    """`author_cap` or `mix`, where the post cannot stand there."""
    drawn: bool
    propensity: float
    instead: RivalOut | None
    """The post that was worth most at this place, where another one got it."""


class SourceRankOut(_Part):
    """At which rank, from 1, a source finds the post now, and how many it may give."""

    source: str
    rank: int | None
    quota: int


class FlipOut(_Part):
    """The smallest change alone that takes the post onto the first page, or off it."""

    change: str
    before: float | None
    after: float | None
    size: float | None
    """0: an act of the viewer. Else the relative change of a number. None: a rule is dropped."""
    position: int | None


class WhyOut(_Part):
    """Why a post stands where it stands in a feed, or why it is not there."""

    feed_id: str
    post_id: str
    outcome: str
    """`served`, `reserve`, `removed`, `outranked` or `not_a_candidate`."""
    text: str
    position: int | None
    sources: list[str]
    removed_by: str | None
    value: float | None
    ledger: dict[str, float | None]
    probabilities: dict[str, float | None]
    behind: dict[str, float | str | None]
    page: int
    placement: PlacementOut | None
    lost_to: RivalOut | None
    sources_now: list[SourceRankOut]
    rules_now: list[str]
    value_now: float | None
    would_stand: int | None
    flip: FlipOut | None
    flips_tried: int
    from_record: bool
    actions_since: int | None
    bundle_now: str | None
    note: str | None
